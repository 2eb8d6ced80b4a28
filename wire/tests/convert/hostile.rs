//! What a peer should not have sent is an error that names the field, and never a panic or a
//! meaning that nobody sent.

use gavel_protocol::message::*;
use gavel_protocol::{Ack, BatchId, Isolation, Principal, ShardMap, ShardTag, Txid};
use gavel_wire::convert::{self, Problem, PublicError};
use gavel_wire::{MalformedMessage, api, participant as wire};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use prost::Message;

use crate::values;

/// Decodes and reads as every message that a peer can send; only panics count.
fn read_as_everything(bytes: &[u8]) {
    macro_rules! read {
        ($($message:ident as $domain:ty,)+) => {
            $(if let Ok(message) = wire::$message::decode(bytes) {
                let _ = <$domain>::try_from(message);
            })+
        };
    }
    read! {
        PrepareRequest as Prepare,
        PrepareResponse as PrepareAnswer,
        DecideRequest as Decide,
        HeadStartRequest as HeadStart,
        HeadStartResponse as HeadStarted,
        DecideResponse as DecideAnswer,
        FinishRequest as Vec<Finish>,
        FinishResponse as Vec<Finished>,
        ResolveResponse as RegisterAnswer,
        LookUpRequest as Vec<BatchId>,
        LookUpDecisionsResponse as Vec<RegisterAnswer>,
        BranchRowsResponse as Vec<BranchRow>,
        DecisionRowsResponse as Vec<DecisionRow>,
        RecordAbortsRequest as RecordAborts,
        RecordAbortsResponse as RecordAnswer,
        StatusRequest as (Txid, Option<Principal>),
        StatusResponse as StatusAnswer,
        SessionOpenRequest as SessionOpen,
        SessionExecuteRequest as SessionExecute,
        SessionStepResponse as SessionStep,
        SessionExecuteResponse as Executed,
        SessionPrepareResponse as Vote,
        SessionCommitResponse as Decided,
        IdentityResponse as ShardIdentity,
        InDoubtResponse as Vec<InDoubtBranch>,
        ResolveNowResponse as Finished,
        RetentionResponse as Retention,
    }
}

proptest! {
    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        read_as_everything(&bytes);
    }

    #[test]
    fn a_damaged_request_never_panics(
        prepare in values::prepare(),
        decide in values::decide(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        length in any::<prop::sample::Index>(),
    ) {
        let encoded = [
            wire::PrepareRequest::from(prepare).encode_to_vec(),
            wire::DecideRequest::from(decide).encode_to_vec(),
        ];
        for mut bytes in encoded {
            for (at, byte) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            read_as_everything(&bytes);
            bytes.truncate(length.index(bytes.len() + 1));
            read_as_everything(&bytes);
        }
    }
}

/// As [`read_as_everything`], for what clients and coordinators say to each other.
fn read_as_everything_public(bytes: &[u8], shards: &ShardMap) {
    if let Ok(request) = api::SubmitRequest::decode(bytes) {
        let _ = convert::ack_from_wire(request.ack);
        let _ = convert::transaction_from_wire(request.branches, request.isolation, shards);
    }
    if let Ok(response) = api::SubmitResponse::decode(bytes) {
        let _ = response.outcome.map(gavel_protocol::Outcome::try_from);
        let _ = convert::branch_results_from_wire(response.results);
    }
    let _ = api::StatusResponse::decode(bytes).map(convert::status_from_wire);
    let _ = api::ListInDoubtResponse::decode(bytes).map(convert::in_doubt_from_wire);
    let _ = api::ListShardsResponse::decode(bytes).map(ShardMap::try_from);
}

