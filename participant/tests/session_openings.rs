//! The first statement of an interactive branch opens it, in one exchange.

mod recovery_support;

use gavel_participant::Participant as _;
use gavel_protocol::message::{Executed, MemberFailure, SessionExecute, SessionOpen, SessionStep};
use gavel_protocol::{BatchId, DriverId, Incarnation, Isolation, RefusalCode, ShardTag, Statement};
use recovery_support::{World, batch};
use uuid::Uuid;

const NORTH: ShardTag = ShardTag(1);
const SOUTH: ShardTag = ShardTag(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opening_that_comes_twice_runs_once_and_is_answered_alike() {
    let (world, batch) = (world().await, batch());
    let (peers, _) = world.peers().await;
    let opening = opening(&world, batch, "insert into note values ($1) returning id");
    let first = peers[&SOUTH].session_execute(opening.clone()).await;
    assert!(matches!(first, Executed::Done(_)), "{first:?}");
    assert_eq!(peers[&SOUTH].session_execute(opening).await, first);

    let second = SessionExecute {
        sequence: 1,
        open: None,
        ..self::opening(&world, batch, "select count(*) from note where id = $1")
    };
    let Executed::Done(seen) = peers[&SOUTH].session_execute(second).await else {
        panic!("the session goes on");
    };
    assert_eq!(seen.rows, [[Some("1".to_owned())]]);
}

/// Late on the network, it must not leave locks behind that nobody gives back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opening_that_comes_after_the_rollback_is_refused() {
    let (world, batch) = (world().await, batch());
    let (peers, _) = world.peers().await;
    let opening = opening(&world, batch, "insert into note values ($1)");
    let first = peers[&SOUTH].session_execute(opening.clone()).await;
    assert!(matches!(first, Executed::Done(_)), "{first:?}");
    assert_eq!(
        peers[&SOUTH].session_rollback(batch).await,
        SessionStep::Done
    );
    let late = peers[&SOUTH].session_execute(opening).await;
    let Executed::Lost(refusal) = late else {
        panic!("{late:?}");
    };
    assert_eq!(refusal.code, RefusalCode::OutOfSequence);
    let open = "select 1 from pg_stat_activity where state like 'idle in transaction%'";
    assert_eq!(world.admin(SOUTH, open).len(), 0);
    assert_eq!(world.admin(SOUTH, "select 1 from note").len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_an_opening_fails_where_the_batch_was_before() {
    let (world, batch) = (world().await, batch());
    let (peers, _) = world.peers().await;
    let applied = world.gid(batch, NORTH, SOUTH);
    world.prepare(&applied).await;
    world.admin(SOUTH, &format!("commit prepared '{applied}'"));
    let opening = opening(&world, batch, "insert into note values ($1)");
    let again = peers[&SOUTH].session_execute(opening).await;
    assert!(
        matches!(again, Executed::Failed(MemberFailure::Failed(_))),
        "{again:?}"
    );
    assert_eq!(world.admin(SOUTH, "select 1 from note").len(), 0);
}

async fn world() -> World {
    let world = World::start(&["north", "south"]).await;
    world.admin(
        SOUTH,
        "create table note (id int); grant all on note to public",
    );
    world
}

/// The first statement of a branch on `SOUTH` whose home is `NORTH`.
fn opening(world: &World, batch: BatchId, sql: &str) -> SessionExecute {
    SessionExecute {
        batch,
        sequence: 0,
        statement: Statement::new(sql, ["7"]),
        open: Some(SessionOpen {
            gid: world.gid(batch, NORTH, SOUTH),
            incarnation: Incarnation(1),
            driver: DriverId(Uuid::from_u128(9)),
            isolation: Isolation::ReadCommitted,
        }),
    }
}
