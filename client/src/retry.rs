//! What is sent again, and what is concluded from what came back.
//!
//! Invariants: a submission is repeated under its own txid only, so that it can commit once at
//! most (R8). A lost answer is knowledge that is missing: once one was lost, no refusal of a
//! later try proves that nothing happened, and the end is `InDoubt`, never `Refused`.

use std::sync::Arc;
use std::time::Duration;

use gavel_protocol::{Ack, Outcome, Refusal, RefusalCode, Transaction, Txid};
use rand::Rng;
use tokio::time::Instant;

use crate::options::Options;
use crate::transport::{Answer, Failure};

/// A declared transaction on its way out.
#[derive(Debug, Clone)]
pub(crate) struct Submission {
    pub(crate) txid: Txid,
    pub(crate) transaction: Arc<Transaction>,
    pub(crate) ack: Ack,
    pub(crate) was_sent_before: bool,
    pub(crate) traceparent: Option<Arc<str>>,
    pub(crate) deadline: Option<Duration>,
}

/// The time that a call has, and the pauses between its tries.
#[derive(Debug)]
pub(crate) struct Attempts {
    deadline: Instant,
    attempt_timeout: Duration,
    pause: Duration,
    pause_max: Duration,
    is_first: bool,
}

impl Attempts {
    pub(crate) fn new(options: &Options, deadline: Duration) -> Self {
        Self {
            deadline: Instant::now() + deadline,
            attempt_timeout: options.attempt_timeout,
            pause: options.backoff_first,
            pause_max: options.backoff_max,
            is_first: true,
        }
    }

    /// Waits until the next try is due: how long it may take, or `None` when the time is over.
    pub(crate) async fn next(&mut self) -> Option<Duration> {
        if !std::mem::take(&mut self.is_first) {
            let pause = jittered(self.pause);
            self.pause = (self.pause * 2).min(self.pause_max);
            if Instant::now() + pause >= self.deadline {
                return None;
            }
            tokio::time::sleep(pause).await;
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| left.min(self.attempt_timeout))
    }
}

/// From the upper half of the pause: clients that failed together must not return together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..=1.0))
}

/// What the tries of one submission have told so far.
#[derive(Debug, Default)]
pub(crate) struct Knowledge {
    lost: Option<String>,
    refusal: Option<Refusal>,
}

impl Knowledge {
    /// Whether the answer to some try is missing.
    pub(crate) fn is_lacking(&self) -> bool {
        self.lost.is_some()
    }

    /// Takes in how a try ended: the final answer, or `None` to try again.
    pub(crate) fn learn(&mut self, ended: Result<Answer, Failure>) -> Option<Answer> {
        let refusal = match ended {
            Ok(answer) => match answer.outcome {
                Outcome::Committed { .. } | Outcome::Aborted(_) => return Some(answer),
                Outcome::InDoubt { detail } => {
                    self.lost = Some(detail);
                    return None;
                }
                Outcome::Refused(refusal) => refusal,
            },
            Err(Failure::Lost(detail)) => {
                self.lost = Some(detail);
                return None;
            }
            Err(Failure::NotSent(detail)) => {
                Refusal::new(RefusalCode::CoordinatorUnavailable, detail)
            }
            Err(Failure::Refused(refusal)) => refusal,
        };
        let is_final = !refusal.is_retryable();
        self.refusal = Some(refusal);
        is_final.then(|| self.verdict())
    }

    /// What there is to say when there is no more time.
    pub(crate) fn verdict(&self) -> Answer {
        let outcome = match (&self.lost, &self.refusal) {
            (Some(lost), None) => Outcome::InDoubt {
                detail: format!("an answer was lost: {lost}"),
            },
            (Some(lost), Some(refusal)) => Outcome::InDoubt {
                detail: format!("an answer was lost: {lost}; later: {refusal}"),
            },
            (None, Some(refusal)) => Outcome::Refused(refusal.clone()),
            (None, None) => Outcome::Refused(Refusal::new(
                RefusalCode::DeadlineExceeded,
                "there was no time to send it",
            )),
        };
        Answer {
            outcome,
            results: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use gavel_protocol::{AbortCode, AbortReason};

    use super::*;

    fn answer(outcome: Outcome) -> Answer {
        Answer {
            outcome,
            results: Vec::new(),
        }
    }

    fn refused(code: RefusalCode) -> Result<Answer, Failure> {
        Ok(answer(Outcome::Refused(Refusal::new(code, "x"))))
    }

    #[test]
    fn final_answers_end_it_whatever_was_lost_before() {
        for outcome in [
            Outcome::Committed { applied: true },
            Outcome::Aborted(AbortReason::new(AbortCode::GuardFailed, "x")),
        ] {
            let mut knowledge = Knowledge::default();
            assert_eq!(knowledge.learn(Err(Failure::Lost("cut".into()))), None);
            let last = answer(outcome);
            assert_eq!(knowledge.learn(Ok(last.clone())), Some(last));
        }
    }

    #[test]
    fn a_refusal_after_a_lost_answer_proves_nothing() {
        let mut knowledge = Knowledge::default();
        assert_eq!(knowledge.learn(Err(Failure::Lost("cut".into()))), None);
        assert_eq!(knowledge.learn(refused(RefusalCode::Overloaded)), None);
        let told = knowledge.learn(refused(RefusalCode::TxidTooOld)).unwrap();
        assert!(matches!(told.outcome, Outcome::InDoubt { .. }));
    }

    #[test]
    fn in_doubt_counts_as_lost() {
        let mut knowledge = Knowledge::default();
        let detail = "home is down".to_owned();
        assert_eq!(
            knowledge.learn(Ok(answer(Outcome::InDoubt { detail }))),
            None
        );
        assert!(knowledge.is_lacking());
        assert!(matches!(
            knowledge.verdict().outcome,
            Outcome::InDoubt { .. }
        ));
    }

    #[test]
    fn refusals_alone_stay_refusals() {
        let mut knowledge = Knowledge::default();
        assert_eq!(knowledge.learn(Err(Failure::NotSent("down".into()))), None);
        assert_eq!(
            knowledge.verdict(),
            answer(Outcome::Refused(Refusal::new(
                RefusalCode::CoordinatorUnavailable,
                "down"
            )))
        );
        let told = knowledge.learn(refused(RefusalCode::UnknownShard)).unwrap();
        assert!(matches!(told.outcome, Outcome::Refused(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn tries_end_at_the_deadline() {
        let options = Options::default();
        let mut attempts = Attempts::new(&options, Duration::from_secs(3));
        let started = Instant::now();
        let mut tries = 0;
        while let Some(time) = attempts.next().await {
            assert!(time <= Duration::from_secs(3));
            tries += 1;
        }
        assert!(started.elapsed() <= Duration::from_secs(3));
        assert!((6..100).contains(&tries), "{tries}");
    }
}
