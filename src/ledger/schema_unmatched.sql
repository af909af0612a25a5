-- Migration 2. Files without a row that stay so: what they were when they were read.
CREATE TABLE unmatched (
    stamp         BLOB    PRIMARY KEY NOT NULL,   -- all that stat says
    content       BLOB    NOT NULL,
    reader        BLOB    NOT NULL,
    message_id    TEXT    NOT NULL,
    date          TEXT    NOT NULL,
    wire_size     INTEGER NOT NULL,
    internal_date INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
