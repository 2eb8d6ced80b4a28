//! Light streams of small transactions, one per coordinator and set of shards, that nothing but a
//! fault can hold up: who is not touched by a fault keeps its rate (I7).
//!
//! # Purpose
//! The clients of [`workload`](crate::workload) cannot show it. They touch all shards, wait for each
//! other's rows, and do as much as the machine lets them. A stream does one thing at a fixed pace,
//! on one coordinator, with one home and one set of shards, so that it is known which faults touch
//! it ([`Reach`](crate::nemesis::Reach)). [`judge()`] compares its pace under the others with its pace
//! before the first fault.
//!
//! # Invariants
//! * A stream conflicts with nobody: it only inserts, into a table without a key, and its isolation
//!   level gives it a lane of its own.
//! * Nobody aims at a stream ([`is_beat`]): it is hit only by what hits its surroundings.
//!
//! # Failure model
//! A beat that is not committed in time is missing. What was refused is tried again until then, as
//! any client would.

mod judge;

use std::sync::Arc;
use std::time::Duration;

use gavel_client::{Gavel, Outcome, params};
use gavel_protocol::Isolation;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::arena::{Arena, COORDINATORS, DATA_SHARDS};
use crate::error::ChaosError;
use crate::nemesis::Blow;

pub use judge::{Group, Kept, judge};

/// One beat per this: much longer than a beat takes, and seldom enough that all streams together
/// are a small part of the load. A stream that waits for its next beat most of the time keeps its
/// rate while everything gets slower, and loses it only when something stops.
const PACE: Duration = Duration::from_millis(600);
/// A beat that takes longer is missing.
const BEAT_LIMIT: Duration = Duration::from_secs(2);
const INSERT: &str = "INSERT INTO pulse VALUES ($1, $2)";
const CALM_BEATS: usize = 5;
/// On a machine that has no time, one beat has to do after this long.
const CALM_PATIENCE: Duration = Duration::from_secs(15);
/// If one does not come within this, something is wrong.
const CALM_LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The table that streams insert into; `role` may use it.
#[must_use]
pub fn schema(role: &str) -> String {
    format!(
        "CREATE TABLE pulse (stream bigint NOT NULL, beat bigint NOT NULL);
         GRANT INSERT ON pulse TO {role};"
    )
}

/// Whether a statement is a stream's.
#[must_use]
pub fn is_beat(sql: &str) -> bool {
    sql == INSERT
}

/// What a stream depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stream {
    /// The only coordinator that it goes to.
    pub coordinator: usize,
    /// Where its outcomes are recorded.
    pub home: usize,
    /// Where it inserts.
    pub shards: Vec<usize>,
}

impl Stream {
    /// Each data shard by itself, each with its decision elsewhere, and both together; through each
    /// coordinator.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let decisions = DATA_SHARDS;
        let alone = (0..DATA_SHARDS).map(|shard| (shard, vec![shard]));
        let away = (0..DATA_SHARDS).map(|shard| (decisions, vec![shard]));
        let together = std::iter::once((0, (0..DATA_SHARDS).collect()));
        let paths: Vec<_> = alone.chain(away).chain(together).collect();
        let of = |coordinator| {
            paths.iter().map(move |(home, shards)| Self {
                coordinator,
                home: *home,
                shards: shards.clone(),
            })
        };
        (0..COORDINATORS).flat_map(of).collect()
    }

    /// Whether it needs this shard.
    #[must_use]
    pub fn needs(&self, shard: usize) -> bool {
        self.home == shard || self.shards.contains(&shard)
    }

    fn name(&self, names: &[String]) -> String {
        let shards: Vec<&str> = self
            .shards
            .iter()
            .map(|shard| names[*shard].as_str())
            .collect();
        let (coordinator, home) = (self.coordinator + 1, &names[self.home]);
        format!(
            "{} by coordinator {coordinator}, home {home}",
            shards.join(" and ")
        )
    }
}

/// When each stream beat, in milliseconds since the history began.
#[derive(Debug, Clone, Default)]
pub struct Beats {
    /// What they depend on.
    pub streams: Vec<Stream>,
    /// Their names for people.
    pub names: Vec<String>,
    /// When each of them heard `committed`.
    pub at_ms: Vec<Vec<u64>>,
    /// Since when they all have beaten.
    pub from_ms: u64,
    /// Until when.
    pub until_ms: u64,
}

