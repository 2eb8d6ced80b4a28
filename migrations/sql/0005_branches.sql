-- Branches of this shard: opening them (R1), and what is known of them.

-- The first statement of every branch that will be prepared. Hot path: one read of a one-row
-- table, one insert. A batch that already ran here fails with 23505 (R1).
--
-- p_home_incarnation is the home's, as the coordinator knows it, and goes into the row;
-- p_incarnation is this shard's own, as the caller read it at start.
CREATE FUNCTION gavel.open_branch(p_batch uuid, p_gid text, p_home_tag int,
                                  p_home_incarnation bigint, p_incarnation bigint)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v record;
BEGIN
    SELECT i.incarnation, i.branch_floor, i.partitions_from, i.partitions_until,
           gavel.uuid_at(gavel.now_ms() - 86400000) AS day_ago,
           gavel.uuid_at(gavel.now_ms() + 86400000) AS day_ahead
    INTO v FROM gavel.identity AS i;
    IF v.incarnation IS DISTINCT FROM p_incarnation THEN
        PERFORM gavel.refuse_identity(p_incarnation);
    END IF;
    IF p_batch < v.day_ago OR p_batch > v.day_ahead THEN
        PERFORM gavel.refuse_clock(p_batch);
    END IF;
    -- No lock against a moving branch_floor is needed: this insert and the drop exclude each other
    -- on the table, and after the drop there is no partition to insert into.
    IF p_batch < v.branch_floor THEN
        PERFORM gavel.refuse_below_floor(p_batch, v.branch_floor);
    END IF;
    IF p_batch < v.partitions_from OR p_batch >= v.partitions_until THEN
        PERFORM gavel.refuse_partition(p_batch);
    END IF;
    INSERT INTO gavel.branch (batch, gid, home_tag, home_incarnation)
    VALUES (p_batch, p_gid, p_home_tag, p_home_incarnation);
END $$;

-- Which of these batches were applied here. Absence below branch_floor proves nothing.
-- LATERAL with LIMIT: one index probe in one partition per id, whatever the statistics say.
-- force_generic_plan: see the head of the decisions' file.
CREATE FUNCTION gavel.applied_branches(p_batches uuid[])
RETURNS TABLE (batch uuid, home_tag int, home_incarnation bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN QUERY
    SELECT b.batch, b.home_tag, b.home_incarnation
    FROM (SELECT DISTINCT u.id FROM unnest(p_batches) AS u(id)) AS w,
         LATERAL (SELECT x.batch, x.home_tag, x.home_incarnation
                  FROM gavel.branch AS x WHERE x.batch = w.id LIMIT 1) AS b;
END $$;

-- For the auditor (R16): applied branches after p_after (null: from the start), by batch id.
CREATE FUNCTION gavel.page_branches(p_after uuid, p_limit int)
RETURNS TABLE (batch uuid, home_tag int, home_incarnation bigint, gid text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_after uuid := coalesce(p_after, '00000000-0000-0000-0000-000000000000');
BEGIN
    RETURN QUERY
    SELECT b.batch, b.home_tag, b.home_incarnation, b.gid
    FROM gavel.branch AS b WHERE b.batch > v_after ORDER BY b.batch LIMIT p_limit;
END $$;

-- Our prepared branches in this database. Age by this server's clock, in seconds (R15).
CREATE FUNCTION gavel.prepared()
RETURNS TABLE (gid text, age_seconds double precision, xid text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_prefix text;
BEGIN
    SELECT 'gavel:' || i.deployment || ':' INTO v_prefix FROM gavel.identity AS i;
    IF NOT FOUND THEN
        PERFORM gavel.refuse_identity(NULL);
    END IF;
    RETURN QUERY
    SELECT p.gid, extract(epoch FROM clock_timestamp() - p.prepared)::double precision,
           p.transaction::text
    FROM pg_prepared_xacts AS p
    WHERE p.database = current_database() AND starts_with(p.gid, v_prefix);
END $$;

-- How many prepared transactions of this database are somebody else's. They are only counted.
CREATE FUNCTION gavel.foreign_prepared() RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT count(*) FROM pg_prepared_xacts AS p
            WHERE p.database = current_database()
              AND NOT EXISTS (SELECT FROM gavel.identity AS i
                              WHERE starts_with(p.gid, 'gavel:' || i.deployment || ':')));
END $$;
