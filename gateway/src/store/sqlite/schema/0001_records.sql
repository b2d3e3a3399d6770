-- Times are milliseconds since the Unix epoch. JSON is text. Ids of records are UUIDv7 as text, so they sort by time.

CREATE TABLE record (
    id              TEXT PRIMARY KEY NOT NULL,
    client          TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    wallet          TEXT NOT NULL,
    network         TEXT NOT NULL,
    intent          TEXT NOT NULL,            -- JSON
    token           TEXT NOT NULL,            -- the JWT that the request came with
    body            BLOB NOT NULL,            -- the request as it came in
    state           TEXT NOT NULL,
    reason          TEXT,                     -- JSON
    exposure        TEXT NOT NULL,
    active          INTEGER NOT NULL          -- 1 until the state is terminal
) STRICT;

CREATE INDEX record_active ON record (network, id) WHERE active = 1;
CREATE INDEX record_client ON record (client, id);
CREATE INDEX record_wallet ON record (wallet, id);

-- One key, one intent (I1).
CREATE TABLE idempotency (
    client    TEXT NOT NULL,
    key       TEXT NOT NULL,
    intent    BLOB NOT NULL,                  -- SHA-256 of the intent's JSON
    record_id TEXT NOT NULL REFERENCES record (id),
    PRIMARY KEY (client, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempt (
    record_id TEXT NOT NULL REFERENCES record (id),
    number    INTEGER NOT NULL,
    unsigned  BLOB NOT NULL,
    slots     TEXT NOT NULL,                  -- JSON
    signed    BLOB,
    tx_id     TEXT,
    inclusion TEXT,                           -- JSON
    PRIMARY KEY (record_id, number)
) STRICT, WITHOUT ROWID;

-- A slot serves one record. A burned one is never given back (I4).
CREATE TABLE slot (
    slot      TEXT PRIMARY KEY NOT NULL,
    network   TEXT NOT NULL,
    record_id TEXT NOT NULL REFERENCES record (id),
    burned    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX slot_network ON slot (network);

CREATE TABLE event (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    record_id TEXT NOT NULL REFERENCES record (id),
    at        INTEGER NOT NULL,
    state     TEXT NOT NULL,
    detail    TEXT                            -- JSON
) STRICT;

CREATE INDEX event_record ON event (record_id, seq);

-- Request tokens that were used, kept until they expire by themselves.
CREATE TABLE token (
    client  TEXT NOT NULL,
    jti     TEXT NOT NULL,
    expires INTEGER NOT NULL,                 -- seconds since the Unix epoch
    PRIMARY KEY (client, jti)
) STRICT, WITHOUT ROWID;

CREATE TABLE chain_change (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    network TEXT NOT NULL,
    node    INTEGER NOT NULL,                 -- the node's place in the configuration
    changes BLOB NOT NULL
) STRICT;

CREATE INDEX chain_change_node ON chain_change (network, node, seq);
