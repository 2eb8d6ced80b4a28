//! How a coordinator stands.

use gavel_protocol::ShardMap;
use gavel_protocol::circuit::State;
use gavel_protocol::standing::{Second, ShardStanding, Standing};

use super::outcome::name_of;
use super::{Checked, MalformedMessage, Problem, required, tag};
use crate::api;

/// How a coordinator stands; `shards` gives the names.
pub fn standing_to_wire(standing: Standing, shards: &ShardMap) -> api::StandingResponse {
    let shard = |shard: ShardStanding| api::ShardStanding {
        shard: name_of(shards, shard.tag),
        shard_tag: Some(u32::from(shard.tag.0)),
        circuit: match shard.circuit {
            State::Closed => api::Circuit::Closed,
            State::HalfOpen => api::Circuit::HalfOpen,
            State::Open => api::Circuit::Open,
        }
        .into(),
        wrong: shard.wrong,
        draining: shard.is_draining,
    };
    api::StandingResponse {
        version: standing.version,
        started_unix_s: standing.started_unix_s,
        in_flight: standing.in_flight,
        in_flight_max: standing.in_flight_max,
        lanes: standing.lanes,
        waiting: standing.waiting,
        deepest: standing.deepest,
        sessions: standing.sessions,
        draining: standing.is_draining,
        shards: standing.shards.into_iter().map(shard).collect(),
        seconds: standing.seconds.into_iter().map(Into::into).collect(),
    }
}

/// Reads how a coordinator stands. Names of shards are for people; the numbers count.
///
/// # Errors
/// When a number or a circuit is malformed.
pub fn standing_from_wire(response: api::StandingResponse) -> Checked<Standing> {
    let shard = |shard: api::ShardStanding| {
        let number = required(shard.shard_tag, "ShardStanding.shard_tag")?;
        let circuit = match api::Circuit::try_from(shard.circuit) {
            Ok(api::Circuit::Closed) => State::Closed,
            Ok(api::Circuit::HalfOpen) => State::HalfOpen,
            Ok(api::Circuit::Open) => State::Open,
            Ok(api::Circuit::Unspecified) | Err(_) => {
                return Err(MalformedMessage {
                    field: "ShardStanding.circuit",
                    problem: Problem::UnknownValue(shard.circuit),
                });
            }
        };
        Ok(ShardStanding {
            tag: tag(number, "ShardStanding.shard_tag")?,
            circuit,
            wrong: shard.wrong,
            is_draining: shard.draining,
        })
    };
    let shards = response.shards.into_iter().map(shard);
    Ok(Standing {
        version: response.version,
        started_unix_s: response.started_unix_s,
        in_flight: response.in_flight,
        in_flight_max: response.in_flight_max,
        lanes: response.lanes,
        waiting: response.waiting,
        deepest: response.deepest,
        sessions: response.sessions,
        is_draining: response.draining,
        shards: shards.collect::<Checked<_>>()?,
        seconds: response.seconds.into_iter().map(Into::into).collect(),
    })
}

impl From<Second> for api::Second {
    fn from(second: Second) -> Self {
        let Second {
            unix_s,
            committed,
            aborted,
            refused,
            in_doubt,
            p50_us,
            p99_us,
            max_us,
        } = second;
        Self {
            unix_s,
            committed,
            aborted,
            refused,
            in_doubt,
            p50_us,
            p99_us,
            max_us,
        }
    }
}

impl From<api::Second> for Second {
    fn from(second: api::Second) -> Self {
        let api::Second {
            unix_s,
            committed,
            aborted,
            refused,
            in_doubt,
            p50_us,
            p99_us,
            max_us,
        } = second;
        Self {
            unix_s,
            committed,
            aborted,
            refused,
            in_doubt,
            p50_us,
            p99_us,
            max_us,
        }
    }
}
