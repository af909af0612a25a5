-- Migration 8. POP3: messages that came clearly shorter than LIST says.
-- It came so twice: it is here as it came, and is never deleted there.
ALTER TABLE uidls ADD COLUMN short INTEGER NOT NULL DEFAULT 0 CHECK (short IN (0, 1));
CREATE INDEX uidls_short ON uidls (epoch, id) WHERE short = 1 AND state <= 2;
-- The last session that fetched such a message: what it gave was not taken.
ALTER TABLE pop3 ADD COLUMN doubted INTEGER NOT NULL DEFAULT 0 CHECK (doubted IN (0, 1));
