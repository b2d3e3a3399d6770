-- Wallets for which nothing is signed, and those for which that was lifted.

CREATE TABLE wallet_freeze (
    wallet TEXT NOT NULL PRIMARY KEY,
    frozen BOOLEAN NOT NULL,                  -- false once it was lifted
    by     TEXT NOT NULL,                     -- who froze it, or lifted that
    reason TEXT NOT NULL,
    at     BIGINT NOT NULL,
    nonce  BIGINT                             -- the highest nonce that somebody else used up and an operator knows of
);
