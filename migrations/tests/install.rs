//! Installing the schema: twice, at once, with few rights, and on somebody else's database.

mod common;

use common::{DATABASE, PARTICIPANT, connect, north, run, start_server, text};
use futures::future::join_all;
use gavel_migrations::{IdentityClaim, MigrateError, SCHEMA_VERSION, migrate};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

/// Every catalog and bookkeeping row of the schema with the transaction that wrote it last: a
/// statement that rewrites the same content shows as well.
async fn everything(connection: &mut PgConnection) -> Vec<String> {
    let parts = [
        "SELECT 'class', c.xmin, c.oid, c.relname, c.relacl FROM pg_class c \
         WHERE c.relnamespace = 'gavel'::regnamespace",
        "SELECT 'proc', p.xmin, p.oid, p.proname, p.proacl FROM pg_proc p \
         WHERE p.pronamespace = 'gavel'::regnamespace",
        "SELECT 'role', r.xmin, r.oid, r.rolname FROM pg_authid r WHERE r.rolname LIKE 'gavel%'",
        "SELECT 'member', m.xmin, m.roleid, m.member FROM pg_auth_members m",
        "SELECT 'acl', a.xmin, a.defaclacl FROM pg_default_acl a",
        "SELECT 'namespace', n.xmin, n.nspname, n.nspacl FROM pg_namespace n",
        "SELECT 'identity', i.xmin, i FROM gavel.identity i",
        "SELECT 'migration', m.xmin, m FROM gavel.schema_migration m",
    ];
    let mut rows = Vec::new();
    for part in parts {
        let sql = format!("SELECT r::text FROM ({part}) AS r ORDER BY 1");
        let found: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_all(&mut *connection)
            .await
            .expect("catalog");
        assert!(!found.is_empty(), "{part}");
        rows.extend(found);
    }
    rows
}

#[tokio::test]
async fn a_second_run_changes_nothing() {
    let server = start_server();
    server.create_database(DATABASE).expect("database");
    server.create_login_role(PARTICIPANT).expect("role");
    let url = server.url(DATABASE);

    let first = migrate(&url, &north()).await.expect("first run");
    assert_eq!(first.version_before, None);
    assert_eq!((first.version, first.incarnation), (SCHEMA_VERSION, 1));
    assert_eq!(first.partition_days_created, 10);
    let mut admin = connect(&url).await;
    let before = everything(&mut admin).await;

    let second = migrate(&url, &north()).await.expect("second run");
    assert_eq!(second.version_before, Some(SCHEMA_VERSION));
    assert_eq!(second.partition_days_created, 0);
    assert_eq!(before, everything(&mut admin).await);

    let installed = text(&mut admin, "gavel.schema_version()").await;
    assert_eq!(installed, Some(SCHEMA_VERSION.to_string()));
    let in_public = text(&mut admin, "to_regclass('public._sqlx_migrations')").await;
    assert_eq!(
        in_public, None,
        "the bookkeeping table belongs into schema gavel"
    );
    let strangers = "SELECT count(*) FROM pg_class WHERE relnamespace = 'gavel'::regnamespace \
                     AND relowner <> 'gavel_owner'::regrole";
    assert_eq!(text(&mut admin, strangers).await.as_deref(), Some("0"));
}

/// Roles are the server's, so runs on different databases race as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_runs_on_one_and_on_several_databases_all_succeed() {
    let server = start_server();
    server.create_login_role(PARTICIPANT).expect("role");
    let databases = ["east", "west", "south"];
    for name in databases {
        server.create_database(name).expect("database");
    }
    let runs = databases.iter().flat_map(|name| {
        let url = server.url(name);
        (0..8).map(move |_| {
            let url = url.clone();
            tokio::spawn(async move { migrate(&url, &north()).await })
        })
    });
    for run in join_all(runs).await {
        let report = run.expect("no panic").expect("every run succeeds");
        assert_eq!(report.incarnation, 1);
    }
    for name in databases {
        let mut admin = connect(&server.url(name)).await;
        let days = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'gavel.branch'::regclass";
        assert_eq!(text(&mut admin, days).await.as_deref(), Some("10"));
    }
}

