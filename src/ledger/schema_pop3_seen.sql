-- Migration 4. How old what is known of a POP3 mailbox is.

-- When it was listed whole; 0: never since the epoch began.
ALTER TABLE pop3 ADD COLUMN listed_at INTEGER NOT NULL DEFAULT 0;
-- The epoch in which all that was here before has been compared with the server.
ALTER TABLE pop3 ADD COLUMN paired INTEGER NOT NULL DEFAULT 0;
