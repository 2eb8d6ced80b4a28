//! Rules of the design that only real servers can prove, one test each, for both placements of
//! home.

mod between;
mod branches;
mod circuits;
mod connections;
mod contention;
mod decisions;
mod head_starts;
mod identity;
mod replication;

use std::time::{Duration, Instant};

use gavel_protocol::message::{Decide, Member, Prepare};
use gavel_protocol::{
    Access, BatchId, DriverId, Gid, Incarnation, Isolation, Principal, RequestHash, ShardTag, Txid,
};
use gavel_tests::bank;
use gavel_tests::embedded::{DEPLOYMENT, Embedded};

const FIRST: Incarnation = Incarnation(1);

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(since.expect("after 1970").as_millis()).expect("before the year 500 million")
}

fn fresh_batch() -> BatchId {
    BatchId::mint(now_ms(), rand::random())
}

/// A branch of a new batch, on shard 2, that adds to an account. Its home is shard 1 or the
/// dedicated one.
fn branch(gavel: &Embedded, batch: BatchId, account: i64, amount: i64) -> Prepare {
    let home = gavel.home(1);
    let txid = Txid::mint(now_ms(), home, rand::random());
    let gid = Gid {
        deployment: DEPLOYMENT.parse().expect("a name"),
        home,
        home_incarnation: FIRST,
        batch,
        shard: ShardTag(2),
    };
    Prepare {
        gid,
        incarnation: FIRST,
        driver: DriverId(uuid::Uuid::from_u128(4711)),
        access: Access::ReadWrite,
        isolation: Isolation::ReadCommitted,
        batch_safe: true,
        in_chunks: false,
        members: vec![Member {
            txid,
            request_hash: RequestHash([7; 32]),
            statements: bank::entry(txid, account, amount).into(),
        }],
    }
}

async fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < limit, "{what}: not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    started.elapsed()
}

/// The decide of a batch that adds to an account at home.
fn decide(gavel: &Embedded, batch: BatchId, account: i64) -> Decide {
    Decide {
        batch,
        incarnation: FIRST,
        prepared: vec![ShardTag(2)],
        principal: Principal::local(),
        isolation: Isolation::ReadCommitted,
        batch_safe: true,
        members: branch(gavel, batch, account, 5).members,
        failed: Vec::new(),
    }
}

/// How many transactions are prepared on a shard.
fn prepared_on(gavel: &Embedded, shard: ShardTag) -> usize {
    let rows = gavel
        .server(shard)
        .sql(bank::DATABASE, "SELECT 1 FROM pg_prepared_xacts");
    rows.expect("ask the server").len()
}
