//! What a participant measures, through the `metrics` facade: whoever installs a recorder gets
//! it, and without one it costs a few nanoseconds.
//!
//! Handles are made once per shard, so that nothing is looked up on the hot path. Labels have
//! few values each; what grows with traffic (txids, batches, clients) is never one.

mod described;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gavel_protocol::message::{Decided, FinishKind, Finished, HeadStarted, Vote};
use gavel_protocol::recovery::DamageKind;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

pub use self::described::{Kind, Metric};
use crate::pg::pool::PoolStatus;

/// Everything that is measured here, for the documentation and for dashboards' tests.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "gavel_participant_calls_total",
        kind: Kind::Counter,
        labels: &["shard", "call", "result"],
        help: "Calls of coordinators, by what came of them",
    },
    Metric {
        name: "gavel_participant_call_seconds",
        kind: Kind::Histogram,
        labels: &["shard", "call"],
        help: "How long calls of coordinators took here",
    },
    Metric {
        name: "gavel_prepared_branches",
        kind: Kind::Gauge,
        labels: &["shard"],
        help: "Branches of this deployment that were prepared at the last scan",
    },
    Metric {
        name: "gavel_in_doubt_branches",
        kind: Kind::Gauge,
        labels: &["shard"],
        help: "Those of them whose coordinator is gone or has taken too long",
    },
    Metric {
        name: "gavel_oldest_prepared_seconds",
        kind: Kind::Gauge,
        labels: &["shard"],
        help: "Age of the oldest prepared branch of this deployment at the last scan, 0 if there was none",
    },
    Metric {
        name: "gavel_resolutions_total",
        kind: Kind::Counter,
        labels: &["shard", "cause", "action"],
        help: "Branches that participants finished without their coordinator",
    },
    Metric {
        name: "gavel_stuck_branches",
        kind: Kind::Gauge,
        labels: &["shard"],
        help: "Prepared branches whose decision is not kept any more: an operator must end them",
    },
    Metric {
        name: "gavel_scan_last_success_timestamp_seconds",
        kind: Kind::Gauge,
        labels: &["shard"],
        help: "When the shard was last scanned for prepared branches",
    },
    Metric {
        name: "gavel_damage_found_total",
        kind: Kind::Counter,
        labels: &["shard", "kind"],
        help: "Broken atomicity found by this process and not known before",
    },
    Metric {
        name: "gavel_damage_open",
        kind: Kind::Gauge,
        labels: &["shard"],
        help: "Records of broken atomicity that nobody has acknowledged",
    },
    Metric {
        name: "gavel_prepared_slots_used",
        kind: Kind::Gauge,
        labels: &["shard"],
        help: "Prepared transactions on the shard's server, whoever's they are and in any database",
    },
    Metric {
        name: "gavel_prepared_slots",
        kind: Kind::Gauge,
        labels: &["shard"],
        help: "max_prepared_transactions of the shard's server",
    },
    Metric {
        name: "gavel_foreign_prepared_oldest_seconds",
        kind: Kind::Gauge,
        labels: &["shard"],
        help: "Age of the oldest prepared transaction on the server that is not Gavel's, 0 if there is none",
    },
    Metric {
        name: "gavel_drivers_attending",
        kind: Kind::Gauge,
        labels: &["shard"],
        help: "Coordinators that are in sight of this participant",
    },
    Metric {
        name: "gavel_pool_connections",
        kind: Kind::Gauge,
        labels: &["shard", "pool", "state"],
        help: "Connections to PostgreSQL, by kind of work: idle and busy",
    },
    Metric {
        name: "gavel_pool_connections_max",
        kind: Kind::Gauge,
        labels: &["shard", "pool"],
        help: "How many there may be",
    },
    Metric {
        name: "gavel_pool_waiting",
        kind: Kind::Gauge,
        labels: &["shard", "pool"],
        help: "Work that waits for a connection",
    },
    Metric {
        name: "gavel_audit_last_success_timestamp_seconds",
        kind: Kind::Gauge,
        labels: &["shard"],
        help: "When the auditor last compared this shard with all others",
    },
    Metric {
        name: "gavel_audit_rows_total",
        kind: Kind::Counter,
        labels: &["shard"],
        help: "Rows that the auditor has compared",
    },
    Metric {
        name: "gavel_retention_last_success_timestamp_seconds",
        kind: Kind::Gauge,
        labels: &["shard"],
        help: "When retention last did all that it had to do",
    },
    Metric {
        name: "gavel_retention_dropped_partitions_total",
        kind: Kind::Counter,
        labels: &["shard"],
        help: "Partitions (days) of decisions and branch rows that retention has dropped",
    },
];

