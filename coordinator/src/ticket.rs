//! A transaction inside this coordinator: what it is, how far it has come, and who waits for it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gavel_protocol::{Ack, Outcome, Refusal, RefusalCode, RequestHash};
use gavel_spans::{Kind, Span};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::engine::{Answer, Submission};

/// How far a transaction has come.
#[derive(Debug, Clone)]
enum Progress {
    /// In a lane's queue: it has done nothing, and can be taken out.
    Waiting,
    /// In a batch.
    Running,
    /// Its outcome is durable; phase two may still run.
    Decided(Answer),
    /// Nothing more will happen.
    Ended(Answer),
}

/// A transaction inside this coordinator. Several submissions of one txid share one ticket.
#[derive(Debug)]
pub struct Ticket {
    /// What was submitted.
    pub submission: Submission,
    /// Made when it is needed: whoever is refused needs none.
    request_hash: OnceLock<RequestHash>,
    /// How much of a message it takes, about: its statements and parameters.
    pub bytes: usize,
    /// When it was admitted.
    pub admitted: Instant,
    /// Its span, if it is traced.
    pub span: Option<Span>,
    has_told: AtomicBool,
    progress: watch::Sender<Progress>,
    runs: AtomicU32,
}

impl Ticket {
    /// A transaction that has just been admitted.
    pub fn new(submission: Submission) -> Self {
        let (progress, _) = watch::channel(Progress::Waiting);
        let branches = &submission.transaction.branches;
        let statements = branches.iter().flat_map(|branch| branch.statements.iter());
        let bytes = statements
            .map(|statement| {
                let params = statement.params.iter().flatten();
                64 + statement.sql.len() + params.map(|param| 8 + param.len()).sum::<usize>()
            })
            .sum::<usize>();
        let span = gavel_spans::current().map(|parent| {
            Span::begin(&parent, "transaction", Kind::Server)
                .with("gavel.txid", submission.txid.to_string())
        });
        Self {
            span,
            has_told: AtomicBool::new(false),
            bytes,
            submission,
            request_hash: OnceLock::new(),
            admitted: Instant::now(),
            progress,
            runs: AtomicU32::new(0),
        }
    }

    /// The hash of its content.
    pub fn request_hash(&self) -> RequestHash {
        let hash = || RequestHash::of(&self.submission.transaction);
        *self.request_hash.get_or_init(hash)
    }

    /// Takes the ticket into a batch, unless everybody who waited for it has given up.
    pub fn start_running(&self) -> bool {
        self.progress.send_if_modified(|progress| {
            let waiting = matches!(progress, Progress::Waiting);
            if waiting {
                *progress = Progress::Running;
            }
            waiting
        })
    }

    /// Puts it back into a queue, and counts that. `false` if it has run too often.
    pub fn wait_again(&self, runs_max: u32) -> bool {
        let runs = self.runs.fetch_add(1, Ordering::Relaxed) + 1;
        if runs >= runs_max {
            return false;
        }
        self.progress.send_if_modified(|progress| {
            let running = matches!(progress, Progress::Running);
            if running {
                *progress = Progress::Waiting;
            }
            running
        })
    }

    /// Whether it has run before, and waits again.
    pub fn has_run(&self) -> bool {
        self.runs.load(Ordering::Relaxed) > 0
    }

    /// The outcome is durable.
    pub fn decided(&self, answer: Answer) {
        self.progress.send_replace(Progress::Decided(answer));
    }

    /// Every shard shows it.
    pub fn applied(&self) {
        self.progress.send_modify(|progress| {
            if let Progress::Decided(answer) = progress {
                let mut answer = answer.clone();
                if let Outcome::Committed { applied } = &mut answer.outcome {
                    *applied = true;
                }
                *progress = Progress::Ended(answer);
            }
        });
    }

    /// The batch is over: what is known now is all there will be. A decided transaction that
    /// was never reported applied (damage) ends as it stands.
    pub fn rest(&self) {
        self.progress.send_if_modified(|progress| {
            let Progress::Decided(answer) = progress else {
                return false;
            };
            *progress = Progress::Ended(answer.clone());
            true
        });
    }

    /// Nothing more will happen.
    pub fn end(&self, answer: Answer) {
        self.progress.send_replace(Progress::Ended(answer));
    }

    /// Whoever waited is told this: the end of its span.
    pub fn told(&self, outcome: &Outcome) {
        let Some(span) = self.span.clone() else {
            return;
        };
        // Several may wait, and be told at different times.
        if self.has_told.swap(true, Ordering::Relaxed) {
            return;
        }
        let (outcome, code) = match outcome {
            Outcome::Committed { .. } => ("committed", ""),
            Outcome::Aborted(reason) => ("aborted", reason.code.as_str()),
            Outcome::Refused(refusal) => ("refused", refusal.code.as_str()),
            Outcome::InDoubt { .. } => ("in_doubt", ""),
        };
        let mut span = span.with("gavel.outcome", outcome);
        if !code.is_empty() {
            span = span.with("gavel.code", code);
        }
        if outcome == "in_doubt" {
            span.error = Some("the outcome is not known".to_owned());
        }
        span.end();
    }

    /// Whether nothing more will happen.
    pub fn is_ended(&self) -> bool {
        matches!(*self.progress.borrow(), Progress::Ended(_))
    }

    /// Waits for as much as `ack` asks, but no longer than `patience`; then tells what is known.
    pub async fn wait(&self, ack: Ack, patience: Duration) -> Answer {
        let mut progress = self.progress.subscribe();
        let enough = |progress: &Progress| match progress {
            Progress::Waiting | Progress::Running => false,
            Progress::Decided(_) => ack == Ack::Decided,
            Progress::Ended(_) => true,
        };
        let waited = timeout(patience, progress.wait_for(enough)).await;
        let told = match waited.as_ref().map(|seen| seen.as_deref()) {
            Ok(Ok(Progress::Decided(answer) | Progress::Ended(answer))) => Some(answer.clone()),
            _ => None,
        };
        drop(waited);
        drop(progress);
        told.unwrap_or_else(|| self.give_up())
    }

    /// The answer when patience ends. Only who never ran may be told that nothing was done.
    fn give_up(&self) -> Answer {
        let last_waiter = self.progress.receiver_count() == 0;
        let mut told = None;
        self.progress.send_if_modified(|progress| {
            told = Some(match progress {
                Progress::Decided(answer) | Progress::Ended(answer) => answer.clone(),
                Progress::Running => self.answer(Outcome::InDoubt {
                    detail: "the transaction is still under way: ask for its status".to_owned(),
                }),
                Progress::Waiting => {
                    let refused = self.answer(Outcome::Refused(Refusal::new(
                        RefusalCode::DeadlineExceeded,
                        "the time for this submission ended while it waited for its turn",
                    )));
                    if last_waiter {
                        *progress = Progress::Ended(refused.clone());
                    }
                    refused
                }
            });
            false
        });
        told.unwrap_or_else(|| {
            self.answer(Outcome::InDoubt {
                detail: String::new(),
            })
        })
    }

    /// An answer for this transaction, without results.
    pub fn answer(&self, outcome: Outcome) -> Answer {
        Answer {
            txid: self.submission.txid,
            outcome,
            results: Vec::new(),
        }
    }
}
