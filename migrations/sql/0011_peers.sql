-- The shards that this one has to do with (R13): one leaves the deployment only when no gid and no
-- retained row names it, and its tag is never used again.
--
-- A configuration is a file that somebody edits; what it must not lose is kept here. Every
-- participant says which shards its configuration has, at start and whenever that changes
-- (know_peers). A shard that was known once may be missing only after it was removed.

CREATE TABLE gavel.peer (
    tag             int PRIMARY KEY CHECK (tag BETWEEN 0 AND 65535),
    shard           text NOT NULL CHECK (shard ~ '^[a-z][a-z0-9_]{0,31}$'),
    known_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    removed_at      timestamptz,
    -- The database role that did it: whoever holds it could as well have written the row.
    removed_by      text,
    removed_because text,
    CHECK ((removed_at IS NULL) = (removed_because IS NULL))
);

-- Takes note of the shards of a configuration, this one included, and says what is wrong with them:
--   missing  known here, and not removed
--   renamed  the tag is known under another name, now or from a shard that was removed
--   removed  this very shard was removed; its table may still be in the file for a while
-- Nothing is noted if any is missing or renamed.
CREATE FUNCTION gavel.know_peers(p_tags int[], p_shards text[])
RETURNS TABLE (tag int, shard text, wrong text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_tag int;
    v_shard text;
    v_wrong text;
    v_fits boolean := true;
BEGIN
    -- One at a time, and not beside remove_peer. 1734440549 is "gave".
    PERFORM pg_advisory_xact_lock(1734440549, 2);
    FOR v_tag, v_shard, v_wrong IN
        SELECT p.tag, p.shard,
               CASE WHEN c.tag IS NULL THEN 'missing'
                    WHEN c.shard <> p.shard THEN 'renamed'
                    ELSE 'removed' END
        FROM gavel.peer AS p
        LEFT JOIN unnest(p_tags, p_shards) AS c(tag, shard) ON c.tag = p.tag
        WHERE CASE WHEN c.tag IS NULL THEN p.removed_at IS NULL
                   ELSE p.removed_at IS NOT NULL OR c.shard <> p.shard END
        ORDER BY p.tag
    LOOP
        v_fits := v_fits AND v_wrong = 'removed';
        tag := v_tag;
        shard := v_shard;
        wrong := v_wrong;
        RETURN NEXT;
    END LOOP;
    IF v_fits THEN
        INSERT INTO gavel.peer (tag, shard)
        SELECT c.tag, c.shard FROM unnest(p_tags, p_shards) AS c(tag, shard)
        ON CONFLICT ON CONSTRAINT peer_pkey DO NOTHING;
    END IF;
END $$;

-- What names a shard in this database: of every kind one example, or nothing. In the shard's own
-- database, that is everything that is kept. It may read whole tables: for an operator who
-- removes a shard, not for a service.
CREATE FUNCTION gavel.names_shard(p_tag int)
RETURNS TABLE (what text, example text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_own int;
    v_prefix text;
BEGIN
    SELECT i.tag, 'gavel:' || i.deployment || ':' INTO v_own, v_prefix FROM gavel.identity AS i;
    RETURN QUERY
    (SELECT 'prepared branch', p.gid FROM pg_prepared_xacts AS p
     WHERE p.database = current_database() AND starts_with(p.gid, v_prefix)
       AND (p_tag = v_own OR p_tag::text IN (split_part(p.gid, ':', 3), split_part(p.gid, ':', 6)))
     LIMIT 1)
    UNION ALL
    (SELECT 'branch row', b.batch::text FROM gavel.branch AS b
     WHERE p_tag IN (v_own, b.home_tag) LIMIT 1)
    UNION ALL
    (SELECT 'decision row', d.batch::text FROM gavel.decision AS d
     WHERE p_tag = v_own OR p_tag = ANY (d.shards) LIMIT 1)
    UNION ALL
    (SELECT 'transaction row', t.txid::text FROM gavel.transaction AS t
     WHERE p_tag = v_own LIMIT 1);
END $$;

-- Ends the life of this shard: nothing is decided or prepared here any more. The floors do it, as
-- retention's do, and never come down; a branch elsewhere could still be resolved. False, and
-- nothing done, if anything is kept here.
CREATE FUNCTION gavel.retire() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    v_last constant uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
BEGIN
    -- Who works has written its rows first (R1, R4): after this lock they are seen, or not begun.
    LOCK TABLE ONLY gavel.decision, ONLY gavel.branch IN SHARE ROW EXCLUSIVE MODE;
    IF EXISTS (SELECT FROM gavel.names_shard((SELECT i.tag FROM gavel.identity AS i))) THEN
        RETURN false;
    END IF;
    UPDATE gavel.identity AS i
    SET floor = v_last, branch_floor = v_last, floor_moved_by = pg_current_xact_id()
    WHERE i.floor < v_last;
    RETURN true;
END $$;

-- Whether this shard was retired.
CREATE FUNCTION gavel.is_retired() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT i.floor = 'ffffffff-ffff-ffff-ffff-ffffffffffff' FROM gavel.identity AS i
$$;

-- Notes that a shard has left the deployment, on every shard that stays. The first note stands.
-- False, and nothing done, if anything here still names it.
CREATE FUNCTION gavel.remove_peer(p_tag int, p_because text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF coalesce(btrim(p_because), '') = '' THEN
        RAISE EXCEPTION 'a removal says why' USING ERRCODE = '22023';
    END IF;
    PERFORM pg_advisory_xact_lock(1734440549, 2);
    IF EXISTS (SELECT FROM gavel.names_shard(p_tag)) THEN
        RETURN false;
    END IF;
    UPDATE gavel.peer AS p
    SET removed_at = clock_timestamp(), removed_by = session_user, removed_because = p_because
    WHERE p.tag = p_tag AND p.removed_at IS NULL;
    RETURN true;
END $$;

REVOKE ALL ON FUNCTION
    gavel.know_peers(int[], text[]), gavel.names_shard(int), gavel.retire(), gavel.is_retired(),
    gavel.remove_peer(int, text)
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    gavel.know_peers(int[], text[]), gavel.names_shard(int), gavel.retire(), gavel.is_retired(),
    gavel.remove_peer(int, text)
TO gavel_participant;