/// The meters of one shard. Cheap to clone.
#[derive(Clone)]
pub struct Meters {
    shard: String,
    /// Branches prepared.
    pub(crate) prepare: Call,
    /// Batches decided at home.
    pub(crate) decide: Call,
    /// Home's work ahead of the votes.
    pub(crate) head_start: Call,
    /// Branches finished.
    pub(crate) finish: Call,
    /// What the last scan saw.
    pub(crate) scanned: Scanned,
    /// When the scan last succeeded.
    pub(crate) scan_succeeded: Stamp,
    /// When the audit last succeeded.
    pub(crate) audit_succeeded: Stamp,
    /// Rows compared by the auditor.
    pub(crate) audit_rows: Counter,
    /// When retention last succeeded.
    pub(crate) retention_succeeded: Stamp,
    /// Partitions dropped by retention.
    pub(crate) retention_partitions: Counter,
    /// What the shard's server says of itself.
    pub(crate) vitals: Vitals,
    /// Coordinators in sight.
    pub(crate) drivers: Gauge,
}

/// A kind of call.
#[derive(Clone)]
pub(crate) struct Call {
    seconds: Histogram,
    results: Vec<(&'static str, Counter)>,
}

impl Call {
    fn new(shard: &str, call: &'static str, results: &[&'static str]) -> Self {
        let counter = |result: &&'static str| {
            let result = *result;
            let made = counter!("gavel_participant_calls_total",
                "shard" => shard.to_owned(), "call" => call, "result" => result);
            (result, made)
        };
        Self {
            seconds: histogram!("gavel_participant_call_seconds",
                "shard" => shard.to_owned(), "call" => call),
            results: results.iter().map(counter).collect(),
        }
    }

    /// A call that began then is over.
    pub(crate) fn took(&self, since: Instant) {
        self.seconds.record(since.elapsed());
    }

    /// Something came of it.
    pub(crate) fn count(&self, result: &str) {
        if let Some((_, counter)) = self.results.iter().find(|(name, _)| *name == result) {
            counter.increment(1);
        }
    }
}

/// A moment, in seconds since 1970 by this machine's clock.
#[derive(Clone)]
pub(crate) struct Stamp(Gauge);

impl Stamp {
    pub(crate) fn now(&self) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        self.0.set(since.unwrap_or_default().as_secs_f64());
    }
}

/// Gauges that a scan sets.
#[derive(Clone)]
pub(crate) struct Scanned {
    /// Branches prepared.
    pub(crate) prepared: Gauge,
    /// Those in doubt.
    pub(crate) in_doubt: Gauge,
    /// Those that nobody but an operator can end.
    pub(crate) stuck: Gauge,
    oldest_seconds: Gauge,
}

impl Scanned {
    /// The age of the oldest prepared branch.
    pub(crate) fn oldest(&self, age: Option<Duration>) {
        self.oldest_seconds
            .set(age.unwrap_or_default().as_secs_f64());
    }
}

/// Gauges of what the server says.
#[derive(Clone)]
pub(crate) struct Vitals {
    /// Unacknowledged records.
    pub(crate) damage_open: Gauge,
    /// Prepared transactions.
    pub(crate) slots_used: Gauge,
    /// How many there may be.
    pub(crate) slots: Gauge,
    /// The oldest that is not ours.
    pub(crate) foreign_oldest_seconds: Gauge,
}

