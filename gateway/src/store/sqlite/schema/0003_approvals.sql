-- What approvers say of records: the latest word of each.

CREATE TABLE approval (
    record_id TEXT NOT NULL REFERENCES record (id),
    approver  TEXT NOT NULL,
    approval  TEXT NOT NULL,                  -- JSON: the statement as it was signed
    at        INTEGER NOT NULL,
    PRIMARY KEY (record_id, approver)
) STRICT, WITHOUT ROWID;

CREATE INDEX record_state ON record (state, id);
