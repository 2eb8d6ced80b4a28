-- Who this database is (R13).

CREATE FUNCTION gavel.claim_identity(p_deployment text, p_shard text, p_tag int) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v gavel.identity;
    v_system text;
BEGIN
    IF has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE') THEN
        SELECT s.system_identifier::text INTO v_system FROM pg_control_system() AS s;
    END IF;
    -- Two claims at once: the second waits for the first and then compares.
    INSERT INTO gavel.identity (deployment, shard, tag, system_identifier)
    VALUES (p_deployment, p_shard, p_tag, v_system)
    ON CONFLICT DO NOTHING;
    SELECT * INTO STRICT v FROM gavel.identity;
    IF (v.deployment, v.shard, v.tag) IS DISTINCT FROM (p_deployment, p_shard, p_tag) THEN
        RAISE EXCEPTION 'this database is already shard %.% (tag %), not %.% (tag %)',
            v.deployment, v.shard, v.tag, p_deployment, p_shard, p_tag
            USING ERRCODE = 'GV001',
                  HINT = 'Check the address of the shard. An identity is never overwritten.';
    END IF;
    RETURN v.incarnation;
END $$;

-- For an operator after a restore, clone or move. Its floor is its birth: a transaction of before
-- cannot be executed again (R13).
CREATE FUNCTION gavel.new_incarnation() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    v_incarnation bigint;
    v_system text;
BEGIN
    IF has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE') THEN
        SELECT s.system_identifier::text INTO v_system FROM pg_control_system() AS s;
    END IF;
    -- Conflicts with the ROW EXCLUSIVE of open_decision: a deciding transaction that has checked
    -- the old incarnation ends before the new one is born, and later ones see the new one.
    -- A decision is never prepared, so this waits no longer than a decision takes.
    LOCK TABLE ONLY gavel.decision IN SHARE ROW EXCLUSIVE MODE;
    UPDATE gavel.identity AS i
    SET incarnation = i.incarnation + 1,
        -- The new life is this server's: the start-up check compares with it.
        system_identifier = v_system,
        floor = greatest(i.floor, gavel.uuid_at(gavel.now_ms())),
        floor_moved_by = pg_current_xact_id()
    RETURNING i.incarnation INTO v_incarnation;
    IF NOT FOUND THEN
        PERFORM gavel.refuse_identity(NULL);
    END IF;
    RETURN v_incarnation;
END $$;

CREATE FUNCTION gavel.whoami()
RETURNS TABLE (deployment text, shard text, tag int, incarnation bigint, floor uuid,
               verified_floor uuid, branch_floor uuid, dropped_floor uuid, system_identifier text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT i.deployment, i.shard, i.tag, i.incarnation, i.floor,
           i.verified_floor, i.branch_floor, i.dropped_floor, i.system_identifier
    FROM gavel.identity AS i
$$;

-- What is installed, for a start-up check without rights on the bookkeeping table.
CREATE FUNCTION gavel.schema_version() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT max(m.version) FROM gavel.schema_migration AS m WHERE m.success
$$;
