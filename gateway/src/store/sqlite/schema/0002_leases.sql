-- Leases, replacements, requests to cancel, and limits. Amounts are 32 bytes, big-endian.

ALTER TABLE record ADD COLUMN cancel_token TEXT;                  -- the JWT of the request to cancel it
ALTER TABLE record ADD COLUMN cancel_body  BLOB;                  -- that request as it came in
ALTER TABLE record ADD COLUMN owner        TEXT;                  -- the gateway that holds it
ALTER TABLE record ADD COLUMN life         INTEGER NOT NULL DEFAULT 0;  -- which opening of the store the owner holds it by
ALTER TABLE record ADD COLUMN lease_until  INTEGER;
ALTER TABLE record ADD COLUMN fence        INTEGER NOT NULL DEFAULT 0;  -- of its latest lease; only grows

ALTER TABLE attempt ADD COLUMN purpose  TEXT NOT NULL DEFAULT 'pay';
ALTER TABLE attempt ADD COLUMN given_up TEXT;                     -- JSON: why it will never be signed
ALTER TABLE attempt ADD COLUMN sent_at  INTEGER;                  -- about to be sent for the first time

CREATE INDEX slot_record ON slot (record_id);
CREATE INDEX token_expires ON token (expires);

-- How often the store was opened: a lease of an earlier life is nobody's.
CREATE TABLE life (
    number INTEGER NOT NULL
) STRICT;

INSERT INTO life (number) VALUES (0);

-- Running counters, one for each bucket of time, so that nothing is ever summed up anew.
CREATE TABLE usage (
    counter       TEXT NOT NULL,
    bucket        INTEGER NOT NULL,
    pending       BLOB NOT NULL,
    pending_count INTEGER NOT NULL,
    posted        BLOB NOT NULL,
    posted_count  INTEGER NOT NULL,
    PRIMARY KEY (counter, bucket)
) STRICT, WITHOUT ROWID;

-- What each record takes of the counters.
CREATE TABLE draw (
    record_id TEXT NOT NULL REFERENCES record (id),
    number    INTEGER NOT NULL,
    counter   TEXT NOT NULL,
    bucket    INTEGER NOT NULL,
    amount    BLOB NOT NULL,
    state     TEXT NOT NULL,                  -- pending, posted, given_back
    PRIMARY KEY (record_id, number)
) STRICT, WITHOUT ROWID;
