//! What a participant's role may do, and what nobody can make the functions do.

mod common;

use common::{Shard, id_at, open_branch, run, sqlstate, text};
use sqlx::AssertSqlSafe;

/// Everything that is not granted to `gavel_participant`.
const NOT_FOR_PARTICIPANTS: [&str; 23] = [
    "acknowledge_damage",
    "await_deciders",
    "begin_incarnation",
    "claim_identity",
    "create_partition",
    "day_exists",
    "day_of",
    "drop_days",
    "end_life",
    "keep_actions",
    "lock_for_drop",
    "mark_damage_acknowledged",
    "mark_peer_removed",
    "ms_of",
    "new_incarnation",
    "now_ms",
    "partition_name",
    "refuse_below_floor",
    "refuse_clock",
    "refuse_floor_ahead",
    "refuse_identity",
    "refuse_partition",
    "uuid_at",
];

#[tokio::test]
async fn a_participant_may_call_functions_and_touch_nothing_else() {
    let shard = Shard::start().await;
    let mut participant = shard.participant().await;
    let mut admin = shard.admin().await;

    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'gavel'::regnamespace \
         AND relkind IN ('r', 'p')",
    )
    .fetch_all(&mut admin)
    .await
    .expect("tables");
    assert!(tables.len() > 30, "{tables:?}");
    for table in tables {
        for sql in [
            format!("SELECT FROM gavel.{table}"),
            format!("INSERT INTO gavel.{table} DEFAULT VALUES"),
            format!("DELETE FROM gavel.{table}"),
            format!("TRUNCATE gavel.{table}"),
            format!("SELECT 1; LOCK TABLE gavel.{table} IN ACCESS SHARE MODE"),
        ] {
            assert_eq!(
                sqlstate(run(&mut participant, &sql).await),
                "42501",
                "{sql}"
            );
        }
    }
    for sql in [
        "CREATE TABLE gavel.mine ()",
        "SET ROLE gavel_owner",
        "SELECT gavel.new_incarnation('test')",
        "SELECT gavel.claim_identity('test', 'north', 1)",
    ] {
        assert_eq!(sqlstate(run(&mut participant, sql).await), "42501", "{sql}");
    }
    open_branch(&mut participant, id_at(0))
        .await
        .expect("open_branch");
    assert_eq!(
        text(&mut participant, "SELECT shard FROM gavel.whoami()")
            .await
            .as_deref(),
        Some("north")
    );
    assert_eq!(
        text(&mut participant, "gavel.ensure_partitions(2, 8)")
            .await
            .as_deref(),
        Some("1")
    );
}

#[tokio::test]
async fn grants_and_search_paths_are_what_the_schema_says() {
    let shard = Shard::start().await;
    let mut admin = shard.admin().await;
    let hidden: Vec<String> = sqlx::query_scalar(
        "SELECT proname::text FROM pg_proc WHERE pronamespace = 'gavel'::regnamespace \
         AND NOT has_function_privilege('gavel_participant', oid, 'EXECUTE') ORDER BY 1",
    )
    .fetch_all(&mut admin)
    .await
    .expect("functions");
    assert_eq!(hidden, NOT_FOR_PARTICIPANTS);

    // A function with neither a pinned path nor a body bound at creation could be made to call
    // somebody else's code; one that is granted and not SECURITY DEFINER could do nothing.
    let loose: Vec<String> = sqlx::query_scalar(
        "SELECT proname::text FROM pg_proc WHERE pronamespace = 'gavel'::regnamespace \
         AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false) \
         AND prosqlbody IS NULL \
         UNION ALL SELECT proname::text FROM pg_proc \
         WHERE pronamespace = 'gavel'::regnamespace AND NOT prosecdef \
         AND has_function_privilege('gavel_participant', oid, 'EXECUTE')",
    )
    .fetch_all(&mut admin)
    .await
    .expect("functions");
    assert_eq!(loose, Vec::<String>::new());
    let to_public = "SELECT count(*) FROM pg_proc p, aclexplode(p.proacl) a \
                     WHERE p.pronamespace = 'gavel'::regnamespace AND a.grantee = 0";
    assert_eq!(text(&mut admin, to_public).await.as_deref(), Some("0"));
    let no_acl = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'gavel'::regnamespace \
                  AND proacl IS NULL";
    assert_eq!(
        text(&mut admin, no_acl).await.as_deref(),
        Some("0"),
        "null means PUBLIC"
    );
}

