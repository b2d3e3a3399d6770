-- Deals: the terms under which a payment is made. Null for every other payment.

ALTER TABLE record ADD COLUMN deal TEXT;      -- JSON

CREATE INDEX record_deal ON record (id) WHERE deal IS NOT NULL;

-- What is kept beside the records, as it came in: overrides of the screening and what people say of them, Travel Rule data,
-- delegations.
CREATE TABLE paper (
    kind    TEXT NOT NULL,
    name    TEXT NOT NULL,                    -- unique among those of its kind
    content TEXT NOT NULL,                    -- JSON
    at      BIGINT NOT NULL,
    PRIMARY KEY (kind, name)
);