proptest! {
    #[test]
    fn a_damaged_public_message_never_panics(
        statement in values::statement(),
        outcome in values::outcome(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let shards = ShardMap::new([("a".parse().unwrap(), ShardTag(1))]).unwrap();
        let branches = vec![gavel_protocol::BranchWork::write(ShardTag(1), vec![statement])];
        let transaction = gavel_protocol::Transaction::new(branches);
        let (branches, isolation) = convert::transaction_to_wire(&transaction, &shards);
        let isolation = Some(isolation.into());
        let encoded = [
            api::SubmitRequest { branches, isolation, ..Default::default() }.encode_to_vec(),
            api::SubmitResponse {
                outcome: Some(convert::outcome_to_wire(outcome, &shards)),
                ..Default::default()
            }
            .encode_to_vec(),
        ];
        for mut bytes in encoded {
            for (at, byte) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            read_as_everything_public(&bytes, &shards);
        }
    }
}

/// The field that a default message lacks.
fn first_missing<T, W>() -> &'static str
where
    W: Default,
    T: TryFrom<W, Error = MalformedMessage>,
{
    match T::try_from(W::default()) {
        Ok(_) => "nothing",
        Err(error) => error.field,
    }
}

#[test]
fn an_empty_message_means_nothing() {
    let fields = [
        first_missing::<Prepare, wire::PrepareRequest>(),
        first_missing::<PrepareAnswer, wire::PrepareResponse>(),
        first_missing::<Vote, wire::Vote>(),
        first_missing::<NoVote, wire::NoVote>(),
        first_missing::<MemberReport, wire::MemberReport>(),
        first_missing::<MemberFailure, wire::MemberFailure>(),
        first_missing::<Decide, wire::DecideRequest>(),
        first_missing::<HeadStart, wire::HeadStartRequest>(),
        first_missing::<HeadStarted, wire::HeadStartResponse>(),
        first_missing::<DecideAnswer, wire::DecideResponse>(),
        first_missing::<Decided, wire::Decided>(),
        first_missing::<WhyAborted, wire::WhyAborted>(),
        first_missing::<Recorded, wire::Recorded>(),
        first_missing::<Finish, wire::Finish>(),
        first_missing::<Finished, wire::Finished>(),
        first_missing::<Decision, wire::Decision>(),
        first_missing::<RegisterAnswer, wire::RegisterAnswer>(),
        first_missing::<RegisterAnswer, wire::ResolveResponse>(),
        first_missing::<BranchRow, wire::BranchRow>(),
        first_missing::<RecordAborts, wire::RecordAbortsRequest>(),
        first_missing::<RecordAnswer, wire::RecordAbortsResponse>(),
        first_missing::<(Txid, Option<Principal>), wire::StatusRequest>(),
        first_missing::<StatusAnswer, wire::StatusResponse>(),
        first_missing::<SessionOpen, wire::SessionOpenRequest>(),
        first_missing::<SessionExecute, wire::SessionExecuteRequest>(),
        first_missing::<SessionStep, wire::SessionStepResponse>(),
        first_missing::<Executed, wire::SessionExecuteResponse>(),
        first_missing::<ShardIdentity, wire::IdentityResponse>(),
        first_missing::<Retention, wire::RetentionResponse>(),
        first_missing::<gavel_protocol::Outcome, api::Outcome>(),
        first_missing::<gavel_protocol::Guard, api::Guard>(),
    ];
    assert!(!fields.contains(&"nothing"), "{fields:?}");
}

fn a_prepare() -> wire::PrepareRequest {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let prepare = values::prepare().new_tree(&mut runner).unwrap().current();
    prepare.into()
}

fn problem(request: wire::PrepareRequest) -> (&'static str, Problem) {
    let error = Prepare::try_from(request).unwrap_err();
    (error.field, error.problem)
}

#[test]
fn what_was_never_written_is_not_read_as_zero_or_false() {
    let missing = |field, damage: fn(&mut wire::PrepareRequest)| {
        let mut request = a_prepare();
        damage(&mut request);
        assert_eq!(problem(request), (field, Problem::Missing));
    };
    missing("PrepareRequest.incarnation", |it| it.incarnation = None);
    missing("PrepareRequest.batch_safe", |it| it.batch_safe = None);
    missing("PrepareRequest.access", |it| it.access = 0);
    missing("PrepareRequest.isolation", |it| it.isolation = 0);
}

#[test]
fn values_of_a_later_version_are_errors() {
    let mut request = a_prepare();
    request.access = 77;
    let unknown = ("PrepareRequest.access", Problem::UnknownValue(77));
    assert_eq!(problem(request), unknown);

    let refusal = api::Refusal {
        code: "not_invented_yet".to_owned(),
        message: String::new(),
    };
    let error = gavel_protocol::Refusal::try_from(refusal).unwrap_err();
    assert_eq!(error.field, "Refusal.code");
}

#[test]
fn a_statement_cannot_point_beyond_the_texts() {
    let mut request = a_prepare();
    request.sql_texts = vec!["select 1".to_owned()];
    request.members = vec![wire::Member {
        txid: convert::id_bytes(Txid::mint(1, ShardTag(1), [1; 16])),
        request_hash: vec![0; 32].into(),
        statements: vec![wire::Statement {
            sql: Some(1),
            ..Default::default()
        }],
    }];
    let beyond = ("Statement.sql", Problem::OutOfRange);
    assert_eq!(problem(request.clone()), beyond);
    request.members[0].statements[0].sql = None;
    let absent = ("Statement.sql", Problem::Missing);
    assert_eq!(problem(request.clone()), absent);
    request.members[0].statements[0].sql = Some(0);
    assert!(Prepare::try_from(request).is_ok());
}

#[test]
fn a_public_request_has_documented_defaults_and_no_others() {
    assert_eq!(convert::ack_from_wire(None), Ok(Ack::Applied));
    assert_eq!(
        convert::isolation_from_wire(None),
        Ok(Isolation::ReadCommitted)
    );
    assert!(convert::ack_from_wire(Some(0)).is_err());
    assert!(convert::isolation_from_wire(Some(9)).is_err());

    let shards = ShardMap::new([("a".parse().unwrap(), ShardTag(1))]).unwrap();
    let branch = api::Branch {
        shard: "b".to_owned(),
        ..Default::default()
    };
    let error = convert::transaction_from_wire(vec![branch], None, &shards).unwrap_err();
    assert_eq!(error, PublicError::UnknownShard("b".to_owned()));
}

#[test]
fn texts_are_sent_once() {
    let statement = |text: &str| gavel_protocol::Statement::new(text, ["1"]);
    let members = (0..100u8).map(|n| Member {
        txid: Txid::mint(1, ShardTag(1), [n; 16]),
        request_hash: gavel_protocol::RequestHash([n; 32]),
        statements: [statement("update a"), statement("insert b")].into(),
    });
    let mut prepare = Prepare::try_from(a_prepare()).unwrap();
    prepare.members = members.collect();
    let request = wire::PrepareRequest::from(prepare);
    assert_eq!(request.sql_texts, ["update a", "insert b"]);
    let prepare = Prepare::try_from(request).unwrap();
    let sql = |member: usize| &prepare.members[member].statements[1].sql;
    assert!(std::sync::Arc::ptr_eq(sql(0), sql(99)));
}
