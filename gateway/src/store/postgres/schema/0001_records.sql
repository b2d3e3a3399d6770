-- Times are milliseconds since the Unix epoch. JSON is text, byte for byte as it was written. Ids of records are UUIDv7, so
-- they sort by time. Amounts are 32 bytes, big-endian. Numbers within a record are counted under its row's lock: no sequences,
-- which other databases that speak this wire give out without order.

CREATE TABLE record (
    id              UUID PRIMARY KEY,
    client          TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    wallet          TEXT NOT NULL,
    network         TEXT NOT NULL,
    intent          TEXT NOT NULL,            -- JSON
    token           TEXT NOT NULL,            -- the JWT that the request came with
    body            BYTEA NOT NULL,           -- the request as it came in
    cancel_token    TEXT,                     -- the same of the request to cancel it
    cancel_body     BYTEA,
    state           TEXT NOT NULL,
    reason          TEXT,                     -- JSON
    exposure        TEXT NOT NULL,
    active          BOOLEAN NOT NULL,         -- somebody has to work on it
    owner           TEXT,                     -- the gateway that holds it
    life            BIGINT NOT NULL,          -- which opening of the store the owner holds it by
    lease_until     BIGINT,
    fence           BIGINT NOT NULL           -- of its latest lease; only grows
);

CREATE INDEX record_active ON record (network, id) WHERE active;
CREATE INDEX record_client ON record (client, id);
CREATE INDEX record_wallet ON record (wallet, id);

-- One key, one intent (I1).
CREATE TABLE idempotency (
    client    TEXT NOT NULL,
    key       TEXT NOT NULL,
    intent    BYTEA NOT NULL,                 -- SHA-256 of the intent's JSON
    record_id UUID NOT NULL REFERENCES record (id),
    PRIMARY KEY (client, key)
);

CREATE TABLE attempt (
    record_id UUID NOT NULL REFERENCES record (id),
    number    BIGINT NOT NULL,
    purpose   TEXT NOT NULL,
    unsigned  BYTEA NOT NULL,
    slots     TEXT NOT NULL,                  -- JSON
    signed    BYTEA,
    tx_id     TEXT,
    given_up  TEXT,                           -- JSON: why it will never be signed
    sent_at   BIGINT,                         -- about to be sent for the first time
    inclusion TEXT,                           -- JSON
    PRIMARY KEY (record_id, number)
);

-- A slot serves one record. A burned one is never given back (I4).
CREATE TABLE slot (
    slot      TEXT PRIMARY KEY,
    network   TEXT NOT NULL,
    record_id UUID NOT NULL REFERENCES record (id),
    burned    BOOLEAN NOT NULL
);

CREATE INDEX slot_network ON slot (network);
CREATE INDEX slot_record ON slot (record_id);

CREATE TABLE event (
    record_id UUID NOT NULL REFERENCES record (id),
    number    BIGINT NOT NULL,
    at        BIGINT NOT NULL,
    state     TEXT NOT NULL,
    detail    TEXT,                           -- JSON
    PRIMARY KEY (record_id, number)
);

-- Request tokens that were used, kept until they expire by themselves.
CREATE TABLE token (
    client  TEXT NOT NULL,
    jti     TEXT NOT NULL,
    expires BIGINT NOT NULL,                  -- seconds since the Unix epoch
    PRIMARY KEY (client, jti)
);

CREATE INDEX token_expires ON token (expires);

-- How often the store was opened: a lease of an earlier life is nobody's.
CREATE TABLE life (
    number BIGINT NOT NULL
);

INSERT INTO life (number) VALUES (0);

-- The lock of a counter: whoever draws from any bucket of it takes this row first.
CREATE TABLE counter (
    name TEXT PRIMARY KEY
);

-- Running counters, one for each bucket of time, so that nothing is ever summed up anew.
CREATE TABLE usage (
    counter       TEXT NOT NULL,
    bucket        BIGINT NOT NULL,
    pending       BYTEA NOT NULL,
    pending_count BIGINT NOT NULL,
    posted        BYTEA NOT NULL,
    posted_count  BIGINT NOT NULL,
    PRIMARY KEY (counter, bucket)
);

-- What each record takes of the counters.
CREATE TABLE draw (
    record_id UUID NOT NULL REFERENCES record (id),
    number    BIGINT NOT NULL,
    counter   TEXT NOT NULL,
    bucket    BIGINT NOT NULL,
    amount    BYTEA NOT NULL,
    state     TEXT NOT NULL,                  -- pending, posted, given_back
    PRIMARY KEY (record_id, number)
);

CREATE TABLE chain_change (
    network TEXT NOT NULL,
    node    BIGINT NOT NULL,                  -- the node's place in the configuration
    number  BIGINT NOT NULL,
    changes BYTEA NOT NULL,
    PRIMARY KEY (network, node, number)
);
