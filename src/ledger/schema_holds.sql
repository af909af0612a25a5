-- Migration 5. What a held file is known by after a reader wrote it anew; empty: not known.
ALTER TABLE hold_items ADD COLUMN reader BLOB NOT NULL DEFAULT x'';
