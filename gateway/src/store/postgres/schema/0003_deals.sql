-- Deals: the terms under which a payment is made. Null for every other payment.

ALTER TABLE record ADD COLUMN deal TEXT;      -- JSON

CREATE INDEX record_deal ON record (id) WHERE deal IS NOT NULL;
