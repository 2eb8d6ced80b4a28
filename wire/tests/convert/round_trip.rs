//! What is written, encoded, decoded and read is what was meant.

use gavel_protocol::message::*;
use gavel_protocol::{BatchId, Outcome, Principal, ShardMap, Txid};
use gavel_wire::{MalformedMessage, api, convert, participant as wire};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;

use crate::values;

/// Domain value to message to bytes to message to domain value.
fn there_and_back<T, W>(value: T) -> Result<T, MalformedMessage>
where
    W: From<T> + Message + Default,
    T: TryFrom<W, Error = MalformedMessage>,
{
    let bytes = W::from(value).encode_to_vec();
    W::decode(bytes.as_slice())
        .expect("what was encoded decodes")
        .try_into()
}

macro_rules! round_trips {
    ($($name:ident: $strategy:expr => $domain:ty as $message:ty;)+) => {
        proptest! {
            #![proptest_config(ProptestConfig::with_cases(64))]
            $(#[test]
            fn $name(value in $strategy) {
                let back = there_and_back::<$domain, $message>(value.clone());
                prop_assert_eq!(back, Ok(value));
            })+
        }
    };
}

round_trips! {
    prepare: values::prepare() => Prepare as wire::PrepareRequest;
    prepare_answer: values::prepare_answer() => PrepareAnswer as wire::PrepareResponse;
    decide: values::decide() => Decide as wire::DecideRequest;
    head_start: values::head_start() => HeadStart as wire::HeadStartRequest;
    head_started: values::head_started() => HeadStarted as wire::HeadStartResponse;
    decide_answer: values::decide_answer() => DecideAnswer as wire::DecideResponse;
    finish: vec(values::finish(), 0..4) => Vec<Finish> as wire::FinishRequest;
    finished: vec(values::finished(), 0..4) => Vec<Finished> as wire::FinishResponse;
    register_answer: values::register_answer() => RegisterAnswer as wire::RegisterAnswer;
    look_up: vec(values::batch(), 0..4) => Vec<BatchId> as wire::LookUpRequest;
    look_up_answers: vec(values::register_answer(), 0..4)
        => Vec<RegisterAnswer> as wire::LookUpDecisionsResponse;
    branch_rows: vec(values::branch_row(), 0..4) => Vec<BranchRow> as wire::BranchRowsResponse;
    decision_rows: vec(values::decision_row(), 0..4)
        => Vec<DecisionRow> as wire::DecisionRowsResponse;
    record_aborts: values::record_aborts() => RecordAborts as wire::RecordAbortsRequest;
    record_answer: values::record_answer() => RecordAnswer as wire::RecordAbortsResponse;
    status_question: (values::txid(), option::of(values::principal()))
        => (Txid, Option<Principal>) as wire::StatusRequest;
    status_answer: values::status_answer() => StatusAnswer as wire::StatusResponse;
    session_open: values::session_open() => SessionOpen as wire::SessionOpenRequest;
    session_execute: values::session_execute() => SessionExecute as wire::SessionExecuteRequest;
    session_step: values::session_step() => SessionStep as wire::SessionStepResponse;
    executed: values::executed() => Executed as wire::SessionExecuteResponse;
    identity: values::identity() => ShardIdentity as wire::IdentityResponse;
    in_doubt: vec(values::in_doubt(), 0..4) => Vec<InDoubtBranch> as wire::InDoubtResponse;
    retention: values::retention() => Retention as wire::RetentionResponse;
    public_statement: values::statement() => gavel_protocol::Statement as api::Statement;
    public_in_doubt: values::in_doubt() => InDoubtBranch as api::InDoubtBranch;
}

fn shards() -> ShardMap {
    let named = [("a", 1), ("b", 2)];
    ShardMap::new(named.map(|(name, tag)| (name.parse().unwrap(), gavel_protocol::ShardTag(tag))))
        .unwrap()
}

proptest! {
    #[test]
    fn public_outcome(outcome in values::outcome()) {
        let message = convert::outcome_to_wire(outcome.clone(), &shards());
        prop_assert_eq!(Outcome::try_from(message), Ok(outcome));
    }

    #[test]
    fn public_status(
        txid in values::txid(),
        status in prop_oneof![
            values::status().prop_map(Ok),
            values::refusal().prop_map(Err),
        ],
    ) {
        let message = convert::status_to_wire(txid, status.clone(), &shards());
        prop_assert_eq!(convert::txid_from_wire(&message.txid), Ok(txid));
        prop_assert_eq!(convert::status_from_wire(message), Ok(status));
    }

    #[test]
    fn public_transaction(
        isolation in values::isolation(),
        work in vec((values::access(), vec(values::statement(), 0..3)), 0..=2),
    ) {
        let branches = (1u16..).zip(work).map(|(tag, (access, statements))| {
            gavel_protocol::BranchWork {
                shard: gavel_protocol::ShardTag(tag),
                access,
                statements: statements.into(),
            }
        });
        let transaction = gavel_protocol::Transaction {
            isolation,
            branches: branches.collect(),
        };
        let (branches, isolation) = convert::transaction_to_wire(&transaction, &shards());
        let back = convert::transaction_from_wire(branches, Some(isolation.into()), &shards());
        prop_assert_eq!(back, Ok(transaction));
    }
}
