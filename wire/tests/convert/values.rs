//! Any value of the domain types that travel.

use std::sync::Arc;

use gavel_protocol::message::*;
use gavel_protocol::outcome::{Column, StatementResult, Status};
use gavel_protocol::{
    AbortCode, AbortReason, Access, BatchId, DriverId, Gid, Guard, Incarnation, Isolation,
    MembersDigest, Outcome, Principal, Refusal, RefusalCode, RequestHash, ShardTag, Statement,
    Txid,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use uuid::Uuid;

pub fn tag() -> impl Strategy<Value = ShardTag> {
    any::<u16>().prop_map(ShardTag)
}

pub fn incarnation() -> impl Strategy<Value = Incarnation> {
    any::<u32>().prop_map(Incarnation)
}

pub fn batch() -> impl Strategy<Value = BatchId> {
    (0u64..1 << 48, any::<[u8; 16]>()).prop_map(|(ms, random)| BatchId::mint(ms, random))
}

pub fn txid() -> impl Strategy<Value = Txid> {
    (0u64..1 << 48, tag(), any::<[u8; 16]>())
        .prop_map(|(ms, home, random)| Txid::mint(ms, home, random))
}

pub fn driver() -> impl Strategy<Value = DriverId> {
    any::<u128>().prop_map(|bits| DriverId(Uuid::from_u128(bits)))
}

pub fn principal() -> impl Strategy<Value = Principal> {
    "[a-z@. ]{1,20}".prop_map(|text| text.parse().unwrap())
}

pub fn gid() -> impl Strategy<Value = Gid> {
    ("[a-z][a-z0-9_]{0,31}", tag(), incarnation(), batch(), tag()).prop_map(
        |(deployment, home, home_incarnation, batch, shard)| Gid {
            deployment: deployment.parse().unwrap(),
            home,
            home_incarnation,
            batch,
            shard,
        },
    )
}

pub fn isolation() -> impl Strategy<Value = Isolation> {
    prop_oneof![
        Just(Isolation::ReadCommitted),
        Just(Isolation::RepeatableRead),
        Just(Isolation::Serializable),
    ]
}

pub fn access() -> impl Strategy<Value = Access> {
    prop_oneof![Just(Access::ReadWrite), Just(Access::ReadOnly)]
}

fn text() -> impl Strategy<Value = String> {
    ".{0,12}"
}

pub fn statement() -> impl Strategy<Value = Statement> {
    let guard = prop_oneof![
        any::<u64>().prop_map(Guard::RowsExactly),
        any::<u64>().prop_map(Guard::RowsAtLeast),
    ];
    // Few texts, so that members share them.
    let sql = prop_oneof![Just("select 1".to_owned()), text()];
    (sql, vec(option::of(text()), 0..3), option::of(guard)).prop_map(|(sql, params, guard)| {
        Statement {
            sql: sql.into(),
            params,
            guard,
        }
    })
}

pub fn member() -> impl Strategy<Value = Member> {
    (txid(), any::<[u8; 32]>(), vec(statement(), 0..4)).prop_map(|(txid, hash, statements)| {
        Member {
            txid,
            request_hash: RequestHash(hash),
            statements: Arc::from(statements),
        }
    })
}

pub fn reason() -> impl Strategy<Value = AbortReason> {
    (
        proptest::sample::select(AbortCode::ALL),
        text(),
        option::of(tag()),
        option::of(any::<u32>()),
        option::of(text()),
    )
        .prop_map(|(code, message, shard, statement, sqlstate)| AbortReason {
            code,
            message,
            shard,
            statement,
            sqlstate,
        })
}

pub fn refusal() -> impl Strategy<Value = Refusal> {
    (proptest::sample::select(RefusalCode::ALL), text())
        .prop_map(|(code, message)| Refusal::new(code, message))
}

pub fn failed_member() -> impl Strategy<Value = FailedMember> {
    (txid(), any::<[u8; 32]>(), reason()).prop_map(|(txid, hash, reason)| FailedMember {
        txid,
        request_hash: RequestHash(hash),
        reason,
    })
}

pub fn report() -> impl Strategy<Value = MemberReport> {
    prop_oneof![
        Just(MemberReport::Executed),
        reason().prop_map(MemberReport::Failed),
        refusal().prop_map(MemberReport::Refused),
        Just(MemberReport::NotRun),
    ]
}

pub fn failure() -> impl Strategy<Value = MemberFailure> {
    prop_oneof![
        reason().prop_map(MemberFailure::Failed),
        refusal().prop_map(MemberFailure::Refused),
    ]
}

pub fn result() -> impl Strategy<Value = StatementResult> {
    let column = (text(), any::<u32>()).prop_map(|(name, type_oid)| Column { name, type_oid });
    (any::<u64>(), vec(column, 0..3)).prop_flat_map(|(row_count, columns)| {
        let row = vec(option::of(text()), columns.len());
        vec(row, 0..3).prop_map(move |rows| StatementResult {
            row_count,
            columns: columns.clone(),
            rows,
        })
    })
}

pub fn results() -> impl Strategy<Value = Vec<Vec<StatementResult>>> {
    vec(vec(result(), 0..3), 0..3)
}

pub fn prepare() -> impl Strategy<Value = Prepare> {
    (
        gid(),
        incarnation(),
        driver(),
        access(),
        isolation(),
        any::<[bool; 2]>(),
        vec(member(), 0..5),
    )
        .prop_map(
            |(gid, incarnation, driver, access, isolation, [batch_safe, in_chunks], members)| {
                Prepare {
                    gid,
                    incarnation,
                    driver,
                    access,
                    isolation,
                    batch_safe,
                    in_chunks,
                    members,
                }
            },
        )
}

pub fn vote() -> impl Strategy<Value = Vote> {
    let reports = || vec(report(), 0..4);
    prop_oneof![
        (any::<[u8; 32]>(), any::<u64>(), reports()).prop_map(|(digest, xid, reports)| {
            Vote::Yes {
                digest: MembersDigest(digest),
                xid,
                reports,
            }
        }),
        reports().prop_map(|reports| Vote::ReadOnly { reports }),
        reports().prop_map(|reports| Vote::No(NoVote::NoneExecuted { reports })),
        failure().prop_map(|failure| Vote::No(NoVote::NoCulprit(failure))),
        refusal().prop_map(|refusal| Vote::No(NoVote::Refused(refusal))),
        text().prop_map(|detail| Vote::Unknown { detail }),
    ]
}

pub fn prepare_answer() -> impl Strategy<Value = PrepareAnswer> {
    (vote(), results()).prop_map(|(vote, results)| PrepareAnswer { vote, results })
}

pub fn head_start() -> impl Strategy<Value = HeadStart> {
    (decide(), driver(), any::<bool>()).prop_map(|(decide, driver, leave_out)| HeadStart {
        decide,
        driver,
        leave_out,
    })
}

pub fn head_started() -> impl Strategy<Value = HeadStarted> {
    let not_executed =
        report().prop_filter("it is left out", |report| *report != MemberReport::Executed);
    let left_out = btree_map(0..500_usize, not_executed, 0..4);
    prop_oneof![
        (left_out, results())
            .prop_map(|(left_out, results)| HeadStarted::Ready { left_out, results }),
        text().prop_map(|detail| HeadStarted::Not { detail }),
    ]
}

pub fn decide() -> impl Strategy<Value = Decide> {
    (
        (batch(), incarnation(), vec(tag(), 0..4), principal()),
        (isolation(), any::<bool>()),
        (vec(member(), 0..4), vec(failed_member(), 0..3)),
    )
        .prop_map(
            |(
                (batch, incarnation, prepared, principal),
                (isolation, batch_safe),
                (members, failed),
            )| {
                Decide {
                    batch,
                    incarnation,
                    prepared,
                    principal,
                    isolation,
                    batch_safe,
                    members,
                    failed,
                }
            },
        )
}

pub fn recorded() -> impl Strategy<Value = Recorded> {
    prop_oneof![
        Just(Recorded::Committed),
        reason().prop_map(Recorded::Aborted),
        Just(Recorded::OtherContent),
        Just(Recorded::OtherPrincipal),
    ]
}

pub fn decided() -> impl Strategy<Value = Decided> {
    let known = (txid(), recorded()).prop_map(|(txid, record)| KnownTxid { txid, record });
    let why = prop_oneof![
        (
            any::<u32>(),
            failure(),
            any::<bool>(),
            vec(any::<u32>(), 0..3)
        )
            .prop_map(|(index, failure, recorded, also)| WhyAborted::Member {
                index: index as usize,
                failure,
                recorded,
                also: also.into_iter().map(|index| index as usize).collect(),
            }),
        vec(known, 0..3).prop_map(WhyAborted::Known),
        (failure(), any::<bool>())
            .prop_map(|(failure, recorded)| WhyAborted::NoCulprit { failure, recorded }),
        refusal().prop_map(WhyAborted::Refused),
    ];
    prop_oneof![
        Just(Decided::Committed),
        why.prop_map(Decided::Aborted),
        text().prop_map(|detail| Decided::Unknown { detail }),
    ]
}

pub fn decide_answer() -> impl Strategy<Value = DecideAnswer> {
    (decided(), results()).prop_map(|(decided, results)| DecideAnswer { decided, results })
}

pub fn finish() -> impl Strategy<Value = Finish> {
    let kind = prop_oneof![Just(FinishKind::Commit), Just(FinishKind::Rollback)];
    (gid(), kind).prop_map(|(gid, kind)| Finish { gid, kind })
}

pub fn finished() -> impl Strategy<Value = Finished> {
    prop_oneof![
        Just(Finished::Done),
        Just(Finished::Busy),
        text().prop_map(|detail| Finished::Damaged { detail }),
        text().prop_map(|detail| Finished::Unknown { detail }),
    ]
}

pub fn decision() -> impl Strategy<Value = Decision> {
    prop_oneof![
        vec(tag(), 0..4).prop_map(|prepared| Decision::Commit { prepared }),
        Just(Decision::Abort),
    ]
}

pub fn register_answer() -> impl Strategy<Value = RegisterAnswer> {
    prop_oneof![
        decision().prop_map(RegisterAnswer::Decision),
        Just(RegisterAnswer::NoRow),
        Just(RegisterAnswer::BelowFloor),
        text().prop_map(|detail| RegisterAnswer::Unreachable { detail }),
        text().prop_map(|detail| RegisterAnswer::OtherIncarnation { detail }),
    ]
}

pub fn record_aborts() -> impl Strategy<Value = RecordAborts> {
    (
        option::of(batch()),
        incarnation(),
        principal(),
        vec(failed_member(), 0..3),
    )
        .prop_map(|(batch, incarnation, principal, aborts)| RecordAborts {
            batch,
            incarnation,
            principal,
            aborts,
        })
}

pub fn record_answer() -> impl Strategy<Value = RecordAnswer> {
    prop_oneof![
        vec(recorded(), 0..3).prop_map(RecordAnswer::Recorded),
        refusal().prop_map(RecordAnswer::Refused),
        text().prop_map(|detail| RecordAnswer::Unknown { detail }),
    ]
}

pub fn status() -> impl Strategy<Value = Status> {
    prop_oneof![
        Just(Status::Committed),
        reason().prop_map(Status::Aborted),
        Just(Status::NoneYet),
        Just(Status::TooOld),
    ]
}

pub fn status_answer() -> impl Strategy<Value = StatusAnswer> {
    prop_oneof![
        status().prop_map(StatusAnswer::Status),
        Just(StatusAnswer::OtherPrincipal),
        text().prop_map(|detail| StatusAnswer::Unreachable { detail }),
    ]
}

pub fn session_open() -> impl Strategy<Value = SessionOpen> {
    (gid(), incarnation(), driver(), isolation()).prop_map(
        |(gid, incarnation, driver, isolation)| SessionOpen {
            gid,
            incarnation,
            driver,
            isolation,
        },
    )
}

pub fn session_execute() -> impl Strategy<Value = SessionExecute> {
    let open = proptest::option::of(session_open());
    (batch(), any::<u64>(), statement(), open).prop_map(|(batch, sequence, statement, open)| {
        SessionExecute {
            batch,
            sequence,
            statement,
            open,
        }
    })
}

pub fn session_step() -> impl Strategy<Value = SessionStep> {
    prop_oneof![
        Just(SessionStep::Done),
        failure().prop_map(SessionStep::Failed),
        refusal().prop_map(SessionStep::Lost),
    ]
}

pub fn executed() -> impl Strategy<Value = Executed> {
    prop_oneof![
        result().prop_map(Executed::Done),
        failure().prop_map(Executed::Failed),
        refusal().prop_map(Executed::Lost),
    ]
}

pub fn identity() -> impl Strategy<Value = ShardIdentity> {
    let name = "[a-z][a-z0-9_]{0,31}";
    (name, name, tag(), incarnation()).prop_map(|(deployment, name, tag, incarnation)| {
        ShardIdentity {
            deployment: deployment.parse().unwrap(),
            name: name.parse().unwrap(),
            tag,
            incarnation,
        }
    })
}

pub fn retention() -> impl Strategy<Value = Retention> {
    any::<[u64; 4]>().prop_map(|[a, b, c, d]| Retention {
        floor_ms: a,
        verified_floor_ms: b,
        branch_floor_ms: c,
        dropped_floor_ms: d,
    })
}

pub fn in_doubt() -> impl Strategy<Value = InDoubtBranch> {
    (gid(), any::<u64>(), text()).prop_map(|(gid, age_ms, waits_for)| InDoubtBranch {
        gid,
        age_ms,
        waits_for,
    })
}

pub fn branch_row() -> impl Strategy<Value = BranchRow> {
    (batch(), tag(), incarnation()).prop_map(|(batch, home, home_incarnation)| BranchRow {
        batch,
        home,
        home_incarnation,
    })
}

pub fn decision_row() -> impl Strategy<Value = DecisionRow> {
    (batch(), decision()).prop_map(|(batch, decision)| DecisionRow { batch, decision })
}

pub fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        any::<bool>().prop_map(|applied| Outcome::Committed { applied }),
        reason().prop_map(Outcome::Aborted),
        refusal().prop_map(Outcome::Refused),
        text().prop_map(|detail| Outcome::InDoubt { detail }),
    ]
}
