//! Bytes to message to domain value, and back: what was understood is said again in the same
//! way.

use std::fmt::Debug;

use gavel_protocol::message::*;
use gavel_protocol::outcome::StatementResult;
use gavel_protocol::{BatchId, Outcome, Principal, ShardMap, Txid};
use gavel_wire::convert;
use gavel_wire::{MalformedMessage, api, participant as wire};
use prost::Message;

use crate::engine::shards;

fn there_and_back<T, W>(bytes: &[u8])
where
    W: From<T> + Message + Default,
    T: TryFrom<W, Error = MalformedMessage> + Clone + PartialEq + Debug,
{
    let Ok(message) = W::decode(bytes) else {
        return;
    };
    let Ok(value) = T::try_from(message) else {
        return;
    };
    let again = W::from(value.clone()).encode_to_vec();
    let again = W::decode(again.as_slice()).expect("what was encoded decodes");
    assert_eq!(T::try_from(again), Ok(value));
}

/// As everything that coordinators and participants say to each other.
pub fn participant(bytes: &[u8]) {
    there_and_back::<Prepare, wire::PrepareRequest>(bytes);
    there_and_back::<PrepareAnswer, wire::PrepareResponse>(bytes);
    there_and_back::<Decide, wire::DecideRequest>(bytes);
    there_and_back::<DecideAnswer, wire::DecideResponse>(bytes);
    there_and_back::<Vec<Finish>, wire::FinishRequest>(bytes);
    there_and_back::<Vec<Finished>, wire::FinishResponse>(bytes);
    there_and_back::<RegisterAnswer, wire::RegisterAnswer>(bytes);
    there_and_back::<Vec<BatchId>, wire::LookUpRequest>(bytes);
    there_and_back::<Vec<RegisterAnswer>, wire::LookUpDecisionsResponse>(bytes);
    there_and_back::<Vec<BranchRow>, wire::BranchRowsResponse>(bytes);
    there_and_back::<Vec<DecisionRow>, wire::DecisionRowsResponse>(bytes);
    there_and_back::<RecordAborts, wire::RecordAbortsRequest>(bytes);
    there_and_back::<RecordAnswer, wire::RecordAbortsResponse>(bytes);
    there_and_back::<(Txid, Option<Principal>), wire::StatusRequest>(bytes);
    there_and_back::<StatusAnswer, wire::StatusResponse>(bytes);
    there_and_back::<SessionOpen, wire::SessionOpenRequest>(bytes);
    there_and_back::<SessionExecute, wire::SessionExecuteRequest>(bytes);
    there_and_back::<SessionStep, wire::SessionStepResponse>(bytes);
    there_and_back::<Executed, wire::SessionExecuteResponse>(bytes);
    there_and_back::<ShardIdentity, wire::IdentityResponse>(bytes);
    there_and_back::<Vec<InDoubtBranch>, wire::InDoubtResponse>(bytes);
    there_and_back::<Retention, wire::RetentionResponse>(bytes);
}

/// As what clients and coordinators say to each other.
pub fn public(bytes: &[u8]) {
    there_and_back::<gavel_protocol::Statement, api::Statement>(bytes);
    there_and_back::<InDoubtBranch, api::InDoubtBranch>(bytes);
    there_and_back::<StatementResult, api::StatementResult>(bytes);
    let shards = shards();
    if let Ok(request) = api::SubmitRequest::decode(bytes) {
        transaction(request, &shards);
    }
    if let Ok(message) = api::Outcome::decode(bytes)
        && let Ok(outcome) = Outcome::try_from(message)
    {
        let again = convert::outcome_to_wire(outcome.clone(), &shards);
        assert_eq!(Outcome::try_from(again), Ok(outcome));
    }
    if let Ok(response) = api::StatusResponse::decode(bytes) {
        let _ = convert::status_from_wire(response);
    }
    if let Ok(response) = api::ListInDoubtResponse::decode(bytes)
        && let Ok(list) = convert::in_doubt_from_wire(response)
    {
        let again = convert::in_doubt_to_wire(list.clone(), &shards);
        assert_eq!(convert::in_doubt_from_wire(again), Ok(list));
    }
    if let Ok(response) = api::ListShardsResponse::decode(bytes)
        && let Ok(map) = ShardMap::try_from(response)
    {
        let again = api::ListShardsResponse::from(&map);
        assert_eq!(ShardMap::try_from(again), Ok(map));
    }
}

fn transaction(request: api::SubmitRequest, shards: &ShardMap) {
    let _ = convert::ack_from_wire(request.ack);
    let read = convert::transaction_from_wire(request.branches, request.isolation, shards);
    if let Ok(transaction) = read {
        let (branches, isolation) = convert::transaction_to_wire(&transaction, shards);
        let again = convert::transaction_from_wire(branches, Some(isolation.into()), shards);
        assert_eq!(again, Ok(transaction));
    }
}