impl Meters {
    /// The meters of the shard of this name.
    pub fn new(shard: &str) -> Self {
        METRICS.iter().for_each(Metric::describe);
        let gauge = |name: &'static str| gauge!(name, "shard" => shard.to_owned());
        let counter = |name: &'static str| counter!(name, "shard" => shard.to_owned());
        let call = |call, results| Call::new(shard, call, results);
        Self {
            prepare: call("prepare", &["yes", "read_only", "no", "unknown"]),
            decide: call("decide", &["committed", "aborted", "unknown"]),
            head_start: call("head_start", &["ready", "not"]),
            finish: call(
                "finish",
                &["committed", "rolled_back", "busy", "damaged", "unknown"],
            ),
            scanned: Scanned {
                prepared: gauge("gavel_prepared_branches"),
                in_doubt: gauge("gavel_in_doubt_branches"),
                stuck: gauge("gavel_stuck_branches"),
                oldest_seconds: gauge("gavel_oldest_prepared_seconds"),
            },
            scan_succeeded: Stamp(gauge("gavel_scan_last_success_timestamp_seconds")),
            audit_succeeded: Stamp(gauge("gavel_audit_last_success_timestamp_seconds")),
            audit_rows: counter("gavel_audit_rows_total"),
            retention_succeeded: Stamp(gauge("gavel_retention_last_success_timestamp_seconds")),
            retention_partitions: counter("gavel_retention_dropped_partitions_total"),
            vitals: Vitals {
                damage_open: gauge("gavel_damage_open"),
                slots_used: gauge("gavel_prepared_slots_used"),
                slots: gauge("gavel_prepared_slots"),
                foreign_oldest_seconds: gauge("gavel_foreign_prepared_oldest_seconds"),
            },
            drivers: gauge("gavel_drivers_attending"),
            shard: shard.to_owned(),
        }
    }

    /// A branch was finished without its coordinator. `cause` is one of a few texts.
    pub(crate) fn resolved(&self, cause: &'static str, action: FinishKind) {
        counter!("gavel_resolutions_total", "shard" => self.shard.clone(),
            "cause" => cause, "action" => kind(action))
        .increment(1);
    }

    /// Damage was found that was not known before.
    pub(crate) fn damaged(&self, kind: DamageKind) {
        counter!("gavel_damage_found_total", "shard" => self.shard.clone(),
            "kind" => kind.as_str())
        .increment(1);
    }

    /// How the connections for a kind of work stand.
    pub(crate) fn pool(&self, pool: &'static str, status: PoolStatus) {
        let gauge =
            |name: &'static str| gauge!(name, "shard" => self.shard.clone(), "pool" => pool);
        for (state, count) in [("idle", status.idle), ("busy", status.busy)] {
            gauge!("gavel_pool_connections", "shard" => self.shard.clone(), "pool" => pool,
                "state" => state)
            .set(count as f64);
        }
        gauge("gavel_pool_connections_max").set(status.max as f64);
        gauge("gavel_pool_waiting").set(status.waiting as f64);
    }
}

pub(crate) fn vote(vote: &Vote) -> &'static str {
    match vote {
        Vote::Yes { .. } => "yes",
        Vote::ReadOnly { .. } => "read_only",
        Vote::No(_) => "no",
        Vote::Unknown { .. } => "unknown",
    }
}

pub(crate) fn decided(decided: &Decided) -> &'static str {
    match decided {
        Decided::Committed => "committed",
        Decided::Aborted(_) => "aborted",
        Decided::Unknown { .. } => "unknown",
    }
}

pub(crate) fn started(started: &HeadStarted) -> &'static str {
    match started {
        HeadStarted::Ready { .. } => "ready",
        HeadStarted::Not { .. } => "not",
    }
}

pub(crate) fn finished(finished: &Finished, action: FinishKind) -> &'static str {
    match finished {
        Finished::Done => kind(action),
        Finished::Busy => "busy",
        Finished::Damaged { .. } => "damaged",
        Finished::Unknown { .. } => "unknown",
    }
}

fn kind(action: FinishKind) -> &'static str {
    match action {
        FinishKind::Commit => "committed",
        FinishKind::Rollback => "rolled_back",
    }
}
