-- Migration 6. POP3: messages at which a session broke, so that they are asked for after all others.
CREATE TABLE broken (
    epoch INTEGER NOT NULL,
    uidl  BLOB    NOT NULL CHECK (uidl <> x''),
    size  INTEGER NOT NULL,
    times INTEGER NOT NULL CHECK (times > 0),   -- in so many passes
    last  INTEGER NOT NULL,                     -- Unix time
    error TEXT    NOT NULL,
    PRIMARY KEY (epoch, uidl)
) STRICT, WITHOUT ROWID;
