-- What operators did to this shard, and why. It is kept where it was done: a log file is another
-- machine's, and what it says of a database is gone when that machine is.

CREATE TABLE gavel.action (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The database role that did it: whoever holds it could as well have done it in SQL.
    by      text NOT NULL DEFAULT session_user,
    what    text NOT NULL CHECK (btrim(what) <> ''),
    because text NOT NULL CHECK (btrim(because) <> '')
);

-- Not even by mistake. (A superuser can drop the trigger; he can drop the database, too.)
CREATE FUNCTION gavel.keep_actions() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'what was done is not changed afterwards' USING ERRCODE = '55000';
END $$;

CREATE TRIGGER keep_actions BEFORE UPDATE OR DELETE OR TRUNCATE ON gavel.action
FOR EACH STATEMENT EXECUTE FUNCTION gavel.keep_actions();

-- Writes down what an operator does, in the transaction that does it where there is one.
CREATE FUNCTION gavel.note_action(p_what text, p_because text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF coalesce(btrim(p_because), '') = '' THEN
        RAISE EXCEPTION 'say why: %', p_what USING ERRCODE = '22023';
    END IF;
    INSERT INTO gavel.action (what, because) VALUES (p_what, p_because);
END $$;

CREATE FUNCTION gavel.list_actions()
RETURNS TABLE (id bigint, at timestamptz, by text, what text, because text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.id, a.at, a.by, a.what, a.because FROM gavel.action AS a ORDER BY a.id
$$;

-- What operators do says why from now on. The old functions do the work, for these alone.
ALTER FUNCTION gavel.new_incarnation() RENAME TO begin_incarnation;
CREATE FUNCTION gavel.new_incarnation(p_because text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    v_incarnation bigint := gavel.begin_incarnation();
BEGIN
    PERFORM gavel.note_action('new incarnation: ' || v_incarnation, p_because);
    RETURN v_incarnation;
END $$;

ALTER FUNCTION gavel.acknowledge_damage(bigint, text) RENAME TO mark_damage_acknowledged;
CREATE FUNCTION gavel.acknowledge_damage(p_id bigint, p_because text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT gavel.mark_damage_acknowledged(p_id, p_because) THEN
        RETURN false;
    END IF;
    PERFORM gavel.note_action('damage acknowledged: ' || p_id, p_because);
    RETURN true;
END $$;

ALTER FUNCTION gavel.retire() RENAME TO end_life;
CREATE FUNCTION gavel.retire(p_because text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    IF NOT gavel.end_life() THEN
        RETURN false;
    END IF;
    PERFORM gavel.note_action('retired', p_because);
    RETURN true;
END $$;

ALTER FUNCTION gavel.remove_peer(int, text) RENAME TO mark_peer_removed;
CREATE FUNCTION gavel.remove_peer(p_tag int, p_because text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT gavel.mark_peer_removed(p_tag, p_because) THEN
        RETURN false;
    END IF;
    PERFORM gavel.note_action('shard removed: ' || p_tag, p_because);
    RETURN true;
END $$;

REVOKE ALL ON FUNCTION
    gavel.keep_actions(), gavel.note_action(text, text), gavel.list_actions(),
    gavel.new_incarnation(text), gavel.acknowledge_damage(bigint, text), gavel.retire(text),
    gavel.remove_peer(int, text)
FROM PUBLIC;
REVOKE ALL ON FUNCTION gavel.end_life(), gavel.mark_peer_removed(int, text) FROM gavel_participant;
GRANT EXECUTE ON FUNCTION
    gavel.note_action(text, text), gavel.list_actions(), gavel.retire(text),
    gavel.remove_peer(int, text)
TO gavel_participant;