/// Objects of the caller's own that stand in front of what Gavel's functions use, if the search
/// path is looked at; each leaves a row in `public.hits` when it is called.
fn shadows() -> Vec<String> {
    let hit = "INSERT INTO public.hits VALUES (current_user)";
    vec![
        format!(
            "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ {hit}; SELECT pg_catalog.clock_timestamp() $$"
        ),
        format!(
            "CREATE FUNCTION public.date_part(text, timestamptz) RETURNS float8 LANGUAGE sql AS $$ {hit}; SELECT pg_catalog.date_part($1, $2) $$"
        ),
        format!(
            "CREATE FUNCTION public.lower_uuid(uuid, uuid) RETURNS bool LANGUAGE sql AS $$ {hit}; SELECT $1 OPERATOR(pg_catalog.<) $2 $$"
        ),
        "CREATE OPERATOR public.< (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = public.lower_uuid)"
            .to_owned(),
        format!(
            "CREATE FUNCTION public.unnest(uuid[]) RETURNS SETOF uuid LANGUAGE sql AS $$ {hit}; SELECT pg_catalog.unnest($1) $$"
        ),
        format!(
            "CREATE FUNCTION public.starts_with(text, text) RETURNS bool LANGUAGE sql AS $$ {hit}; SELECT true $$"
        ),
        "CREATE TEMP TABLE identity (incarnation bigint); CREATE TEMP TABLE decision (batch uuid)"
            .to_owned(),
        "SET search_path = pg_temp, public, pg_catalog".to_owned(),
    ]
}

/// Functions run with the owner's rights; a caller who shadows what they use must not get those.
#[tokio::test]
async fn a_hostile_search_path_is_not_looked_at() {
    let shard = Shard::start().await;
    let mut admin = shard.admin().await;
    run(
        &mut admin,
        "GRANT ALL ON SCHEMA public TO north_participant; CREATE TABLE public.hits (who name); \
         GRANT ALL ON public.hits TO PUBLIC",
    )
    .await
    .expect("stage");
    let mut evil = shard.participant().await;
    for sql in shadows() {
        run(&mut evil, &sql)
            .await
            .unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
    run(
        &mut evil,
        "SELECT clock_timestamp(), date_part('epoch', now())",
    )
    .await
    .expect("bait");
    let bait = text(&mut admin, "SELECT count(*) FROM public.hits").await;
    assert_eq!(bait.as_deref(), Some("2"), "the trap works");

    let batch = id_at(0);
    open_branch(&mut evil, batch).await.expect("open_branch");
    common::decide(&mut evil, batch, &[id_at(0), id_at(-1)])
        .await
        .expect("open_decision");
    common::force_abort(&mut evil, id_at(0))
        .await
        .expect("force_abort");
    for call in [
        "gavel.ensure_partitions(3, 9)".to_owned(),
        "gavel.schema_version()".to_owned(),
        "gavel.foreign_prepared()".to_owned(),
        "(SELECT damage_open FROM gavel.vitals())".to_owned(),
        "(SELECT pg_catalog.count(*) FROM gavel.list_damage())".to_owned(),
        "(SELECT pg_catalog.count(*) FROM gavel.prepared())".to_owned(),
        format!("(SELECT pg_catalog.count(*) FROM gavel.read_decisions('{{{batch}}}'))"),
        format!("gavel.raise_floor('{batch}')"),
    ] {
        let sql = format!("SELECT {call}");
        sqlx::query(AssertSqlSafe(sql))
            .execute(&mut evil)
            .await
            .expect(&call);
    }
    let hits = text(&mut admin, "SELECT count(*) FROM public.hits").await;
    assert_eq!(
        hits.as_deref(),
        Some("2"),
        "a function called the caller's code"
    );
}
