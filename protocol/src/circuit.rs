//! A circuit breaker for one shard: whoever needs a shard that does not answer is told so at once,
//! instead of waiting until a timeout tells him.
//!
//! ```text
//!            failures in a row, or a probe of a silent shard that fails
//!   Closed ------------------------------------------------------------> Open
//!     ^                                                                   | the pause is over
//!     | a transaction gets an answer                                      v
//!   HalfOpen <------------------------------------------------------- Probing
//!     |           the probe is answered                                   |
//!     +------------> Open, for longer <-----------------------------------+
//!      it does not                             the probe is not answered
//! ```
//!
//! A matter of speed only: a circuit refuses what has done nothing yet, and never says anything
//! about what has. Probes go first, so that no transaction pays to find out that a shard is still
//! down; then one transaction at a time, because a probe does not prove everything.
//!
//! The pattern is that of M. Nygard, "Release It!", chapter 5.

/// When a circuit opens, and for how long. All times are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// So many failures in a row open it.
    pub failures: u32,
    /// The first pause.
    pub pause_ms: u64,
    /// The longest, after doubling.
    pub pause_ms_max: u64,
    /// How long a transaction that tries may take before another one does.
    pub trial_ms: u64,
}

/// How a circuit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The shard answers, as far as is known.
    Closed,
    /// It does not, and nothing is sent there.
    Open,
    /// It answers probes: one transaction at a time may try.
    HalfOpen,
}

/// The circuit of one shard.
#[derive(Debug, Clone)]
pub struct Circuit {
    rules: Rules,
    phase: Phase,
    /// How often it has opened since it was closed.
    opened: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed { failures: u32, probing: bool },
    Open { until_ms: u64 },
    Probing,
    HalfOpen { tried_until_ms: u64 },
}

