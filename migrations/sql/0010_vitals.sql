-- What an operator watches, and how damage stops being news.

ALTER TABLE gavel.damage
    ADD COLUMN acknowledged_at timestamptz,
    -- The database role that did it: whoever holds it could as well have written the row.
    ADD COLUMN acknowledged_by text,
    ADD COLUMN acknowledged_because text,
    ADD CHECK ((acknowledged_at IS NULL) = (acknowledged_because IS NULL));

DROP FUNCTION gavel.list_damage();
CREATE FUNCTION gavel.list_damage()
RETURNS TABLE (id bigint, batch uuid, gid text, kind text, detail text, seen_at timestamptz,
               acknowledged_at timestamptz, acknowledged_by text, acknowledged_because text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT d.id, d.batch, d.gid, d.kind, d.detail, d.seen_at,
           d.acknowledged_at, d.acknowledged_by, d.acknowledged_because
    FROM gavel.damage AS d ORDER BY d.id
$$;

-- Somebody has looked at it and dealt with it. The record stays, with who and why. False if there
-- is no such record; the first acknowledgement stands. For operators only, through gavel_owner.
CREATE FUNCTION gavel.acknowledge_damage(p_id bigint, p_because text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF coalesce(btrim(p_because), '') = '' THEN
        RAISE EXCEPTION 'an acknowledgement says why' USING ERRCODE = '22023';
    END IF;
    UPDATE gavel.damage AS d
    SET acknowledged_at = clock_timestamp(), acknowledged_by = session_user,
        acknowledged_because = p_because
    WHERE d.id = p_id AND d.acknowledged_at IS NULL;
    RETURN EXISTS (SELECT FROM gavel.damage AS d WHERE d.id = p_id);
END $$;

-- Slots are the whole server's. What is not of our deployment is only counted.
CREATE FUNCTION gavel.vitals()
RETURNS TABLE (damage_open bigint, slots_used bigint, slots integer, foreign_oldest_seconds float8)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT (SELECT count(*) FROM gavel.damage AS d WHERE d.acknowledged_at IS NULL),
           (SELECT count(*) FROM pg_prepared_xacts),
           current_setting('max_prepared_transactions')::integer,
           (SELECT coalesce(greatest(extract(epoch FROM clock_timestamp() - min(p.prepared)), 0), 0)
            FROM pg_prepared_xacts AS p
            WHERE NOT EXISTS (SELECT FROM gavel.identity AS i
                              WHERE starts_with(p.gid, 'gavel:' || i.deployment || ':')))::float8
$$;

REVOKE ALL ON FUNCTION
    gavel.list_damage(), gavel.acknowledge_damage(bigint, text), gavel.vitals()
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION gavel.list_damage(), gavel.vitals() TO gavel_participant;
