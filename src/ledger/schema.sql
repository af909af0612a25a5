-- Migration 1. Nothing is NULL: what is not known is 0, '' or x'', and src/ledger/values.rs
-- translates. Numbers are never used twice (AUTOINCREMENT): a hold or an intent that names a row
-- must not come to mean another message.

CREATE TABLE meta (
    one         INTEGER PRIMARY KEY NOT NULL CHECK (one = 1),
    id          TEXT    NOT NULL,   -- 128 bits in hex, as in the marker
    account     TEXT    NOT NULL,
    generation  INTEGER NOT NULL,
    closed      INTEGER NOT NULL CHECK (closed IN (0, 1)),
    host_user   TEXT    NOT NULL,
    host        TEXT    NOT NULL,
    created     INTEGER NOT NULL,
    last_pass   INTEGER NOT NULL,
    last_state  TEXT    NOT NULL,
    last_error  TEXT    NOT NULL
) STRICT;

-- Warnings for status.
CREATE TABLE notes (
    position    INTEGER PRIMARY KEY NOT NULL,
    note        TEXT    NOT NULL
) STRICT;

CREATE TABLE folders (
    id             INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    name           TEXT    NOT NULL UNIQUE,
    wire           BLOB    NOT NULL,
    separator      TEXT    NOT NULL,
    special_use    TEXT    NOT NULL,
    mailbox_id     TEXT    NOT NULL,
    on_server      INTEGER NOT NULL CHECK (on_server IN (0, 1)),
    on_disk        INTEGER NOT NULL CHECK (on_disk IN (0, 1)),
    uidvalidity    INTEGER NOT NULL,
    uidnext        INTEGER NOT NULL,
    modseq         INTEGER NOT NULL,
    messages       INTEGER NOT NULL,
    keywords       TEXT    NOT NULL,
    signature      BLOB    NOT NULL,
    digest         BLOB    NOT NULL,
    last_full_scan INTEGER NOT NULL,
    push           TEXT    NOT NULL,
    note           TEXT    NOT NULL
) STRICT;

CREATE TABLE messages (
    id            INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    folder_id     INTEGER NOT NULL REFERENCES folders (id),
    state         INTEGER NOT NULL,   -- 0 pending, 1 synced, 2 kept, 3 absent
    uid           INTEGER NOT NULL,
    gone          INTEGER NOT NULL,   -- 0 no, 1 vanished, 2 epoch
    sub           INTEGER NOT NULL,   -- 0 cur, 1 new
    base          BLOB    NOT NULL,
    suffix        TEXT    NOT NULL,
    agreed        TEXT    NOT NULL,
    remote        TEXT    NOT NULL,
    local         TEXT    NOT NULL,
    content       BLOB    NOT NULL,
    reader        BLOB    NOT NULL,
    message_id    TEXT    NOT NULL,
    date          TEXT    NOT NULL,
    fingerprint   INTEGER NOT NULL,   -- 64 bits of a hash of the two before
    wire_size     INTEGER NOT NULL,
    internal_date INTEGER NOT NULL,
    server_id     TEXT    NOT NULL,
    exact         INTEGER NOT NULL CHECK (exact IN (0, 1)),
    copy_of       INTEGER NOT NULL,
    keeps         INTEGER NOT NULL CHECK (keeps IN (0, 1)),
    dirty         INTEGER NOT NULL CHECK (dirty IN (0, 1)),
    CONSTRAINT a_state_is_known CHECK (state BETWEEN 0 AND 3 AND gone BETWEEN 0 AND 2),
    CONSTRAINT pending_is_on_the_server CHECK (state <> 0 OR (uid <> 0 AND gone = 0)),
    CONSTRAINT kept_is_not_on_the_server CHECK (state <> 2 OR (uid = 0 AND gone = 0)),
    -- A row of both sides that has neither would never enter a plan again.
    CONSTRAINT a_uid_or_gone CHECK (state NOT IN (1, 3) OR (uid <> 0) = (gone = 0)),
    CONSTRAINT synced_and_kept_have_a_place CHECK ((state IN (1, 2)) = (base <> x'')),
    CONSTRAINT what_differs_is_dirty CHECK (dirty = 1 OR (state <> 0 AND gone = 0))
) STRICT;

CREATE UNIQUE INDEX messages_uid ON messages (folder_id, uid) WHERE uid <> 0;
-- Holds all that a comparison with a sorted scan reads.
CREATE INDEX messages_base ON messages (folder_id, base, suffix, sub) WHERE base <> x'';
CREATE INDEX messages_dirty ON messages (folder_id) WHERE dirty = 1;
CREATE INDEX messages_state ON messages (state) WHERE state >= 2;
-- Eight bytes of a hash find it, and keep the index a third as large.
CREATE INDEX messages_content ON messages (substr(content, 1, 8)) WHERE content <> x'';
CREATE INDEX messages_reader ON messages (substr(reader, 1, 8)) WHERE reader <> x'';
CREATE INDEX messages_fingerprint ON messages (fingerprint);
CREATE INDEX messages_server_id ON messages (server_id) WHERE server_id <> '';

