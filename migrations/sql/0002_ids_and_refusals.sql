-- Helpers that only the other functions call.

-- The smallest UUID of a millisecond: a UUIDv7 starts with 48 bits of unix milliseconds.
-- Plain SQL, no SET clause, so that the planner inlines it into the hot path; the body is bound
-- when it is created, so no search_path of a caller matters.
CREATE FUNCTION gavel.uuid_at(p_ms bigint) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (lpad(to_hex(greatest(p_ms, 0)), 12, '0') || '00000000000000000000')::uuid;

-- The unix millisecond in a UUIDv7.
CREATE FUNCTION gavel.ms_of(p_id uuid) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ('x' || substr(replace(p_id::text, '-', ''), 1, 12))::bit(48)::bigint;

-- Days since 1970-01-01 UTC.
CREATE FUNCTION gavel.day_of(p_id uuid) RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (gavel.ms_of(p_id) / 86400000)::int;

-- This database's clock, as unix milliseconds. date_part, because extract computes in numeric.
CREATE FUNCTION gavel.now_ms() RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN floor(date_part('epoch', clock_timestamp()) * 1000)::bigint;

-- The refusals. They are apart from the checks so that the hot path carries comparisons only, and
-- so that every function words them alike.

CREATE FUNCTION gavel.refuse_identity(p_incarnation bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v gavel.identity;
BEGIN
    SELECT * INTO v FROM gavel.identity;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'this database has no Gavel identity yet'
            USING ERRCODE = 'GV004', HINT = 'Run `gavel migrate` for this shard.';
    END IF;
    RAISE EXCEPTION 'this database is shard %.% (tag %) in incarnation %, not %',
        v.deployment, v.shard, v.tag, v.incarnation, coalesce(p_incarnation::text, 'null')
        USING ERRCODE = 'GV001',
              HINT = 'Restored, cloned or moved? Restart the participant so that it reads the identity again.';
END $$;

CREATE FUNCTION gavel.refuse_below_floor(p_id uuid, p_floor uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'id % is too old: outcome unknown', p_id
        USING ERRCODE = 'GV002', DETAIL = format('It is below %s.', p_floor),
              HINT = 'Too old means that the outcome is not kept any more, never that it was aborted.';
END $$;

CREATE FUNCTION gavel.refuse_clock(p_batch uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'batch % is more than one day from the clock of this database', p_batch
        USING ERRCODE = 'GV003',
              DETAIL = format('The database says %s, the batch says %s.',
                              clock_timestamp(), to_timestamp(gavel.ms_of(p_batch) / 1000.0)),
              HINT = 'Compare the clocks of the coordinator and of this server.';
END $$;

CREATE FUNCTION gavel.refuse_partition(p_id uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_days int := gavel.day_of(p_id) - (gavel.now_ms() / 86400000)::int;
BEGIN
    RAISE EXCEPTION 'no partition for id % (day %)', p_id,
        to_char(to_timestamp(gavel.day_of(p_id)::bigint * 86400) AT TIME ZONE 'UTC', 'YYYYMMDD')
        USING ERRCODE = 'GV005',
              HINT = format('Run: SELECT gavel.ensure_partitions(%s, %s);',
                            least(greatest(-v_days, 2), 400), least(greatest(v_days, 7), 400));
END $$;