impl Circuit {
    /// A closed one.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            phase: Phase::Closed {
                failures: 0,
                probing: false,
            },
            opened: 0,
        }
    }

    /// How it stands.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { .. } | Phase::Probing => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// Whether a transaction may be sent there now; if not, in how many milliseconds it is worth
    /// asking again. Who may counts as the one that tries.
    pub fn admit(&mut self, now_ms: u64) -> Result<(), u64> {
        match &mut self.phase {
            Phase::Closed { .. } => Ok(()),
            Phase::Open { until_ms } => Err(until_ms.saturating_sub(now_ms).max(1)),
            Phase::Probing => Err(self.rules.pause_ms),
            Phase::HalfOpen { tried_until_ms } if *tried_until_ms > now_ms => {
                Err(self.rules.pause_ms)
            }
            Phase::HalfOpen { tried_until_ms } => {
                *tried_until_ms = now_ms + self.rules.trial_ms;
                Ok(())
            }
        }
    }

    /// The shard has answered a transaction, whatever it said.
    pub fn on_answer(&mut self) {
        match &mut self.phase {
            Phase::Closed { failures, .. } => *failures = 0,
            Phase::HalfOpen { .. } => *self = Self::new(self.rules),
            // Late: it says what was, not what is.
            Phase::Open { .. } | Phase::Probing => {}
        }
    }

    /// It has not. `jitter` (0 to 1) spreads the pauses of many coordinators.
    pub fn on_failure(&mut self, now_ms: u64, jitter: f64) {
        match &mut self.phase {
            Phase::Closed { failures, .. } => {
                *failures += 1;
                if *failures >= self.rules.failures {
                    self.open(now_ms, jitter);
                }
            }
            Phase::HalfOpen { .. } => self.open(now_ms, jitter),
            Phase::Open { .. } | Phase::Probing => {}
        }
    }

    /// Something else proves that the shard is back: no need to wait for a probe.
    pub fn on_sign_of_life(&mut self) {
        match self.phase {
            Phase::Open { .. } | Phase::Probing => {
                self.phase = Phase::HalfOpen { tried_until_ms: 0 };
            }
            Phase::Closed { .. } | Phase::HalfOpen { .. } => {}
        }
    }

    /// Whether the shard is to be asked for a sign of life now. The answer goes to
    /// [`Circuit::on_probe`]. `is_silent`: work is under way there, and nothing has come back for
    /// too long.
    pub fn begin_probe(&mut self, now_ms: u64, is_silent: bool) -> bool {
        match &mut self.phase {
            Phase::Closed { probing, .. } if is_silent && !*probing => {
                *probing = true;
                true
            }
            Phase::Open { until_ms } if *until_ms <= now_ms => {
                self.phase = Phase::Probing;
                true
            }
            Phase::Closed { .. } | Phase::Open { .. } | Phase::Probing | Phase::HalfOpen { .. } => {
                false
            }
        }
    }

    /// What came of a probe.
    pub fn on_probe(&mut self, is_answered: bool, now_ms: u64, jitter: f64) {
        match (&mut self.phase, is_answered) {
            (Phase::Closed { probing, .. }, true) => *probing = false,
            (Phase::Probing, true) => self.phase = Phase::HalfOpen { tried_until_ms: 0 },
            (Phase::Closed { .. } | Phase::Probing, false) => self.open(now_ms, jitter),
            (Phase::Open { .. } | Phase::HalfOpen { .. }, _) => {}
        }
    }

    fn open(&mut self, now_ms: u64, jitter: f64) {
        let doubled = self.rules.pause_ms.saturating_mul(1 << self.opened.min(20));
        let full = doubled.min(self.rules.pause_ms_max);
        // Half of it is certain, so that a pause is one.
        let pause_ms = full / 2 + (full as f64 / 2.0 * jitter.clamp(0.0, 1.0)) as u64;
        self.opened = self.opened.saturating_add(1);
        self.phase = Phase::Open {
            until_ms: now_ms + pause_ms.max(1),
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules = Rules {
        failures: 3,
        pause_ms: 100,
        pause_ms_max: 1000,
        trial_ms: 500,
    };

    fn opened(now_ms: u64) -> Circuit {
        let mut circuit = Circuit::new(RULES);
        (0..RULES.failures).for_each(|_| circuit.on_failure(now_ms, 1.0));
        assert_eq!(circuit.state(), State::Open);
        circuit
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let mut circuit = Circuit::new(RULES);
        for _ in 0..10 {
            circuit.on_failure(0, 1.0);
            circuit.on_failure(0, 1.0);
            circuit.on_answer();
        }
        assert_eq!(circuit.state(), State::Closed);
        assert_eq!(circuit.admit(0), Ok(()));
    }

    #[test]
    fn it_says_how_long_it_stays_open() {
        let mut circuit = opened(50);
        assert_eq!(circuit.admit(60), Err(90));
        assert!(!circuit.begin_probe(149, true));
        assert!(circuit.begin_probe(150, false));
        assert!(!circuit.begin_probe(151, true), "one probe at a time");
    }

    #[test]
    fn one_transaction_tries_what_a_probe_has_found_alive() {
        let mut circuit = opened(0);
        assert!(circuit.begin_probe(100, false));
        circuit.on_probe(true, 100, 1.0);
        assert_eq!(circuit.state(), State::HalfOpen);
        assert_eq!(circuit.admit(100), Ok(()));
        assert!(circuit.admit(101).is_err(), "one at a time");
        assert_eq!(circuit.admit(600), Ok(()), "the first never came back");
        circuit.on_answer();
        assert_eq!(circuit.state(), State::Closed);
        assert_eq!(circuit.admit(601), Ok(()));
    }

    #[test]
    fn pauses_grow_while_it_stays_down_and_are_forgotten_when_it_is_back() {
        let mut circuit = opened(0);
        let mut now_ms = 0;
        for pause_ms in [100, 200, 400, 800, 1000, 1000] {
            assert_eq!(circuit.admit(now_ms), Err(pause_ms));
            now_ms += pause_ms;
            assert!(circuit.begin_probe(now_ms, false));
            circuit.on_probe(false, now_ms, 1.0);
        }
        now_ms += 1000;
        assert!(circuit.begin_probe(now_ms, false));
        circuit.on_probe(true, now_ms, 1.0);
        assert_eq!(circuit.admit(now_ms), Ok(()));
        circuit.on_answer();
        (0..RULES.failures).for_each(|_| circuit.on_failure(now_ms, 1.0));
        assert_eq!(circuit.admit(now_ms), Err(100));
    }

    #[test]
    fn a_silent_shard_is_probed_before_it_fails_anybody() {
        let mut circuit = Circuit::new(RULES);
        assert!(!circuit.begin_probe(0, false));
        assert!(circuit.begin_probe(0, true));
        assert!(!circuit.begin_probe(0, true));
        circuit.on_probe(true, 1, 1.0);
        assert_eq!(circuit.state(), State::Closed, "slow, and alive");
        assert!(circuit.begin_probe(2, true));
        circuit.on_probe(false, 3, 1.0);
        assert_eq!(circuit.state(), State::Open);
    }

    #[derive(Debug, Clone)]
    enum Event {
        SignOfLife,
        Admit,
        Answer,
        Failure,
        Probe(bool),
        ProbeAnswered(bool),
        Wait(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Admit),
            Just(Event::SignOfLife),
            Just(Event::Answer),
            Just(Event::Failure),
            any::<bool>().prop_map(Event::Probe),
            any::<bool>().prop_map(Event::ProbeAnswered),
            (0..700u64).prop_map(Event::Wait),
        ]
    }

    proptest! {
        /// Whatever happened, a shard that is well again is used again, and soon.
        #[test]
        fn no_circuit_stays_open_for_ever(events in prop::collection::vec(event(), 0..60)) {
            let mut circuit = Circuit::new(RULES);
            let mut now_ms = 0;
            for event in events {
                match event {
                    Event::SignOfLife => circuit.on_sign_of_life(),
                    Event::Admit => drop(circuit.admit(now_ms)),
                    Event::Answer => circuit.on_answer(),
                    Event::Failure => circuit.on_failure(now_ms, 0.5),
                    Event::Probe(is_silent) => drop(circuit.begin_probe(now_ms, is_silent)),
                    Event::ProbeAnswered(is_answered) => circuit.on_probe(is_answered, now_ms, 0.5),
                    Event::Wait(ms) => now_ms += ms,
                }
            }
            // The probe that may be under way is answered; then one after the longest pause.
            circuit.on_probe(true, now_ms, 0.5);
            now_ms += RULES.pause_ms_max + RULES.trial_ms;
            if circuit.begin_probe(now_ms, false) {
                circuit.on_probe(true, now_ms, 0.5);
            }
            prop_assert_eq!(circuit.admit(now_ms), Ok(()));
            circuit.on_answer();
            prop_assert_eq!(circuit.state(), State::Closed);
        }
    }
}
