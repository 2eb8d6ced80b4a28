//! The circuits of all shards ([`gavel_protocol::circuit`]): what has been heard of each of them,
//! and who may still be sent there.
//!
//! Invariants:
//! - Only what has done nothing yet is refused: at admission, and when a batch is about to begin.
//!   Of what is under way only votes are given up, as unknown; phase two and recovery go on.
//! - A shard that does not answer costs nobody else anything: not a slot, not a wait.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use gavel_participant::Participant;
use gavel_protocol::circuit::{Circuit, Rules, State};
use gavel_protocol::message::{Decided, Finished, NoVote, Vote};
use gavel_protocol::{Limits, Refusal, RefusalCode, ShardMap, ShardTag};
use metrics::{counter, gauge};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::coordinator::Inner;
use crate::presence::Presence;

/// How often it is seen whether somebody must be probed.
const TICK: Duration = Duration::from_millis(100);

/// A transaction that tries a shard is over after this time, or another one tries: it may have
/// failed before it came there.
const TRIAL: Duration = Duration::from_secs(1);

/// All circuits. Cheap to clone.
#[derive(Clone)]
pub struct Circuits {
    started: Instant,
    rules: Rules,
    silence: Duration,
    presence: Presence,
    shards: Arc<RwLock<HashMap<ShardTag, Arc<Watched>>>>,
}

struct Watched {
    name: String,
    seen: Mutex<Seen>,
    /// Told whenever the circuit opens.
    opened: Notify,
}

struct Seen {
    circuit: Circuit,
    in_sight: bool,
    under_way: usize,
    /// When it last answered, or when it was first asked after it had nothing to do.
    quiet_since: Instant,
}

/// A call under way to a shard; dropped without a word, nothing is known of the shard.
pub struct Call {
    watched: Option<Arc<Watched>>,
    started: Instant,
}

impl Circuits {
    /// Closed ones.
    pub fn new(shards: &ShardMap, presence: Presence, limits: &Limits) -> Self {
        let rules = Rules {
            failures: limits.circuit_failures,
            pause_ms: limits.circuit_pause_ms,
            pause_ms_max: limits.circuit_pause_ms_max,
            trial_ms: millis(TRIAL),
        };
        let circuits = Self {
            started: Instant::now(),
            rules,
            silence: Duration::from_millis(limits.circuit_silence_ms),
            presence,
            shards: Arc::default(),
        };
        circuits.follow(shards);
        circuits
    }

    /// Watches these shards from now on. Those that were watched before keep their circuits.
    pub fn follow(&self, shards: &ShardMap) {
        let mut watched = self.shards.write();
        watched.retain(|tag, old| {
            let stays = shards.name(*tag).is_some();
            if !stays {
                // A gauge cannot be taken back, but no alert is about what is no number.
                for gauge in ["gavel_circuit_state", "gavel_shard_in_sight"] {
                    gauge!(gauge, "shard" => old.name.clone()).set(f64::NAN);
                }
            }
            stays
        });
        for (tag, name) in shards.iter() {
            let entry = watched.entry(tag);
            entry.or_insert_with(|| Arc::new(Watched::new(name.to_string(), self.rules)));
        }
    }

    fn watched(&self, shard: ShardTag) -> Option<Arc<Watched>> {
        self.shards.read().get(&shard).cloned()
    }

    /// Lets a transaction over these shards in, unless one of them does not answer.
    ///
    /// # Errors
    /// [`RefusalCode::ShardUnavailable`]: nothing was done, and it is worth another try.
    pub fn admit(&self, shards: impl Iterator<Item = ShardTag> + Clone) -> Result<(), Refusal> {
        // First all that are certain, so that nobody counts as the one that tries for nothing.
        self.check(shards.clone())?;
        let now_ms = millis(self.started.elapsed());
        for watched in shards.filter_map(|shard| self.watched(shard)) {
            let admitted = watched.seen.lock().circuit.admit(now_ms);
            admitted.map_err(|wait_ms| watched.refusal(Some(wait_ms)))?;
        }
        Ok(())
    }