-- How many rows of each kind, kept by triggers, so that an idle pass and status cost O(folders).
CREATE TABLE counts (
    folder_id INTEGER NOT NULL REFERENCES folders (id) ON DELETE CASCADE,
    state     INTEGER NOT NULL,
    gone      INTEGER NOT NULL,
    n         INTEGER NOT NULL CHECK (n >= 0),
    PRIMARY KEY (folder_id, state, gone)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER count_insert AFTER INSERT ON messages BEGIN
    INSERT INTO counts (folder_id, state, gone, n) VALUES (new.folder_id, new.state, new.gone, 1)
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER count_delete AFTER DELETE ON messages BEGIN
    UPDATE counts SET n = n - 1
        WHERE folder_id = old.folder_id AND state = old.state AND gone = old.gone;
END;
CREATE TRIGGER count_update AFTER UPDATE OF folder_id, state, gone ON messages
    WHEN new.folder_id <> old.folder_id OR new.state <> old.state OR new.gone <> old.gone
BEGIN
    UPDATE counts SET n = n - 1
        WHERE folder_id = old.folder_id AND state = old.state AND gone = old.gone;
    INSERT INTO counts (folder_id, state, gone, n) VALUES (new.folder_id, new.state, new.gone, 1)
        ON CONFLICT DO UPDATE SET n = n + 1;
END;

-- How large a folder was from `at` on (the brake's window).
CREATE TABLE sizes (
    folder_id INTEGER NOT NULL REFERENCES folders (id) ON DELETE CASCADE,
    at        INTEGER NOT NULL,
    messages  INTEGER NOT NULL,
    PRIMARY KEY (folder_id, at)
) STRICT, WITHOUT ROWID;

CREATE TABLE intents (
    id              INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    kind            TEXT    NOT NULL,
    row             INTEGER NOT NULL,
    from_id         INTEGER NOT NULL,
    uid             INTEGER NOT NULL,
    target_id       INTEGER NOT NULL REFERENCES folders (id),
    source_id       INTEGER NOT NULL,
    sub             INTEGER NOT NULL,
    base            BLOB    NOT NULL,
    suffix          TEXT    NOT NULL,
    content         BLOB    NOT NULL,
    reader          BLOB    NOT NULL,
    message_id      TEXT    NOT NULL,
    date            TEXT    NOT NULL,
    wire_size       INTEGER NOT NULL,
    internal_date   INTEGER NOT NULL,
    server_id       TEXT    NOT NULL,
    uidvalidity     INTEGER NOT NULL,
    uidnext_before  INTEGER NOT NULL,
    created         INTEGER NOT NULL
) STRICT;

CREATE TABLE holds (
    id          INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    kind        TEXT    NOT NULL,
    folder_id   INTEGER NOT NULL,
    reason      TEXT    NOT NULL,
    next        TEXT    NOT NULL,
    state       TEXT    NOT NULL,
    created     INTEGER NOT NULL
) STRICT;

CREATE TABLE hold_items (
    hold_id     INTEGER NOT NULL REFERENCES holds (id) ON DELETE CASCADE,
    position    INTEGER NOT NULL,
    row         INTEGER NOT NULL,
    folder_id   INTEGER NOT NULL,
    base        BLOB    NOT NULL,
    content     BLOB    NOT NULL,
    PRIMARY KEY (hold_id, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE journal (
    id          INTEGER PRIMARY KEY NOT NULL,
    at          INTEGER NOT NULL,
    action      TEXT    NOT NULL,
    side        TEXT    NOT NULL,
    folder_id   INTEGER NOT NULL,
    folder      TEXT    NOT NULL,   -- as it was called then
    to_folder   TEXT    NOT NULL,
    message_id  TEXT    NOT NULL,
    uid         INTEGER NOT NULL,
    base        BLOB    NOT NULL,
    counted     INTEGER NOT NULL CHECK (counted IN (0, 1)),
    why         TEXT    NOT NULL,
    CONSTRAINT what_counts_has_a_folder CHECK (counted = 0 OR folder_id <> 0)
) STRICT;

CREATE INDEX journal_deletions ON journal (at, side, folder_id) WHERE counted = 1;
CREATE INDEX journal_flags ON journal (at) WHERE action = 'flags';
