-- Participants: USAGE on the schema, EXECUTE on the functions named here, nothing else.
-- Not granted: new_incarnation and claim_identity (an operator's, through gavel_owner) and the
-- helpers. A later migration that adds a function grants it itself.

REVOKE ALL ON SCHEMA gavel FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA gavel FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA gavel FROM PUBLIC;

GRANT USAGE ON SCHEMA gavel TO gavel_participant;
GRANT EXECUTE ON FUNCTION
    gavel.schema_version(),
    gavel.whoami(),
    gavel.ensure_partitions(int, int),
    gavel.open_branch(uuid, text, int, bigint, bigint),
    gavel.applied_branches(uuid[]),
    gavel.page_branches(uuid, int),
    gavel.prepared(),
    gavel.foreign_prepared(),
    gavel.open_decision(uuid, bigint, int[], uuid[], text[], bytea[], text[], text),
    gavel.force_abort(uuid, bigint),
    gavel.record_aborts(uuid, bigint, uuid[], bytea[], text[], text),
    gavel.read_decisions(uuid[]),
    gavel.read_transactions(uuid[]),
    gavel.page_decisions(uuid, int),
    gavel.record_damage(uuid, text, text, text),
    gavel.list_damage(),
    gavel.raise_floor(uuid),
    gavel.set_verified_floor(uuid),
    gavel.set_branch_floor(uuid),
    gavel.drop_decision_partitions(uuid),
    gavel.drop_branch_partitions(uuid)
TO gavel_participant;