    /// Whether a batch over these shards is worth beginning.
    ///
    /// # Errors
    /// As [`Circuits::admit`].
    pub fn check(&self, shards: impl Iterator<Item = ShardTag>) -> Result<(), Refusal> {
        for shard in shards {
            if let Some(watched) = self.watched(shard)
                && self.unwell(shard).is_some()
            {
                return Err(watched.refusal(None));
            }
        }
        Ok(())
    }

    /// A call to a shard begins.
    pub fn call(&self, shard: ShardTag) -> Call {
        let watched = self.watched(shard);
        if let Some(watched) = &watched {
            let mut seen = watched.seen.lock();
            if seen.under_way == 0 {
                seen.quiet_since = Instant::now();
            }
            seen.under_way += 1;
        }
        Call {
            watched,
            started: self.started,
        }
    }

    /// Asks a shard for a sign of life now, whatever its circuit says. If there is one, the next
    /// transaction may try; without one everything stays as it is.
    ///
    /// # Errors
    /// [`RefusalCode::ShardUnavailable`]: it gives none, and why.
    pub async fn retry(
        &self,
        shard: ShardTag,
        participant: &dyn Participant,
    ) -> Result<String, Refusal> {
        let asked = tokio::time::timeout(self.silence, participant.retention()).await;
        let wrong = match asked {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {} ms", self.silence.as_millis())),
        };
        if let Some(wrong) = wrong {
            return Err(Refusal::new(RefusalCode::ShardUnavailable, wrong));
        }
        let Some(watched) = self.watched(shard) else {
            return Ok("it answers".to_owned());
        };
        watched.change(|seen| seen.circuit.on_sign_of_life());
        Ok(match self.state(shard) {
            State::Closed => "it answers, and takes transactions".to_owned(),
            State::HalfOpen | State::Open => {
                "it answers: the next transaction may try it, and all others if that one gets an \
                 answer"
                    .to_owned()
            }
        })
    }

    /// How a shard's circuit stands.
    pub fn state(&self, shard: ShardTag) -> State {
        let watched = self.watched(shard);
        watched.map_or(State::Closed, |watched| watched.seen.lock().circuit.state())
    }

    /// What is wrong with a shard, if anything is.
    pub fn unwell(&self, shard: ShardTag) -> Option<String> {
        let watched = self.watched(shard)?;
        if !self.presence.sees(shard) {
            return Some("its participant is out of sight".to_owned());
        }
        match watched.seen.lock().circuit.state() {
            State::Open => Some("it does not answer".to_owned()),
            State::HalfOpen | State::Closed => None,
        }
    }
}

impl Watched {
    fn new(name: String, rules: Rules) -> Self {
        counter!("gavel_circuit_opened_total", "shard" => name.clone()).absolute(0);
        Self {
            name,
            opened: Notify::new(),
            seen: Mutex::new(Seen {
                circuit: Circuit::new(rules),
                in_sight: false,
                under_way: 0,
                quiet_since: Instant::now(),
            }),
        }
    }

    fn refusal(&self, wait_ms: Option<u64>) -> Refusal {
        let name = &self.name;
        let message = match wait_ms {
            Some(wait_ms) => format!("shard {name} does not answer: try again in {wait_ms} ms"),
            None => format!("shard {name} does not answer: try again when it is back"),
        };
        Refusal::new(RefusalCode::ShardUnavailable, message)
    }

    /// Does something to the circuit, and tells of it if that opens or closes it.
    fn change(&self, change: impl FnOnce(&mut Seen)) {
        let (before, after) = {
            let mut seen = self.seen.lock();
            let before = seen.circuit.state();
            change(&mut seen);
            (before, seen.circuit.state())
        };
        match (before, after) {
            (State::Closed | State::HalfOpen, State::Open) => {
                counter!("gavel_circuit_opened_total", "shard" => self.name.clone()).increment(1);
                tracing::warn!(shard = self.name, "does not answer: its circuit is open");
                self.opened.notify_waiters();
            }
            (State::Open | State::HalfOpen, State::Closed) => {
                tracing::info!(shard = self.name, "answers again: its circuit is closed");
            }
            _ => {}
        }
    }
}

