//! What a coordinator measures, through the `metrics` facade; see [`gavel_participant::metrics`].

use std::sync::Weak;
use std::time::{Duration, Instant};

use gavel_participant::metrics::{Kind, Metric};
use gavel_protocol::{Outcome, RefusalCode, ShardTag};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::coordinator::Inner;
use crate::lanes::Approach;
use crate::recent::Recent;

/// Everything that is measured here, for the documentation and for dashboards' tests.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "gavel_transactions_total",
        kind: Kind::Counter,
        labels: &["outcome", "reason"],
        help: "Answers to clients, by outcome and, where it was aborted or refused, the error's code",
    },
    Metric {
        name: "gavel_transaction_seconds",
        kind: Kind::Histogram,
        labels: &["outcome"],
        help: "How long clients waited for these answers",
    },
    Metric {
        name: "gavel_phase_seconds",
        kind: Kind::Histogram,
        labels: &["phase"],
        help: "Where the time goes: in the queue of a lane (each transaction), in prepare, decide and apply (each batch)",
    },
    Metric {
        name: "gavel_batch_members",
        kind: Kind::Histogram,
        labels: &[],
        help: "Transactions in a batch",
    },
    Metric {
        name: "gavel_batches_total",
        kind: Kind::Counter,
        labels: &["approach"],
        help: "Batches, by who worked first: all together, home first or branches first",
    },
    Metric {
        name: "gavel_retries_total",
        kind: Kind::Counter,
        labels: &["what"],
        help: "What was tried again: a question to the register, a commit or rollback of a branch, a member's run",
    },
    Metric {
        name: "gavel_alarms_total",
        kind: Kind::Counter,
        labels: &[],
        help: "What a coordinator saw that must not be; its log has the details",
    },
    Metric {
        name: "gavel_in_flight_transactions",
        kind: Kind::Gauge,
        labels: &[],
        help: "Transactions that this coordinator holds",
    },
    Metric {
        name: "gavel_in_flight_transactions_max",
        kind: Kind::Gauge,
        labels: &[],
        help: "How many it takes before it refuses more",
    },
    Metric {
        name: "gavel_lanes",
        kind: Kind::Gauge,
        labels: &[],
        help: "Lanes that have something to do",
    },
    Metric {
        name: "gavel_lane_waiting_transactions",
        kind: Kind::Gauge,
        labels: &[],
        help: "Transactions that wait in lanes for their batch",
    },
    Metric {
        name: "gavel_lane_waiting_transactions_deepest",
        kind: Kind::Gauge,
        labels: &[],
        help: "How many of them wait in the deepest lane",
    },
    Metric {
        name: "gavel_interactive_transactions",
        kind: Kind::Gauge,
        labels: &[],
        help: "Interactive transactions that are open",
    },
    Metric {
        name: "gavel_draining",
        kind: Kind::Gauge,
        labels: &[],
        help: "Whether an operator has told this coordinator to take nothing new: 1 or 0",
    },
    Metric {
        name: "gavel_shard_in_sight",
        kind: Kind::Gauge,
        labels: &["shard"],
        help: "Whether the shard's participant is in sight: 1 or 0",
    },
    Metric {
        name: "gavel_circuit_state",
        kind: Kind::Gauge,
        labels: &["shard"],
        help: "The shard's circuit: 0 closed, 1 half-open, 2 open (its transactions are refused at once)",
    },
    Metric {
        name: "gavel_circuit_opened_total",
        kind: Kind::Counter,
        labels: &["shard"],
        help: "How often the shard's circuit has opened",
    },
    Metric {
        name: "gavel_authentication_failures_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Calls without a token that is known",
    },
];

/// How often gauges are set that no event sets.
const GAUGES_EVERY: Duration = Duration::from_secs(1);

/// The meters of a coordinator, made once.
pub(crate) struct Meters {
    committed: Counter,
    committed_seconds: Histogram,
    /// Waiting in a lane.
    pub(crate) queue: Histogram,
    /// From the batch's begin until it decides.
    pub(crate) prepare: Histogram,
    /// Until the decision is known.
    pub(crate) decide: Histogram,
    /// Until every shard shows it.
    pub(crate) apply: Histogram,
    /// Members of batches.
    pub(crate) members: Histogram,
    /// Alarms.
    pub(crate) alarms: Counter,
    /// The last minutes, for who looks.
    pub(crate) recent: Recent,
}

