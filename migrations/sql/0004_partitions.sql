-- Day partitions ahead of time (R14).

-- Name of a day's partition: decision_20261120.
CREATE FUNCTION gavel.partition_name(p_table text, p_day int) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN p_table || '_' || to_char(timestamp '1970-01-01' + p_day * interval '1 day', 'YYYYMMDD');

-- A day's three partitions are created in one transaction. Retention drops branch first and the
-- other two together, so decision speaks for the day.
CREATE FUNCTION gavel.day_exists(p_day int) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT to_regclass('gavel.' || gavel.partition_name('decision', p_day)) IS NOT NULL
$$;

-- CREATE TABLE, then ATTACH: attaching takes SHARE UPDATE EXCLUSIVE on the parent, which does not
-- conflict with the ROW EXCLUSIVE that a prepared branch holds until it is resolved. CREATE TABLE
-- ... PARTITION OF would take ACCESS EXCLUSIVE: it would queue behind that branch, and every
-- later branch behind it.
CREATE FUNCTION gavel.create_partition(p_table text, p_day int) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_name text := gavel.partition_name(p_table, p_day);
BEGIN
    IF to_regclass('gavel.' || v_name) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE gavel.%I (LIKE gavel.%I INCLUDING ALL)', v_name, p_table);
    EXECUTE format('ALTER TABLE gavel.%I ATTACH PARTITION gavel.%I FOR VALUES FROM (%L) TO (%L)',
                   p_table, v_name,
                   gavel.uuid_at(p_day::bigint * 86400000),
                   gavel.uuid_at((p_day + 1)::bigint * 86400000));
END $$;

-- Creates what is missing from days_back before today to days_ahead after it, in UTC. Returns the
-- number of days created. Call it at start and a few times a day.
--
-- After a long stop the days in between are created too (up to 31), because other shards may hold
-- branches of that time whose decision must still be forced here. Days below dropped_floor are
-- never created again: an abort must not be recorded where a commit was dropped.
CREATE FUNCTION gavel.ensure_partitions(days_back int, days_ahead int) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    v gavel.identity;
    v_today int;
    v_day int;
    v_until int;
    v_created int := 0;
BEGIN
    IF days_back IS NULL OR days_ahead IS NULL
       OR days_back NOT BETWEEN 0 AND 400 OR days_ahead NOT BETWEEN 1 AND 400 THEN
        RAISE EXCEPTION 'days_back must be 0 to 400 and days_ahead 1 to 400'
            USING ERRCODE = '22023';
    END IF;
    -- One at a time; the second then finds nothing to do. 1734440549 is "gave".
    PERFORM pg_advisory_xact_lock(1734440549, 1);
    SELECT * INTO v FROM gavel.identity;
    IF NOT FOUND THEN
        PERFORM gavel.refuse_identity(NULL);
    END IF;
    v_today := (gavel.now_ms() / 86400000)::int;
    v_day := v_today - days_back;
    IF gavel.day_of(v.partitions_until) > 0 THEN -- not the first call
        v_day := least(v_day, greatest(gavel.day_of(v.partitions_until), v_today - 31));
    END IF;
    v_day := greatest(v_day, gavel.day_of(v.dropped_floor));
    WHILE v_day <= v_today + days_ahead LOOP
        IF NOT gavel.day_exists(v_day) THEN
            PERFORM gavel.create_partition('decision', v_day);
            PERFORM gavel.create_partition('transaction', v_day);
            PERFORM gavel.create_partition('branch', v_day);
            v_created := v_created + 1;
        END IF;
        v_day := v_day + 1;
    END LOOP;

    -- The run without a gap around today, read from the catalog and not from the arguments: a
    -- clock that was wrong for an hour must not leave a wrong promise behind.
    v_day := v_today;
    WHILE gavel.day_exists(v_day - 1) LOOP
        v_day := v_day - 1;
    END LOOP;
    v_until := v_today + 1;
    WHILE gavel.day_exists(v_until) LOOP
        v_until := v_until + 1;
    END LOOP;
    UPDATE gavel.identity AS i
    SET partitions_from = gavel.uuid_at(v_day::bigint * 86400000),
        partitions_until = gavel.uuid_at(v_until::bigint * 86400000)
    WHERE (i.partitions_from, i.partitions_until) IS DISTINCT FROM
          (gavel.uuid_at(v_day::bigint * 86400000), gavel.uuid_at(v_until::bigint * 86400000));
    RETURN v_created;
END $$;
