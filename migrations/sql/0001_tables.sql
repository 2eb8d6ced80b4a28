-- The tables of one shard. Everything here is owned by gavel_owner (the session role of the
-- migration) and touched by nobody else: participants go through the functions.
--
-- decision, transaction and branch are range-partitioned on their UUIDv7 keys, one partition per
-- UTC day (R14), so that retention is DROP TABLE and never DELETE. There is no default partition:
-- attaching a day would have to scan and lock it, and a row for a day that nobody planned should
-- be refused loudly instead of being hidden there.

-- Functions are executable by PUBLIC unless this says otherwise.
ALTER DEFAULT PRIVILEGES FOR ROLE gavel_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

-- Who this database is (R13), and where its retention stands (R14). Exactly one row.
CREATE TABLE gavel.identity (
    one_row           boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    deployment        text NOT NULL CHECK (deployment ~ '^[a-z][a-z0-9_]{0,31}$'),
    shard             text NOT NULL CHECK (shard ~ '^[a-z][a-z0-9_]{0,31}$'),
    tag               int NOT NULL CHECK (tag BETWEEN 0 AND 65535),
    incarnation       bigint NOT NULL DEFAULT 1 CHECK (incarnation > 0),
    -- As pg_control_system() said when the identity was claimed; null if it was not readable.
    system_identifier text,
    -- Below `floor`: decide, submit and abort are refused.
    floor             uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    -- Below `verified_floor`: every shard was seen to hold no older gid, every decision applied.
    verified_floor    uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    -- Below `branch_floor`: branch rows may be gone; their absence proves nothing.
    branch_floor      uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    -- Below `dropped_floor`: decision and transaction rows are gone.
    dropped_floor     uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    -- The days without a gap around today that have partitions: [from, until). Kept here because
    -- the hot path reads this row anyway, and an exception block to translate 23514 would be a
    -- savepoint.
    partitions_from   uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    partitions_until  uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    -- The transaction that moved `floor` last: set_verified_floor must not run inside it.
    floor_moved_by    xid8,
    claimed_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (verified_floor <= floor),
    CHECK (dropped_floor <= verified_floor)
);

-- The register: the decision of a batch, written once, on its home.
CREATE TABLE gavel.decision (
    batch            uuid PRIMARY KEY,
    outcome          text NOT NULL CHECK (outcome IN ('commit', 'abort')),
    home_incarnation bigint NOT NULL,
    -- Tags of the shards, home excepted, that prepared the batch. Empty for a forced abort.
    shards           int[] NOT NULL,
    decided_at       timestamptz NOT NULL DEFAULT clock_timestamp()
) PARTITION BY RANGE (batch);

-- The idempotency index (R8), on the home that the txid names (R9).
CREATE TABLE gavel.transaction (
    txid         uuid PRIMARY KEY,
    -- Null for an abort that no batch was formed for.
    batch        uuid,
    outcome      text NOT NULL CHECK (outcome IN ('committed', 'aborted')),
    request_hash bytea NOT NULL,
    principal    text NOT NULL,
    -- Null when committed.
    reason       text CHECK (outcome = 'aborted' OR reason IS NULL),
    recorded_at  timestamptz NOT NULL DEFAULT clock_timestamp()
) PARTITION BY RANGE (txid);

-- One row per branch that runs, or ran, here (R1). It rides in the prepared transaction, so it
-- becomes visible with COMMIT PREPARED and proves that the branch was applied.
CREATE TABLE gavel.branch (
    batch            uuid PRIMARY KEY,
    gid              text NOT NULL,
    home_tag         int NOT NULL,
    home_incarnation bigint NOT NULL,
    -- A hint for people and pg_xact_status() only: after a failover an xid can be used again.
    xid              xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    opened_at        timestamptz NOT NULL DEFAULT clock_timestamp()
) PARTITION BY RANGE (batch);

-- Broken atomicity, as found by resolvers and the auditor (R16). Never deleted by Gavel.
CREATE TABLE gavel.damage (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch   uuid,
    gid     text,
    kind    text NOT NULL,
    detail  text NOT NULL DEFAULT '',
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE NULLS NOT DISTINCT (batch, kind)
);
