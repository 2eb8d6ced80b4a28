-- What resolvers and the auditor found broken (R16).

-- True if this damage was not known yet, so that an alarm is raised once.
CREATE FUNCTION gavel.record_damage(p_batch uuid, p_gid text, p_kind text, p_detail text)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO gavel.damage (batch, gid, kind, detail)
    VALUES (p_batch, p_gid, p_kind, coalesce(p_detail, ''))
    ON CONFLICT (batch, kind) DO NOTHING;
    RETURN FOUND;
END $$;

CREATE FUNCTION gavel.list_damage()
RETURNS TABLE (id bigint, batch uuid, gid text, kind text, detail text, seen_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT d.id, d.batch, d.gid, d.kind, d.detail, d.seen_at
    FROM gavel.damage AS d ORDER BY d.id
$$;
