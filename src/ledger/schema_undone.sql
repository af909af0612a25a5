-- Migration 7. What a pass left undone in a folder: when the server, which refused to make it, is
-- asked again (0: it did not refuse), and how many messages were not looked at.
ALTER TABLE folders ADD COLUMN retry_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE folders ADD COLUMN unseen INTEGER NOT NULL DEFAULT 0;