impl Call {
    /// What `asked` says, or nothing if the shard's circuit opens before that, or time is over.
    /// Whoever waits for a vote holds locks elsewhere meanwhile.
    pub async fn answer<T>(&self, patience: Duration, asked: impl Future<Output = T>) -> Option<T> {
        let answer = tokio::time::timeout(patience, asked);
        let Some(watched) = &self.watched else {
            return answer.await.ok();
        };
        let mut opened = std::pin::pin!(watched.opened.notified());
        // It may have opened since this was admitted: from here on it is heard, before it is seen.
        opened.as_mut().enable();
        if watched.seen.lock().circuit.state() == State::Open {
            return None;
        }
        tokio::select! {
            answer = answer => answer.ok(),
            () = opened => None,
        }
    }

    /// The shard has answered, or it has not. What says nothing about the shard is dropped.
    pub fn ended(mut self, is_answered: bool) {
        let now_ms = millis(self.started.elapsed());
        let Some(watched) = self.watched.take() else {
            return;
        };
        watched.change(|seen| {
            seen.under_way = seen.under_way.saturating_sub(1);
            if is_answered {
                seen.quiet_since = Instant::now();
                seen.circuit.on_answer();
            } else {
                seen.circuit.on_failure(now_ms, rand::random());
            }
        });
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(watched) = &self.watched {
            let mut seen = watched.seen.lock();
            seen.under_way = seen.under_way.saturating_sub(1);
        }
    }
}

/// Whether a vote is an answer of the shard.
pub fn is_vote(vote: &Vote) -> bool {
    match vote {
        Vote::Unknown { .. } => false,
        Vote::No(NoVote::Refused(why)) => why.code != RefusalCode::ShardUnavailable,
        Vote::Yes { .. } | Vote::ReadOnly { .. } | Vote::No(_) => true,
    }
}

/// Whether a decide was answered by the shard.
pub fn is_decision(decided: &Decided) -> bool {
    !matches!(decided, Decided::Unknown { .. })
}

/// Whether a finish was answered by the shard.
pub fn is_finish(finished: &Finished) -> bool {
    !matches!(finished, Finished::Unknown { .. })
}

/// Looks after the circuits as long as there is a coordinator: probes shards that are silent or
/// whose pause is over.
pub(crate) async fn look_after(inner: Weak<Inner>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let Some(inner) = inner.upgrade() else {
            return;
        };
        let now = inner.circuits.shards.read().clone();
        for (tag, watched) in now {
            watched.note_sight(inner.presence.sees(tag));
            watched.show();
            if watched.begin_probe(&inner.circuits) {
                tokio::spawn(probe(inner.clone(), tag, watched));
            }
        }
    }
}

impl Watched {
    /// Who comes back into sight has looked at its database.
    fn note_sight(&self, in_sight: bool) {
        self.change(|seen| {
            if in_sight && !seen.in_sight {
                seen.circuit.on_sign_of_life();
            }
            seen.in_sight = in_sight;
        });
    }

    fn show(&self) {
        let state = match self.seen.lock().circuit.state() {
            State::Closed => 0.0,
            State::HalfOpen => 1.0,
            State::Open => 2.0,
        };
        gauge!("gavel_circuit_state", "shard" => self.name.clone()).set(state);
    }

    fn begin_probe(&self, circuits: &Circuits) -> bool {
        let mut seen = self.seen.lock();
        let is_silent = seen.under_way > 0 && seen.quiet_since.elapsed() >= circuits.silence;
        let now_ms = millis(circuits.started.elapsed());
        seen.in_sight && seen.circuit.begin_probe(now_ms, is_silent)
    }
}

/// Asks for something small that the shard's database must answer.
async fn probe(inner: Arc<Inner>, shard: ShardTag, watched: Arc<Watched>) {
    let is_answered = match inner.directory.shard(shard) {
        None => false,
        Some(participant) => {
            let asked = tokio::time::timeout(inner.circuits.silence, participant.retention());
            matches!(asked.await, Ok(Ok(_)))
        }
    };
    let now_ms = millis(inner.circuits.started.elapsed());
    watched.change(|seen| {
        if is_answered {
            seen.quiet_since = Instant::now();
        }
        seen.circuit.on_probe(is_answered, now_ms, rand::random());
    });
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