/// R13: an identity is never overwritten.
#[tokio::test]
async fn r13_a_database_of_another_shard_is_refused() {
    let server = start_server();
    server.create_database(DATABASE).expect("database");
    server.create_login_role(PARTICIPANT).expect("role");
    let url = server.url(DATABASE);
    migrate(&url, &north()).await.expect("migrate");
    let mut admin = connect(&url).await;
    let before = text(&mut admin, "SELECT i FROM gavel.identity i").await;

    let others = [
        IdentityClaim {
            deployment: "other".to_owned(),
            ..north()
        },
        IdentityClaim {
            shard: "south".to_owned(),
            ..north()
        },
        IdentityClaim { tag: 2, ..north() },
    ];
    for claimed in others {
        let error = migrate(&url, &claimed).await.expect_err("taken");
        let MigrateError::IdentityTaken { found, .. } = &error else {
            panic!("{error:?}");
        };
        assert!(found.contains("test.north (tag 1)"), "{found}");
    }
    let invalid = IdentityClaim {
        shard: "No:rth".to_owned(),
        ..north()
    };
    let error = migrate(&url, &invalid).await.expect_err("taken or invalid");
    assert!(matches!(
        error,
        MigrateError::InvalidIdentity { .. } | MigrateError::IdentityTaken { .. }
    ));
    assert_eq!(
        before,
        text(&mut admin, "SELECT i FROM gavel.identity i").await
    );
    let second = run(
        &mut admin,
        "INSERT INTO gavel.identity (deployment, shard, tag) VALUES ('a', 'b', 3)",
    );
    assert_eq!(common::sqlstate(second.await), "23505", "one row only");
}

#[tokio::test]
async fn names_and_roles_that_cannot_work_are_refused_with_the_fix() {
    let server = start_server();
    server.create_database(DATABASE).expect("database");
    let url = server.url(DATABASE);
    let error = migrate(&url, &north()).await.expect_err("no such role");
    assert!(
        error
            .to_string()
            .contains("CREATE ROLE north_participant LOGIN"),
        "{error}"
    );

    let nobody = IdentityClaim {
        participant_role: None,
        ..north()
    };
    let invalid = IdentityClaim {
        shard: "No:rth".to_owned(),
        ..nobody.clone()
    };
    let error = migrate(&url, &invalid).await.expect_err("bad name");
    assert!(
        matches!(error, MigrateError::InvalidIdentity { .. }),
        "{error:?}"
    );
    migrate(&url, &nobody)
        .await
        .expect("the failure left nothing behind");

    let error = migrate("mysql://localhost/x", &nobody)
        .await
        .expect_err("bad address");
    assert!(matches!(error, MigrateError::Address { .. }), "{error:?}");
}

#[tokio::test]
async fn a_role_without_rights_is_told_the_sql_and_a_createrole_needs_none() {
    let server = start_server();
    let nobody = IdentityClaim {
        participant_role: None,
        ..north()
    };
    server.create_database("bank").expect("database");
    let password = server.create_login_role("app").expect("role");
    let url = server.url_for("app", &password, "bank");

    let error = migrate(&url, &nobody).await.expect_err("no CREATEROLE");
    let MigrateError::MissingPrivilege { role, sql, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(role, "app");
    assert!(!format!("{error} {error:?}").contains(&password));
    server.sql("bank", sql).expect("the printed SQL works");
    migrate(&url, &nobody).await.expect("and is enough");

    server.create_login_role(PARTICIPANT).expect("role");
    let error = migrate(&url, &north()).await.expect_err("may not grant");
    let MigrateError::MissingPrivilege { sql, .. } = &error else {
        panic!("{error:?}");
    };
    server.sql("bank", sql).expect("the printed SQL works");
    migrate(&url, &north()).await.expect("and is enough");

    let password = server.create_login_role("dba").expect("role");
    server.create_database("shop").expect("database");
    server
        .sql(
            "shop",
            "ALTER ROLE dba CREATEROLE; ALTER DATABASE shop OWNER TO dba",
        )
        .expect("rights");
    let url = server.url_for("dba", &password, "shop");
    migrate(&url, &north())
        .await
        .expect("CREATEROLE and the database are enough");
}

#[tokio::test]
async fn a_schema_from_another_gavel_is_refused() {
    let server = start_server();
    server.create_database(DATABASE).expect("database");
    server.create_login_role(PARTICIPANT).expect("role");
    let url = server.url(DATABASE);
    migrate(&url, &north()).await.expect("migrate");
    let mut admin = connect(&url).await;

    let newer = "INSERT INTO gavel.schema_migration \
                 VALUES (999, 'of tomorrow', now(), true, '', 0)";
    run(&mut admin, newer).await.expect("insert");
    let error = migrate(&url, &north()).await.expect_err("newer");
    assert!(
        matches!(error, MigrateError::SchemaTooNew { version: 999 }),
        "{error:?}"
    );

    let changed = "DELETE FROM gavel.schema_migration WHERE version = 999; \
                   UPDATE gavel.schema_migration SET checksum = 'x' WHERE version = 3";
    run(&mut admin, changed).await.expect("update");
    let error = migrate(&url, &north()).await.expect_err("changed");
    assert!(
        matches!(error, MigrateError::SchemaChanged { version: 3 }),
        "{error:?}"
    );
}
