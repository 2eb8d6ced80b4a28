-- Retention (R14), in this order and each step in a transaction of its own:
--   1. home:        raise_floor(x): decide, submit and abort below x are refused from here on
--   2. all shards:  no gid and no unapplied decision older than x (the caller compares)
--   3. home:        set_verified_floor(x)
--   4. all shards:  drop_branch_partitions(x)
--   5. home:        drop_decision_partitions(x)
-- Floors never go down: a lower value is ignored.

CREATE FUNCTION gavel.refuse_floor_ahead(p_to uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Every id of the current millisecond counts as past.
    IF p_to IS NULL OR p_to >= gavel.uuid_at(gavel.now_ms() + 1) THEN
        RAISE EXCEPTION 'a floor cannot be null or in the future: %', coalesce(p_to::text, 'null')
            USING ERRCODE = '22023';
    END IF;
END $$;

CREATE FUNCTION gavel.raise_floor(p_to uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM gavel.refuse_floor_ahead(p_to);
    UPDATE gavel.identity AS i
    SET floor = p_to, floor_moved_by = pg_current_xact_id()
    WHERE i.floor < p_to;
    IF NOT FOUND AND NOT EXISTS (SELECT FROM gavel.identity) THEN
        PERFORM gavel.refuse_identity(NULL);
    END IF;
END $$;

-- Waits until every transaction that holds the decider's lock now has ended. It looks instead of
-- queueing for a conflicting lock, because new decisions would queue behind it. Those that take
-- the lock later have read the raised floor (see open_decision), so they need no waiting for.
-- Virtual transaction ids are not used again, so an entry that is gone stays gone.
CREATE FUNCTION gavel.await_deciders(p_seconds int) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_waiting text[];
    v_deadline timestamptz := clock_timestamp() + p_seconds * interval '1 second';
BEGIN
    SELECT coalesce(array_agg(l.virtualtransaction), '{}') INTO v_waiting
    FROM pg_locks AS l
    WHERE l.relation = 'gavel.decision'::regclass
      AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
      AND l.mode = 'RowExclusiveLock' AND l.granted
      AND l.pid IS DISTINCT FROM pg_backend_pid();
    WHILE EXISTS (SELECT FROM pg_locks AS l
                  WHERE l.relation = 'gavel.decision'::regclass
                    AND l.mode = 'RowExclusiveLock' AND l.granted
                    AND l.virtualtransaction = ANY (v_waiting)) LOOP
        IF clock_timestamp() > v_deadline THEN
            RAISE EXCEPTION 'a decision that began before the floor was raised is still open'
                USING ERRCODE = '55P03', HINT = 'Nothing was changed. Try again.';
        END IF;
        PERFORM pg_sleep(0.01);
    END LOOP;
END $$;

-- The caller says that every shard was checked for p_to (step 2). A decide that was in flight
-- during that check had all its branches prepared, so the check saw its gid and failed; this
-- function makes sure that none of them is left by now.
CREATE FUNCTION gavel.set_verified_floor(p_to uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    v gavel.identity;
BEGIN
    SELECT * INTO v FROM gavel.identity;
    IF NOT FOUND THEN
        PERFORM gavel.refuse_identity(NULL);
    END IF;
    IF p_to IS NULL OR p_to > v.floor THEN
        RAISE EXCEPTION 'the verified floor cannot be above the floor: % > %', p_to, v.floor
            USING ERRCODE = '22023', HINT = 'Call gavel.raise_floor first.';
    END IF;
    -- A floor that is not committed yet stops nobody.
    IF v.floor_moved_by = pg_current_xact_id_if_assigned() THEN
        RAISE EXCEPTION 'the floor was raised in this same transaction'
            USING ERRCODE = '55000', HINT = 'Commit raise_floor before set_verified_floor.';
    END IF;
    PERFORM gavel.await_deciders(5);
    UPDATE gavel.identity AS i SET verified_floor = p_to WHERE i.verified_floor < p_to;
END $$;

CREATE FUNCTION gavel.set_branch_floor(p_to uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM gavel.refuse_floor_ahead(p_to);
    UPDATE gavel.identity AS i SET branch_floor = p_to WHERE i.branch_floor < p_to;
    IF NOT FOUND AND NOT EXISTS (SELECT FROM gavel.identity) THEN
        PERFORM gavel.refuse_identity(NULL);
    END IF;
END $$;

-- Takes the lock that DROP TABLE of a partition needs on its parent: ACCESS EXCLUSIVE. While it
-- waits for the branches and decisions that are in flight, every new one queues behind it, so:
--   - the wait is at most the callers' lock_timeout of 100 ms, and the caller tries again later;
--   - it does not even begin to wait if a prepared branch has held the table for over a second:
--     that one is in doubt and will not be gone within 100 ms.
-- DETACH CONCURRENTLY would not queue, but cannot run in a function, needs the owner, and waits
-- without limit for prepared branches.
CREATE FUNCTION gavel.lock_for_drop(p_table regclass) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_locks AS held
        JOIN pg_locks AS own ON own.virtualtransaction = held.virtualtransaction
                            AND own.locktype = 'transactionid' AND own.pid IS NULL
        JOIN pg_prepared_xacts AS p ON p.transaction = own.transactionid
        WHERE held.relation = p_table AND held.pid IS NULL
          AND p.database = current_database()
          AND p.prepared < clock_timestamp() - interval '1 second') THEN
        RAISE EXCEPTION 'an in-doubt branch holds %', p_table
            USING ERRCODE = '55P03', HINT = 'Nothing was changed. Try again when it is resolved.';
    END IF;
    EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', p_table);
END $$;

-- Drops a table's partitions of days before p_day.
CREATE FUNCTION gavel.drop_days(p_table text, p_day int) RETURNS int
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_name text;
    v_dropped int := 0;
BEGIN
    FOR v_name IN
        SELECT c.relname FROM pg_inherits AS h JOIN pg_class AS c ON c.oid = h.inhrelid
        WHERE h.inhparent = ('gavel.' || p_table)::regclass
          AND c.relname ~ ('^' || p_table || '_[0-9]{8}$')
          AND c.relname < gavel.partition_name(p_table, p_day)
        ORDER BY c.relname
    LOOP
        IF v_dropped = 0 THEN
            PERFORM gavel.lock_for_drop(('gavel.' || p_table)::regclass);
        END IF;
        EXECUTE format('DROP TABLE gavel.%I', v_name);
        v_dropped := v_dropped + 1;
    END LOOP;
    RETURN v_dropped;
END $$;

-- Drops decision and transaction partitions that are entirely below p_below. Returns how many.
CREATE FUNCTION gavel.drop_decision_partitions(p_below uuid) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
    v gavel.identity;
    v_day int := gavel.day_of(p_below);
    v_dropped int;
BEGIN
    PERFORM pg_advisory_xact_lock(1734440549, 1);
    SELECT * INTO v FROM gavel.identity;
    IF NOT FOUND THEN
        PERFORM gavel.refuse_identity(NULL);
    END IF;
    IF p_below IS NULL OR p_below > v.verified_floor THEN
        RAISE EXCEPTION 'decisions below % are not verified, only those below %',
            coalesce(p_below::text, 'null'), v.verified_floor
            USING ERRCODE = '55000', HINT = 'Verify every shard, then call gavel.set_verified_floor.';
    END IF;
    v_dropped := gavel.drop_days('decision', v_day);
    v_dropped := v_dropped + gavel.drop_days('transaction', v_day);
    -- The start of p_below's day, not p_below: its own day is kept.
    UPDATE gavel.identity AS i
    SET dropped_floor = gavel.uuid_at(v_day::bigint * 86400000),
        partitions_from = greatest(i.partitions_from, gavel.uuid_at(v_day::bigint * 86400000))
    WHERE i.dropped_floor < gavel.uuid_at(v_day::bigint * 86400000);
    RETURN v_dropped;
END $$;

-- Drops branch partitions that are entirely below p_below and moves branch_floor there. Returns
-- how many. The caller has verified p_below at every home (step 3).
CREATE FUNCTION gavel.drop_branch_partitions(p_below uuid) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
    v_gid text;
BEGIN
    PERFORM gavel.refuse_floor_ahead(p_below);
    PERFORM pg_advisory_xact_lock(1734440549, 1);
    SELECT p.gid INTO v_gid FROM gavel.prepared() AS p
    -- A gid carries the batch id as PostgreSQL writes it: lower case, with hyphens.
    WHERE split_part(p.gid, ':', 5) COLLATE "C" < p_below::text COLLATE "C" LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'branch % is older and still prepared', v_gid
            USING ERRCODE = '55006', HINT = 'Resolve it first.';
    END IF;
    UPDATE gavel.identity AS i SET branch_floor = p_below WHERE i.branch_floor < p_below;
    RETURN gavel.drop_days('branch', gavel.day_of(p_below));
END $$;
