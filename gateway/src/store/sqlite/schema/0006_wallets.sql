-- Wallets for which nothing is signed, and those for which that was lifted.

CREATE TABLE wallet_freeze (
    wallet TEXT NOT NULL PRIMARY KEY,
    frozen INTEGER NOT NULL,                  -- 0 once it was lifted
    by     TEXT NOT NULL,                     -- who froze it, or lifted that
    reason TEXT NOT NULL,
    at     INTEGER NOT NULL,
    nonce  INTEGER                            -- the highest nonce that somebody else used up and an operator knows of
) STRICT, WITHOUT ROWID;
