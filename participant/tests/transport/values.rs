//! Fixed questions and answers, one of each kind.

use std::sync::Arc;

use gavel_protocol::message::*;
use gavel_protocol::outcome::{Column, StatementResult, Status};
use gavel_protocol::{
    AbortCode, AbortReason, Access, BatchId, DriverId, Gid, Guard, Incarnation, Isolation,
    MembersDigest, Principal, Refusal, RefusalCode, RequestHash, ShardTag, Statement, Txid,
};
use uuid::Uuid;

pub fn batch(n: u8) -> BatchId {
    BatchId::mint(1_700_000_000_000, [n; 16])
}

pub fn txid(n: u8) -> Txid {
    Txid::mint(1_700_000_000_000, ShardTag(2), [n; 16])
}

pub fn driver() -> DriverId {
    DriverId(Uuid::from_u128(7))
}

pub fn alice() -> Principal {
    "alice".parse().unwrap()
}

pub fn gid(shard: ShardTag) -> Gid {
    Gid {
        deployment: "bank".parse().unwrap(),
        home: ShardTag(2),
        home_incarnation: Incarnation(3),
        batch: batch(1),
        shard,
    }
}

pub fn identity(tag: ShardTag) -> ShardIdentity {
    ShardIdentity {
        deployment: "bank".parse().unwrap(),
        name: "a".parse().unwrap(),
        tag,
        incarnation: Incarnation(4),
    }
}

pub fn statement() -> Statement {
    let mut statement = Statement::new("update account set balance = $1 where id = $2", ["7"]);
    statement.params.push(None);
    statement.expecting(Guard::RowsExactly(1))
}

pub fn member(n: u8) -> Member {
    Member {
        txid: txid(n),
        request_hash: RequestHash([n; 32]),
        statements: Arc::from([statement(), Statement::new("select 1", [""; 0])]),
    }
}

pub fn prepare(shard: ShardTag, members: u8) -> Prepare {
    Prepare {
        gid: gid(shard),
        incarnation: Incarnation(4),
        driver: driver(),
        access: Access::ReadWrite,
        isolation: Isolation::RepeatableRead,
        batch_safe: true,
        in_chunks: false,
        members: (0..members).map(member).collect(),
    }
}

pub fn decide() -> Decide {
    Decide {
        batch: batch(1),
        incarnation: Incarnation(3),
        prepared: vec![ShardTag(1), ShardTag(5)],
        principal: alice(),
        isolation: Isolation::ReadCommitted,
        batch_safe: false,
        members: vec![member(1)],
        failed: vec![failed_member()],
    }
}

pub fn failed_member() -> FailedMember {
    FailedMember {
        txid: txid(9),
        request_hash: RequestHash([9; 32]),
        reason: reason(),
    }
}

pub fn reason() -> AbortReason {
    AbortReason {
        code: AbortCode::GuardFailed,
        message: "0 rows, exactly 1 expected".to_owned(),
        shard: Some(ShardTag(1)),
        statement: Some(0),
        sqlstate: Some("23505".to_owned()),
    }
}

pub fn refusal() -> Refusal {
    Refusal::new(RefusalCode::LockTimeout, "a hot row")
}

pub fn failure() -> MemberFailure {
    MemberFailure::Failed(reason())
}

pub fn yes(members: usize) -> Vote {
    Vote::Yes {
        digest: MembersDigest([5; 32]),
        xid: 731,
        reports: vec![MemberReport::Executed; members],
    }
}

pub fn results() -> Vec<Vec<StatementResult>> {
    vec![vec![StatementResult {
        row_count: 1,
        columns: vec![Column {
            name: "balance".to_owned(),
            type_oid: 20,
        }],
        rows: vec![vec![Some("7".to_owned())], vec![None]],
    }]]
}

pub fn decided() -> Decided {
    Decided::Aborted(WhyAborted::Member {
        index: 0,
        failure: failure(),
        recorded: true,
        also: Vec::new(),
    })
}

pub fn finish(shard: ShardTag) -> Vec<Finish> {
    [FinishKind::Commit, FinishKind::Rollback, FinishKind::Commit]
        .map(|kind| Finish {
            gid: gid(shard),
            kind,
        })
        .to_vec()
}

pub fn finished() -> Vec<Finished> {
    vec![
        Finished::Done,
        Finished::Busy,
        Finished::Damaged {
            detail: "no branch row".to_owned(),
        },
    ]
}

pub fn register() -> Vec<RegisterAnswer> {
    let prepared = vec![ShardTag(1)];
    vec![
        RegisterAnswer::Decision(Decision::Commit { prepared }),
        RegisterAnswer::NoRow,
        RegisterAnswer::BelowFloor,
        RegisterAnswer::OtherIncarnation {
            detail: "incarnation 2".to_owned(),
        },
    ]
}

pub fn record_aborts() -> RecordAborts {
    RecordAborts {
        batch: Some(batch(2)),
        incarnation: Incarnation(3),
        principal: alice(),
        aborts: vec![failed_member(), failed_member()],
    }
}

pub fn recorded() -> RecordAnswer {
    RecordAnswer::Recorded(vec![Recorded::Aborted(reason()), Recorded::OtherContent])
}

pub fn status() -> StatusAnswer {
    StatusAnswer::Status(Status::Aborted(reason()))
}

pub fn branch_rows() -> Vec<BranchRow> {
    vec![BranchRow {
        batch: batch(1),
        home: ShardTag(2),
        home_incarnation: Incarnation(3),
    }]
}

pub fn decision_rows() -> Vec<DecisionRow> {
    vec![DecisionRow {
        batch: batch(1),
        decision: Decision::Abort,
    }]
}

pub fn in_doubt() -> Vec<InDoubtBranch> {
    vec![InDoubtBranch {
        gid: gid(ShardTag(1)),
        age_ms: 1234,
        waits_for: "its home".to_owned(),
    }]
}

pub fn session_open(shard: ShardTag) -> SessionOpen {
    SessionOpen {
        gid: gid(shard),
        incarnation: Incarnation(4),
        driver: driver(),
        isolation: Isolation::Serializable,
    }
}

pub fn session_execute() -> SessionExecute {
    SessionExecute {
        batch: batch(1),
        sequence: 0,
        statement: statement(),
        open: Some(session_open(ShardTag(1))),
    }
}