/// The streams at work; dropping it stops them.
pub struct Pulse {
    began: std::time::Instant,
    beats: Arc<Mutex<Beats>>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Pulse {
    /// Starts all streams.
    ///
    /// # Errors
    /// A coordinator cannot be reached.
    pub async fn start(arena: &Arc<Arena>) -> Result<Self, ChaosError> {
        let streams = Stream::all();
        let shards: Vec<String> = arena
            .dev
            .shards()
            .iter()
            .map(|shard| shard.name.clone())
            .collect();
        let beats = Beats {
            names: streams.iter().map(|stream| stream.name(&shards)).collect(),
            at_ms: vec![Vec::new(); streams.len()],
            streams: streams.clone(),
            from_ms: 0,
            until_ms: 0,
        };
        let mut pulse = Self {
            began: arena.recorder.began(),
            beats: Arc::new(Mutex::new(beats)),
            stop: CancellationToken::new(),
            tasks: JoinSet::new(),
        };
        for (number, stream) in streams.into_iter().enumerate() {
            let beating = Beating {
                gavel: arena.hasty_client(stream.coordinator, BEAT_LIMIT).await?,
                home: shards[stream.home].clone(),
                shards: stream
                    .shards
                    .iter()
                    .map(|shard| shards[*shard].clone())
                    .collect(),
                number,
                began: pulse.began,
                beats: Arc::clone(&pulse.beats),
            };
            let stop = pulse.stop.clone();
            pulse.tasks.spawn(beating.go_on(stop));
        }
        Ok(pulse)
    }

    /// Waits until every stream has shown its pace while nothing is wrong.
    ///
    /// # Errors
    /// Some stream does not beat.
    pub async fn calm(&self) -> Result<(), ChaosError> {
        let from = millis(self.began.elapsed());
        self.beats.lock().from_ms = from;
        let began = Instant::now();
        loop {
            let wanted = if began.elapsed() < CALM_PATIENCE {
                CALM_BEATS
            } else {
                1
            };
            let slow = {
                let beats = self.beats.lock();
                let since = |at: &Vec<u64>| at.iter().filter(|at| **at >= from).count();
                beats.at_ms.iter().position(|at| since(at) < wanted)
            };
            let Some(slow) = slow else {
                return Ok(());
            };
            if began.elapsed() > CALM_LIMIT {
                let name = self.beats.lock().names[slow].clone();
                let message = format!("{name}: no commit in {CALM_LIMIT:?}, before any fault");
                return Err(ChaosError::NeverWorked(message));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Whether there is evidence already, if these are the blows so far.
    #[must_use]
    pub fn shows_enough(&self, blows: &[Blow]) -> bool {
        let mut beats = self.beats.lock().clone();
        beats.until_ms = millis(self.began.elapsed());
        judge(&beats, blows).evidence().is_some()
    }

    /// Lets every stream finish its beat; gives what was seen.
    ///
    /// # Errors
    /// A stream panicked.
    pub async fn stop(mut self) -> Result<Beats, ChaosError> {
        self.beats.lock().until_ms = millis(self.began.elapsed());
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.map_err(ChaosError::Panicked)?;
        }
        Ok(std::mem::take(&mut *self.beats.lock()))
    }
}

/// One stream.
struct Beating {
    gavel: Gavel,
    home: String,
    shards: Vec<String>,
    number: usize,
    began: std::time::Instant,
    beats: Arc<Mutex<Beats>>,
}

impl Beating {
    async fn go_on(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(PACE);
        // Beats that were missed are not made up for: that would hide a gap.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for beat in 0.. {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            if self.beat(beat).await {
                let at = millis(self.began.elapsed());
                self.beats.lock().at_ms[self.number].push(at);
            }
        }
    }

    /// Whether it was committed.
    async fn beat(&self, beat: i64) -> bool {
        let Ok(txid) = self.gavel.mint(&self.home) else {
            return false;
        };
        let number = i64::try_from(self.number).unwrap_or(i64::MAX);
        // Transactions of this level share their lane with no client's.
        let mut transaction = self
            .gavel
            .transaction()
            .txid(txid)
            .isolation(Isolation::RepeatableRead);
        for shard in &self.shards {
            transaction = transaction.on(shard).execute(INSERT, params![number, beat]);
        }
        matches!(transaction.submit().await, Ok(Outcome::Committed(_)))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
