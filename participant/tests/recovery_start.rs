//! Start-up checks: each refusal says what to do.

mod recovery_support;

use gavel_participant::service_pool::{ServicePool, ServicePoolConfig};
use gavel_participant::start_check::{Checked, Expected, StartError, Warning, check};
use gavel_protocol::{Incarnation, ShardTag};
use local_postgres::{Mode, Options, Server};
use recovery_support::{DATABASE, ROLE, World, limits};

const NORTH: ShardTag = ShardTag(1);

fn expected() -> Expected {
    Expected {
        deployment: "test".parse().expect("a name"),
        name: "north".parse().expect("a name"),
        tag: NORTH,
        slots_needed: 8,
    }
}

async fn check_url(url: &str, expected: &Expected) -> Result<Checked, StartError> {
    let pool = ServicePool::new(ServicePoolConfig {
        database: url.parse().expect("a URL"),
        limits: limits(),
    });
    check(&pool, expected).await
}

/// The refusal's code; its text must contain the fix.
async fn refused(url: &str, expected: &Expected, fix: &str) -> &'static str {
    let error = check_url(url, expected).await.expect_err("refused");
    assert!(error.to_string().contains(fix), "{error}");
    error.code()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r13_a_good_shard_passes_and_a_wrong_one_is_refused_loudly() {
    let world = World::start(&["north"]).await;
    let url = world.url(NORTH);
    let checked = check_url(&url, &expected()).await.expect("passes");
    assert_eq!(checked.identity, world.identity(NORTH));
    assert_eq!((checked.slots, checked.foreign_prepared), (64, 0));
    assert_eq!(checked.warnings, []);

    let wrong = [
        Expected {
            deployment: "other".parse().expect("a name"),
            ..expected()
        },
        Expected {
            name: "south".parse().expect("a name"),
            ..expected()
        },
        Expected {
            tag: ShardTag(2),
            ..expected()
        },
    ];
    for expected in wrong {
        let code = refused(&url, &expected, "check the shard's address").await;
        assert_eq!(code, "wrong_database");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r13_a_database_moved_to_another_server_needs_a_new_incarnation() {
    let world = World::start(&["north"]).await;
    let moved = "UPDATE gavel.identity SET system_identifier = '42'";
    world.admin(NORTH, moved);
    let url = world.url(NORTH);
    let code = refused(&url, &expected(), "gavel shard new-incarnation").await;
    assert_eq!(code, "system_identifier_changed");
    world.admin(NORTH, "SELECT gavel.new_incarnation('test')");
    let checked = check_url(&url, &expected()).await.expect("passes");
    assert_eq!(checked.identity.incarnation, Incarnation(2));

    world.admin(
        NORTH,
        "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC",
    );
    let checked = check_url(&url, &expected()).await.expect("passes");
    assert_eq!(checked.warnings, [Warning::SystemIdentifierUnreadable]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schema_and_rights_are_checked() {
    let world = World::start(&["north"]).await;
    let url = world.url(NORTH);
    let newest = gavel_migrations::SCHEMA_VERSION;
    let hide =
        format!("UPDATE gavel.schema_migration SET success = false WHERE version = {newest}");
    world.admin(NORTH, &hide);
    let code = refused(&url, &expected(), "run `gavel migrate`").await;
    assert_eq!(code, "schema_version");
    let show = "UPDATE gavel.schema_migration SET success = true";
    world.admin(NORTH, show);

    let revoke = format!("REVOKE gavel_participant FROM {ROLE}");
    world.admin(NORTH, &revoke);
    let fix = "GRANT gavel_participant TO \"participant\";";
    assert_eq!(refused(&url, &expected(), fix).await, "permission_missing");
    let grant = "GRANT gavel_participant TO \"participant\";";
    world.admin(NORTH, grant);
    world.admin(
        NORTH,
        "REVOKE EXECUTE ON FUNCTION gavel.force_abort FROM gavel_participant",
    );
    let code = refused(&url, &expected(), "gavel.force_abort").await;
    assert_eq!(code, "permission_missing");

    let empty = world.server(NORTH).url("postgres");
    let code = refused(&empty, &expected(), "gavel migrate").await;
    assert_eq!(code, "not_migrated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_lose_data_are_refused() {
    let world = World::start(&["north"]).await;
    let url = world.url(NORTH);
    for name in ["fsync", "full_page_writes"] {
        world.admin(NORTH, &format!("ALTER SYSTEM SET {name} = off"));
        world.server(NORTH).restart(Mode::Fast).expect("restart");
        let fix = format!("ALTER SYSTEM SET {name} = on;");
        assert_eq!(refused(&url, &expected(), &fix).await, "server_not_durable");
        world.admin(NORTH, &format!("ALTER SYSTEM RESET {name}"));
    }
    world.admin(NORTH, "ALTER SYSTEM RESET ALL");
    world.admin(
        NORTH,
        "ALTER ROLE participant SET synchronous_commit = local",
    );
    world.admin(
        NORTH,
        "ALTER SYSTEM SET synchronous_standby_names = 'nobody'",
    );
    world.server(NORTH).restart(Mode::Fast).expect("restart");
    let checked = check_url(&url, &expected()).await.expect("passes");
    let weak = Warning::SynchronousCommit {
        found: "local".to_owned(),
    };
    assert_eq!(checked.warnings, [weak]);

    let wants_more = Expected {
        slots_needed: 50,
        ..expected()
    };
    let checked = check_url(&url, &wants_more).await.expect("passes");
    let few = Warning::FewSlots {
        found: 64,
        wanted: 100,
    };
    assert!(checked.warnings.contains(&few), "{:?}", checked.warnings);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_prepared_transactions_or_without_answer_is_refused() {
    let options = Options {
        max_prepared_transactions: 0,
        ..Options::for_tests("north")
    };
    let server = Server::temporary(options).expect("start PostgreSQL");
    server.create_database(DATABASE).expect("create database");
    let url = server.url(DATABASE);
    let fix = "ALTER SYSTEM SET max_prepared_transactions = 16;";
    let code = refused(&url, &expected(), fix).await;
    assert_eq!(code, "prepared_transactions_disabled");
    server.kill9().expect("kill");
    let code = refused(&url, &expected(), "check its address").await;
    assert_eq!(code, "shard_unreachable");
}
