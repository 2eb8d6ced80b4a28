-- The register and the idempotency index (R4, R7, R8).
--
-- force_generic_plan: with an array parameter PostgreSQL believes that a plan made for this very
-- array is cheaper, and plans every statement anew on every call. That tripled open_decision.

-- Home's first statement of the deciding transaction (R4). Plain inserts: no ON CONFLICT, no
-- exception block (a savepoint), transaction rows sorted by txid so that two tries at the same
-- txids meet in one order. 23505 on gavel.decision: a resolver was first. 23505 on
-- gavel.transaction: a txid has its outcome already, this try loses whole.
--
-- The floor. A decide that has read the old floor may commit after raise_floor has; it must not
-- commit after the shards were *verified* for that floor, because its branch could then lose its
-- decision to the drop. FOR SHARE on the identity row would do it, at the price of a row lock
-- (a WAL record, and a multixact per concurrent decide) on every decision. Instead the table lock
-- that the insert needs anyway is taken *before* the floor is read, and set_verified_floor waits
-- until every transaction that then holds that lock has ended: whoever takes it later reads, with
-- a fresh snapshot, the new floor. With REPEATABLE READ and SERIALIZABLE the snapshot is not
-- fresh; there, and only there, FOR SHARE is used, which fails with 40001 if the row has changed.
CREATE FUNCTION gavel.open_decision(p_batch uuid, p_incarnation bigint, p_shards int[],
                                    p_txids uuid[], p_outcomes text[], p_hashes bytea[],
                                    p_reasons text[], p_principal text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v record;
BEGIN
    -- ONLY: the partitions need no lock here, and fast-path slots are few.
    LOCK TABLE ONLY gavel.decision IN ROW EXCLUSIVE MODE;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        PERFORM 1 FROM gavel.identity FOR SHARE;
    END IF;
    SELECT i.incarnation, i.floor, i.partitions_from, i.partitions_until,
           gavel.uuid_at(gavel.now_ms() - 86400000) AS day_ago,
           gavel.uuid_at(gavel.now_ms() + 86400000) AS day_ahead,
           (SELECT u FROM unnest(p_txids) AS u
            WHERE u < greatest(i.floor, i.partitions_from) LIMIT 1) AS txid_too_old,
           (SELECT u FROM unnest(p_txids) AS u
            WHERE u >= i.partitions_until LIMIT 1) AS txid_ahead
    INTO v FROM gavel.identity AS i;
    IF v.incarnation IS DISTINCT FROM p_incarnation THEN
        PERFORM gavel.refuse_identity(p_incarnation);
    END IF;
    IF p_batch < v.day_ago OR p_batch > v.day_ahead THEN
        PERFORM gavel.refuse_clock(p_batch);
    END IF;
    IF p_batch < v.floor THEN
        PERFORM gavel.refuse_below_floor(p_batch, v.floor);
    END IF;
    IF v.txid_too_old IS NOT NULL THEN
        PERFORM gavel.refuse_below_floor(v.txid_too_old, greatest(v.floor, v.partitions_from));
    END IF;
    IF v.txid_ahead IS NOT NULL THEN
        PERFORM gavel.refuse_partition(v.txid_ahead);
    END IF;
    IF p_batch < v.partitions_from OR p_batch >= v.partitions_until THEN
        PERFORM gavel.refuse_partition(p_batch);
    END IF;
    INSERT INTO gavel.decision (batch, outcome, home_incarnation, shards)
    VALUES (p_batch, 'commit', v.incarnation, p_shards);
    INSERT INTO gavel.transaction (txid, batch, outcome, request_hash, principal, reason)
    SELECT t.txid, p_batch, t.outcome, t.hash, p_principal, t.reason
    FROM unnest(p_txids, p_outcomes, p_hashes, p_reasons) AS t(txid, outcome, hash, reason)
    ORDER BY t.txid;
END $$;

-- A resolver's insert (R7). It waits for a decide in flight (facts 17: set lock_timeout), then
-- does nothing if that one committed. The caller reads the row in a second statement.
-- Allowed below `floor`, because an old branch must still be resolved; refused below
-- dropped_floor, where a commit may have been dropped.
CREATE FUNCTION gavel.force_abort(p_batch uuid, p_incarnation bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v gavel.identity;
BEGIN
    SELECT * INTO v FROM gavel.identity;
    IF v.incarnation IS DISTINCT FROM p_incarnation THEN
        PERFORM gavel.refuse_identity(p_incarnation);
    END IF;
    IF p_batch < v.dropped_floor THEN
        PERFORM gavel.refuse_below_floor(p_batch, v.dropped_floor);
    END IF;
    IF NOT gavel.day_exists(gavel.day_of(p_batch)) THEN
        PERFORM gavel.refuse_partition(p_batch);
    END IF;
    INSERT INTO gavel.decision (batch, outcome, home_incarnation, shards)
    VALUES (p_batch, 'abort', v.incarnation, '{}')
    ON CONFLICT DO NOTHING;
END $$;

-- Aborts that are recorded without a decision: abort for good, and failures of a member that
-- travelled alone (R8, R10). A txid that has an outcome keeps it; the caller reads it afterwards.
-- A stale floor is harmless here: below it the insert either meets the recorded row or, after the
-- drop, has no partition to go to.
CREATE FUNCTION gavel.record_aborts(p_batch uuid, p_incarnation bigint, p_txids uuid[],
                                    p_hashes bytea[], p_reasons text[], p_principal text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v record;
BEGIN
    SELECT i.incarnation, greatest(i.floor, i.partitions_from) AS oldest,
           (SELECT u FROM unnest(p_txids) AS u
            WHERE u < greatest(i.floor, i.partitions_from) LIMIT 1) AS txid_too_old,
           (SELECT u FROM unnest(p_txids) AS u
            WHERE u >= i.partitions_until LIMIT 1) AS txid_ahead
    INTO v FROM gavel.identity AS i;
    IF v.incarnation IS DISTINCT FROM p_incarnation THEN
        PERFORM gavel.refuse_identity(p_incarnation);
    END IF;
    IF v.txid_too_old IS NOT NULL THEN
        PERFORM gavel.refuse_below_floor(v.txid_too_old, v.oldest);
    END IF;
    IF v.txid_ahead IS NOT NULL THEN
        PERFORM gavel.refuse_partition(v.txid_ahead);
    END IF;
    INSERT INTO gavel.transaction (txid, batch, outcome, request_hash, principal, reason)
    SELECT t.txid, p_batch, 'aborted', t.hash, p_principal, t.reason
    FROM unnest(p_txids, p_hashes, p_reasons) AS t(txid, hash, reason)
    ORDER BY t.txid
    ON CONFLICT DO NOTHING;
END $$;

-- What the register says. A row that can be read may not be replicated yet: R6 before acting.
CREATE FUNCTION gavel.read_decisions(p_batches uuid[])
RETURNS TABLE (batch uuid, outcome text, home_incarnation bigint, shards int[])
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN QUERY
    SELECT d.batch, d.outcome, d.home_incarnation, d.shards
    FROM (SELECT DISTINCT u.id FROM unnest(p_batches) AS u(id)) AS w,
         LATERAL (SELECT x.batch, x.outcome, x.home_incarnation, x.shards
                  FROM gavel.decision AS x WHERE x.batch = w.id LIMIT 1) AS d;
END $$;

CREATE FUNCTION gavel.read_transactions(p_txids uuid[])
RETURNS TABLE (txid uuid, batch uuid, outcome text, request_hash bytea, principal text,
               reason text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN QUERY
    SELECT t.txid, t.batch, t.outcome, t.request_hash, t.principal, t.reason
    FROM (SELECT DISTINCT u.id FROM unnest(p_txids) AS u(id)) AS w,
         LATERAL (SELECT x.txid, x.batch, x.outcome, x.request_hash, x.principal, x.reason
                  FROM gavel.transaction AS x WHERE x.txid = w.id LIMIT 1) AS t;
END $$;

-- For the auditor (R16): decisions after p_after (null: from the start), by batch id.
CREATE FUNCTION gavel.page_decisions(p_after uuid, p_limit int)
RETURNS TABLE (batch uuid, outcome text, home_incarnation bigint, shards int[])
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_after uuid := coalesce(p_after, '00000000-0000-0000-0000-000000000000');
BEGIN
    RETURN QUERY
    SELECT d.batch, d.outcome, d.home_incarnation, d.shards
    FROM gavel.decision AS d WHERE d.batch > v_after ORDER BY d.batch LIMIT p_limit;
END $$;
