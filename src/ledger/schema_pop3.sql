-- Migration 3: POP3. A row for every message that a POP3 server ever had. Its number is the UID of
-- its row in `messages`.

CREATE TABLE uidls (
    id           INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL
                 CHECK (id BETWEEN 1 AND 4294967295),
    epoch        INTEGER NOT NULL,
    uidl         BLOB    NOT NULL,   -- x'': the server gives none
    generation   INTEGER NOT NULL CHECK (generation > 0),
    size         INTEGER NOT NULL,
    state        INTEGER NOT NULL,   -- 0 staged, 1 delivered, 2 dele pending, 3 deleted, 4 gone
    row          INTEGER NOT NULL,
    folder_id    INTEGER NOT NULL,   -- the folder may be forgotten since
    base         BLOB    NOT NULL,
    content      BLOB    NOT NULL,
    message_id   TEXT    NOT NULL,
    date         TEXT    NOT NULL,
    fingerprint  INTEGER NOT NULL,
    first_seen   INTEGER NOT NULL,
    delivered_at INTEGER NOT NULL,
    CONSTRAINT a_state_is_known CHECK (state BETWEEN 0 AND 4)
) STRICT;

CREATE UNIQUE INDEX uidls_uidl ON uidls (epoch, uidl, generation) WHERE uidl <> x'';
CREATE INDEX uidls_on_server ON uidls (epoch, id) WHERE state <= 2;
CREATE INDEX uidls_staged ON uidls (state, id) WHERE state = 0;
CREATE INDEX uidls_gone ON uidls (epoch, id) WHERE state = 4;
CREATE INDEX uidls_size ON uidls (size);
CREATE INDEX uidls_row ON uidls (row) WHERE row <> 0;
CREATE INDEX uidls_content ON uidls (substr(content, 1, 8)) WHERE content <> x'';
CREATE INDEX uidls_fingerprint ON uidls (fingerprint);

-- What is known of the mailbox; one row once a session was had.
CREATE TABLE pop3 (
    one         INTEGER PRIMARY KEY NOT NULL CHECK (one = 1),
    epoch       INTEGER NOT NULL,
    windowed    INTEGER NOT NULL CHECK (windowed IN (0, 1)),
    on_server   INTEGER NOT NULL,
    due         INTEGER NOT NULL,
    next_due    INTEGER NOT NULL,
    frozen      TEXT    NOT NULL,
    login_delay INTEGER NOT NULL
) STRICT;
