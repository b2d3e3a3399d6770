-- Changes of the policy. One is open at a time, and one made each version that is or was in force.

CREATE TABLE policy_change (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    version INTEGER NOT NULL,
    digest  TEXT NOT NULL,                    -- of its document
    state   TEXT NOT NULL,
    content TEXT NOT NULL                     -- JSON: the change with what people say of it
) STRICT;

CREATE INDEX policy_change_version ON policy_change (version, digest, number);
CREATE UNIQUE INDEX policy_change_active ON policy_change (version) WHERE state = 'active';