impl Meters {
    pub(crate) fn new() -> Self {
        METRICS.iter().for_each(Metric::describe);
        // What alerts look at begins at zero: a series that begins with its first event has not
        // grown yet.
        counter!("gavel_authentication_failures_total").absolute(0);
        let overloaded = RefusalCode::Overloaded.as_str();
        counter!("gavel_transactions_total", "outcome" => "refused", "reason" => overloaded)
            .absolute(0);
        let phase = |phase: &'static str| histogram!("gavel_phase_seconds", "phase" => phase);
        Self {
            committed: counter!("gavel_transactions_total",
                "outcome" => "committed", "reason" => ""),
            committed_seconds: histogram!("gavel_transaction_seconds", "outcome" => "committed"),
            queue: phase("queue"),
            prepare: phase("prepare"),
            decide: phase("decide"),
            apply: phase("apply"),
            members: histogram!("gavel_batch_members"),
            alarms: counter!("gavel_alarms_total"),
            recent: Recent::new(),
        }
    }

    /// A client is told this, and has waited since then.
    pub(crate) fn answered(&self, outcome: &Outcome, since: Instant) {
        self.recent.told(outcome, since.elapsed());
        let (name, reason) = match outcome {
            Outcome::Committed { .. } => {
                self.committed.increment(1);
                self.committed_seconds.record(since.elapsed());
                return;
            }
            Outcome::Aborted(reason) => ("aborted", reason.code.as_str()),
            Outcome::Refused(refusal) => ("refused", refusal.code.as_str()),
            Outcome::InDoubt { .. } => ("in_doubt", ""),
        };
        counter!("gavel_transactions_total", "outcome" => name, "reason" => reason).increment(1);
        histogram!("gavel_transaction_seconds", "outcome" => name).record(since.elapsed());
    }

    /// A batch goes to work.
    pub(crate) fn began(&self, members: usize, approach: Approach) {
        self.members.record(members as f64);
        let approach = match approach {
            Approach::Together => "together",
            Approach::HomeFirst => "home_first",
            Approach::BranchesFirst => "branches_first",
        };
        counter!("gavel_batches_total", "approach" => approach).increment(1);
    }

    /// Something is tried again.
    pub(crate) fn retried(&self, what: &'static str) {
        counter!("gavel_retries_total", "what" => what).increment(1);
    }
}

/// Somebody came without a token that is known.
pub(crate) fn authentication_failed() {
    counter!("gavel_authentication_failures_total").increment(1);
}

/// Keeps the gauges up to date, as long as there is a coordinator.
pub(crate) async fn keep_gauges(inner: Weak<Inner>) {
    let mut interval = tokio::time::interval(GAUGES_EVERY);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let Some(inner) = inner.upgrade() else {
            return;
        };
        set(&gauge!("gavel_in_flight_transactions"), inner.in_flight());
        set(
            &gauge!("gavel_in_flight_transactions_max"),
            inner.limits.in_flight_max,
        );
        let lanes = inner.lanes.depths();
        set(&gauge!("gavel_lanes"), lanes.lanes);
        set(&gauge!("gavel_lane_waiting_transactions"), lanes.waiting);
        set(
            &gauge!("gavel_lane_waiting_transactions_deepest"),
            lanes.deepest,
        );
        set(
            &gauge!("gavel_interactive_transactions"),
            inner.open_sessions(),
        );
        set(&gauge!("gavel_draining"), usize::from(inner.is_draining()));
        let missing = inner.presence.missing();
        for (tag, name) in inner.shards.map().iter() {
            gauge!("gavel_shard_in_sight", "shard" => name.as_str().to_owned())
                .set(in_sight(&missing, tag));
        }
    }
}

fn in_sight(missing: &[ShardTag], tag: ShardTag) -> f64 {
    if missing.contains(&tag) { 0.0 } else { 1.0 }
}

fn set(gauge: &Gauge, count: usize) {
    gauge.set(count as f64);
}
