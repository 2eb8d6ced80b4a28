//! What was seen at one moment.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use gavel_client::{CircuitState, Second, ShardInDoubt, ShardMap, Standing};
use serde_json::{Value, json};

/// Seconds that a rate is taken over.
const RATE_OVER: usize = 5;

/// One look at everything.
pub(super) struct Picture {
    pub(super) coordinators: Vec<Seen>,
    pub(super) shards: Option<Arc<ShardMap>>,
    pub(super) in_doubt: Result<Vec<ShardInDoubt>, String>,
}

/// One coordinator.
pub(super) struct Seen {
    pub(super) endpoint: String,
    pub(super) standing: Result<Standing, String>,
}

/// What a coordinator did in the last seconds, per second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) committed: f64,
    pub(super) aborted: f64,
    pub(super) refused: f64,
    pub(super) in_doubt: f64,
    /// The worst of these seconds, in milliseconds.
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

/// A shard as all coordinators see it.
pub(super) struct ShardRow {
    pub(super) name: String,
    pub(super) tag: u16,
    /// Coordinators that can use it.
    pub(super) well: usize,
    /// What the others say is wrong, each once.
    pub(super) wrong: Vec<String>,
    /// Whether a coordinator takes nothing new for it.
    pub(super) is_draining: bool,
    pub(super) circuits_open: usize,
}

/// A branch that is prepared.
pub(super) struct Doubt {
    pub(super) shard: String,
    pub(super) gid: String,
    pub(super) age_ms: u64,
    pub(super) waits_for: String,
}

impl Default for Picture {
    fn default() -> Self {
        Self {
            coordinators: Vec::new(),
            shards: None,
            in_doubt: Ok(Vec::new()),
        }
    }
}

impl Rates {
    pub(super) fn of(seconds: &[Second]) -> Self {
        let lately = &seconds[seconds.len().saturating_sub(RATE_OVER)..];
        let length = lately.len().max(1) as f64;
        let rate = |of: fn(&Second) -> u64| lately.iter().map(of).sum::<u64>() as f64 / length;
        let worst = |of: fn(&Second) -> u64| {
            let most = lately.iter().map(of).max().unwrap_or(0);
            most as f64 / 1000.0
        };
        Self {
            committed: rate(|second| second.committed),
            aborted: rate(|second| second.aborted),
            refused: rate(|second| second.refused),
            in_doubt: rate(|second| second.in_doubt),
            p50_ms: worst(|second| second.p50_us),
            p99_ms: worst(|second| second.p99_us),
        }
    }
}

impl Picture {
    fn standings(&self) -> impl Iterator<Item = &Standing> {
        self.coordinators
            .iter()
            .filter_map(|seen| seen.standing.as_ref().ok())
    }

    /// Commits per second of all coordinators, oldest first.
    pub(super) fn history(&self) -> Vec<u64> {
        let length = self.standings().map(|one| one.seconds.len()).max();
        let mut sums = vec![0; length.unwrap_or(0)];
        for standing in self.standings() {
            let newest_first = standing.seconds.iter().rev();
            for (sum, second) in sums.iter_mut().rev().zip(newest_first) {
                *sum += second.committed;
            }
        }
        sums
    }

    /// All shards.
    pub(super) fn shard_rows(&self) -> Vec<ShardRow> {
        let shards = self.shards.iter().flat_map(|shards| shards.iter());
        let rows = shards.map(|(tag, name)| {
            let mut row = ShardRow {
                name: name.to_string(),
                tag: tag.0,
                well: 0,
                wrong: Vec::new(),
                is_draining: false,
                circuits_open: 0,
            };
            let all = self.standings().flat_map(|standing| &standing.shards);
            for shard in all.filter(|shard| shard.tag == tag) {
                row.is_draining |= shard.is_draining;
                row.circuits_open += usize::from(shard.circuit != CircuitState::Closed);
                match &shard.wrong {
                    None => row.well += 1,
                    Some(wrong) if row.wrong.contains(wrong) => {}
                    Some(wrong) => row.wrong.push(wrong.clone()),
                }
            }
            row
        });
        rows.collect()
    }

    /// What is prepared, the oldest first.
    pub(super) fn doubts(&self) -> Vec<Doubt> {
        let shards = self.in_doubt.iter().flatten();
        let mut doubts: Vec<Doubt> = shards
            .flat_map(|shard| {
                let branches = shard.branches.iter().flatten();
                branches.map(|branch| Doubt {
                    shard: shard.shard.to_string(),
                    gid: branch.gid.to_string(),
                    age_ms: branch.age_ms,
                    waits_for: branch.waits_for.clone(),
                })
            })
            .collect();
        doubts.sort_by_key(|doubt| std::cmp::Reverse(doubt.age_ms));
        doubts
    }

    pub(super) fn to_json(&self) -> Value {
        let coordinators = self.coordinators.iter().map(|seen| match &seen.standing {
            Err(error) => json!({"endpoint": seen.endpoint, "error": error}),
            Ok(standing) => {
                let rates = Rates::of(&standing.seconds);
                json!({
                    "endpoint": seen.endpoint,
                    "version": standing.version,
                    "started_unix_s": standing.started_unix_s,
                    "in_flight": standing.in_flight,
                    "draining": standing.is_draining,
                    "waiting": standing.waiting,
                    "committed_per_s": rates.committed,
                    "aborted_per_s": rates.aborted,
                    "refused_per_s": rates.refused,
                    "in_doubt_per_s": rates.in_doubt,
                    "p50_ms": rates.p50_ms,
                    "p99_ms": rates.p99_ms,
                })
            }
        });
        let shards = self.shard_rows().into_iter().map(|row| {
            json!({
                "shard": row.name,
                "tag": row.tag,
                "well_for": row.well,
                "draining": row.is_draining,
                "circuits_open": row.circuits_open,
                "wrong": row.wrong,
            })
        });
        let doubts = self.doubts().into_iter().map(|doubt| {
            json!({
                "shard": doubt.shard,
                "gid": doubt.gid,
                "age_ms": doubt.age_ms,
                "waits_for": doubt.waits_for,
            })
        });
        json!({
            "coordinators": coordinators.collect::<Vec<_>>(),
            "shards": shards.collect::<Vec<_>>(),
            "in_doubt": doubts.collect::<Vec<_>>(),
        })
    }
}

/// How long ago a moment was.
pub(super) fn since(unix_s: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = now.map_or(0, |now| now.as_secs()).saturating_sub(unix_s);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Milliseconds, as long as a person wants them.
pub(super) fn milliseconds(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{ms} ms"),
        10_000..600_000 => format!("{} s", ms / 1000),
        _ => format!("{} min", ms / 60_000),
    }
}
