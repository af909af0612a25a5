-- Migration 7. When a folder that the server refused to make is asked for again; 0: it refused none.
ALTER TABLE folders ADD COLUMN retry_at INTEGER NOT NULL DEFAULT 0;
