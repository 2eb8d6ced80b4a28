-- The bank of the demo, the same on every shard. Which account lives where is decided by a hash
-- of its id (src/placement.rs), so that no directory is needed.

-- What the placement was computed with when the first account could be opened. Another list of
-- shards would look for accounts where they are not.
CREATE TABLE placement (
    one_row  boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    shards   text NOT NULL,
    position int NOT NULL
);

-- Money is in minor units (cents). fillfactor leaves room for new row versions on the same page.
CREATE TABLE accounts (
    id              uuid PRIMARY KEY,
    owner           text CHECK (char_length(owner) <= 200),
    initial_balance bigint NOT NULL CHECK (initial_balance >= 0),
    balance         bigint NOT NULL CHECK (balance >= 0),
    opened_at       timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 80);

-- One row per account that a transfer touched: the payer's on the payer's shard with a negative
-- amount, the payee's on the payee's with a positive one. The account is part of the key because
-- both may live on one shard.
CREATE TABLE transfers (
    txid         uuid NOT NULL,
    account      uuid NOT NULL,
    counterparty uuid NOT NULL CHECK (counterparty <> account),
    amount       bigint NOT NULL CHECK (amount <> 0),
    recorded_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (txid, account)
);

-- Which txid a client's key stands for, on the payer's shard. Written and durable before the
-- transfer is submitted: whoever repeats the key after a crash repeats the same txid, and a txid
-- commits at most once.
CREATE TABLE idempotency_keys (
    payer       uuid NOT NULL,
    key         text NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 255),
    payee       uuid NOT NULL,
    amount      bigint NOT NULL,
    txid        uuid NOT NULL UNIQUE,
    reserved_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (payer, key)
);
