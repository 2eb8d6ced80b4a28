//! An engine behind both faces of the coordinator that checks what reaches it, and answers in
//! every way there is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use gavel_coordinator::api::{self, Authenticator};
use gavel_coordinator::{Answer, Engine, InteractiveAnswer, StoryTold, Submission};
use gavel_protocol::standing::Standing;
use gavel_protocol::message::InDoubtBranch;
use gavel_protocol::outcome::{Column, StatementResult, Status};
use gavel_protocol::transaction::validate_statement;
use gavel_protocol::{
    AbortCode, AbortReason, Ack, Gid, Isolation, Limits, Outcome, Principal, Refusal, RefusalCode,
    ShardMap, ShardTag, Statement, Txid,
};

/// Limits that a small input can break.
pub fn limits() -> Limits {
    Limits {
        shards_per_transaction_max: 2,
        statements_per_transaction_max: 4,
        params_per_statement_max: 3,
        statement_bytes_max: 64,
        request_bytes_max: 2048,
        ..Limits::default()
    }
}

/// Three shards, one more than a transaction may have.
///
/// # Panics
/// Never: the names are good.
pub fn shards() -> ShardMap {
    let named = [("alpha", 1), ("beta", 2), ("gamma", 65535)];
    ShardMap::new(named.map(|(name, tag)| (name.parse().expect("a name"), ShardTag(tag))))
        .expect("a map")
}

/// Both faces, as served.
pub fn router() -> axum::Router {
    let engine = Arc::new(Checking {
        shards: shards(),
        limits: limits(),
        asked: AtomicUsize::new(0),
    });
    api::router(engine, Authenticator::open(), &limits())
}

struct Checking {
    shards: ShardMap,
    limits: Limits,
    asked: AtomicUsize,
}

impl Checking {
    fn check_txid(&self, txid: Txid) {
        let home = self.shards.name(txid.home());
        assert!(home.is_some(), "the home of an admitted txid exists");
    }

    fn turn(&self) -> usize {
        self.asked.fetch_add(1, Ordering::Relaxed)
    }

    fn outcome(&self) -> Outcome {
        let turn = self.turn();
        match turn % 4 {
            0 => Outcome::Committed { applied: true },
            1 => Outcome::Aborted(AbortReason {
                code: AbortCode::ALL[turn / 4 % AbortCode::ALL.len()],
                message: "the reason\n\u{1F4A5}".to_owned(),
                shard: Some(ShardTag(2)),
                statement: Some(0),
                sqlstate: Some("23505".to_owned()),
            }),
            2 => Outcome::Refused(self.refusal()),
            _ => Outcome::InDoubt {
                detail: "ask later".to_owned(),
            },
        }
    }

    fn refusal(&self) -> Refusal {
        let code = RefusalCode::ALL[self.turn() % RefusalCode::ALL.len()];
        Refusal::new(code, "not now")
    }

    fn sometimes<T>(&self, value: T) -> Result<T, Refusal> {
        match self.turn() % 3 {
            0 => Err(self.refusal()),
            _ => Ok(value),
        }
    }

    fn answer(&self, txid: Txid) -> Answer {
        self.check_txid(txid);
        Answer {
            txid,
            outcome: self.outcome(),
            results: vec![(ShardTag(1), vec![result()])],
        }
    }
}

fn result() -> StatementResult {
    StatementResult {
        row_count: 1,
        columns: vec![Column {
            name: "a".to_owned(),
            type_oid: 20,
        }],
        rows: vec![vec![Some("1".to_owned())], vec![None]],
    }
}

#[async_trait]
impl Engine for Checking {
    fn shards(&self) -> Arc<ShardMap> {
        Arc::new(self.shards.clone())
    }

    fn shard_health(&self) -> Vec<(ShardTag, Option<String>)> {
        let shards = self.shards();
        let shards = shards.iter();
        shards.map(|(tag, _)| (tag, None)).collect()
    }

    fn stories(&self, _: Txid) -> Vec<StoryTold> {
        Vec::new()
    }

    fn standing(&self) -> Standing {
        Standing {
            version: String::new(),
            started_unix_s: 0,
            in_flight: 0,
            in_flight_max: 0,
            lanes: 0,
            waiting: 0,
            deepest: 0,
            sessions: 0,
            is_draining: false,
            shards: Vec::new(),
            seconds: Vec::new(),
        }
    }

    async fn not_ready(&self) -> Option<String> {
        (self.turn() % 2 == 0).then(|| "not yet".to_owned())
    }

    fn mint(&self, home: Option<ShardTag>) -> Result<Txid, Refusal> {
        let home = home.unwrap_or(ShardTag(1));
        assert!(self.shards.name(home).is_some(), "a txid for no shard");
        Ok(Txid::mint(1_760_000_000_000, home, [7; 16]))
    }

    async fn submit(&self, submission: Submission) -> Answer {
        let transaction = &submission.transaction;
        let valid = transaction.validate(&self.limits);
        assert_eq!(valid, Ok(()), "what is let in is valid");
        let known = |tag| self.shards.name(tag).is_some();
        assert!(
            transaction
                .branches
                .iter()
                .all(|branch| known(branch.shard))
        );
        assert_ne!(
            submission.timeout.map(|timeout| timeout.as_millis()),
            Some(0)
        );
        assert_eq!(submission.principal, Principal::local());
        self.answer(submission.txid)
    }

    async fn status(&self, txid: Txid, _asker: Option<Principal>) -> Result<Status, Refusal> {
        self.check_txid(txid);
        let turn = self.turn();
        self.sometimes(match turn % 3 {
            0 => Status::Committed,
            1 => Status::NoneYet,
            _ => Status::TooOld,
        })
    }

    async fn abort(&self, txid: Txid, _principal: Principal) -> Outcome {
        self.answer(txid).outcome
    }

    async fn begin(&self, txid: Txid, _: Isolation, _: Principal) -> Result<(), Refusal> {
        self.check_txid(txid);
        self.sometimes(())
    }

    async fn execute(
        &self,
        txid: Txid,
        _principal: &Principal,
        _sequence: u64,
        shard: ShardTag,
        statement: Statement,
    ) -> Result<InteractiveAnswer, Refusal> {
        self.check_txid(txid);
        assert!(self.shards.name(shard).is_some());
        let valid = validate_statement(shard, 0, &statement, &self.limits);
        assert_eq!(valid, Ok(()), "what is let in is valid");
        let ended = InteractiveAnswer::Ended(self.outcome());
        self.sometimes(match self.turn() % 2 {
            0 => InteractiveAnswer::Done(result()),
            _ => ended,
        })
    }

    async fn commit(&self, txid: Txid, _principal: &Principal, _ack: Ack) -> Answer {
        self.answer(txid)
    }

    async fn rollback(&self, txid: Txid, _principal: &Principal) -> Result<(), Refusal> {
        self.check_txid(txid);
        self.sometimes(())
    }

    async fn in_doubt(&self) -> Vec<(ShardTag, Result<Vec<InDoubtBranch>, String>)> {
        vec![
            (ShardTag(1), Ok(Vec::new())),
            (ShardTag(2), Err("down".to_owned())),
        ]
    }

    async fn resolve(&self, _gid: Gid) -> Result<String, Refusal> {
        self.sometimes("rolled back".to_owned())
    }

    async fn retry_shard(&self, _shard: ShardTag) -> Result<String, Refusal> {
        self.sometimes("it answers".to_owned())
    }

    fn set_draining(&self, _is_draining: bool) {}
}
