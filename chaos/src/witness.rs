//! What was seen on the wires between participants and servers, batch by batch, on one clock.
//!
//! It judges the two invariants that cannot be read from tables afterwards, because they are about
//! order: a commit is decided only when every yes vote has been delivered (I3), and nothing is
//! committed in phase two before its decision was sent (I8). What a nemesis does by itself, such as
//! a duplicate, has to be reported here as well.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use gavel_protocol::Txid;
use parking_lot::Mutex;

use crate::proxy::{Passage, Point, Step};
use crate::pulse::is_beat;
use crate::verdict::{Invariant, Violation};

/// Sees everything that passes the proxies.
#[derive(Debug)]
pub struct Witness {
    /// Tags of the shards, by index.
    tags: Vec<u16>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    batches: HashMap<String, Batch>,
    violations: Vec<Violation>,
    steps: BTreeMap<Step, u64>,
    decisions: u64,
    votes: u64,
    commits: u64,
}

#[derive(Debug, Default)]
struct Batch {
    /// The transactions in it, as far as statements name them.
    txids: Vec<Txid>,
    /// It is one of [`pulse`](crate::pulse)'s.
    is_beat: bool,
    /// Tags of the shards whose yes vote was delivered.
    votes: BTreeSet<u16>,
    decision: Decision,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Decision {
    #[default]
    NotSent,
    /// It may have been executed.
    Sent,
    Committed,
    Failed,
}

/// How much was compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compared {
    /// Decisions to commit that were sent to a home.
    pub decisions: u64,
    /// Prepared branches that they named.
    pub votes: u64,
    /// COMMIT PREPARED that were sent to a shard.
    pub commits: u64,
}

impl Witness {
    /// A witness of shards with these tags, in the order of their indices.
    #[must_use]
    pub fn new(tags: Vec<u16>) -> Self {
        Self {
            tags,
            seen: Mutex::new(Seen::default()),
        }
    }

    /// A step's messages go to the server.
    pub(crate) fn forwarded(&self, passage: &Passage) {
        let mut seen = self.seen.lock();
        let seen = &mut *seen;
        if let Some(step) = passage.point.before() {
            *seen.steps.entry(step).or_default() += 1;
        }
        let batch = seen.batches.entry(passage.batch.clone()).or_default();
        batch.txids.extend(&passage.txids);
        batch.is_beat |= passage.calls.iter().any(|call| is_beat(&call.sql));
        match passage.point {
            Point::Work | Point::Prepare | Point::Rollback => {}
            Point::Decide => {
                seen.decisions += 1;
                seen.votes += passage.prepared.len() as u64;
                let missing = passage
                    .prepared
                    .iter()
                    .find(|tag| !batch.votes.contains(tag));
                if let Some(tag) = missing {
                    let what = format!(
                        "batch {} was decided without the vote of shard {tag}",
                        passage.batch
                    );
                    seen.violations.push(Violation {
                        invariant: Invariant::Unanimity,
                        what,
                    });
                }
                if batch.decision != Decision::Committed {
                    batch.decision = Decision::Sent;
                }
            }
            Point::Commit => {
                seen.commits += 1;
                if matches!(batch.decision, Decision::NotSent | Decision::Failed) {
                    let what = format!(
                        "COMMIT PREPARED of batch {} on shard {}; its decision: {:?}",
                        passage.batch, passage.shard, batch.decision
                    );
                    seen.violations.push(Violation {
                        invariant: Invariant::WriteOrder,
                        what,
                    });
                }
            }
        }
    }

    /// The server has answered.
    pub(crate) fn answered(&self, passage: &Passage, succeeded: bool) {
        let mut seen = self.seen.lock();
        if succeeded {
            *seen.steps.entry(passage.point.after()).or_default() += 1;
        }
        if passage.point == Point::Decide
            && let Some(batch) = seen.batches.get_mut(&passage.batch)
            && batch.decision != Decision::Committed
        {
            batch.decision = if succeeded {
                Decision::Committed
            } else {
                Decision::Failed
            };
        }
    }

    /// The participant is about to hear of a success.
    pub(crate) fn delivered(&self, passage: &Passage) {
        if passage.point == Point::Prepare {
            let tag = self.tags.get(passage.shard).copied().unwrap_or_default();
            let mut seen = self.seen.lock();
            let batch = seen.batches.entry(passage.batch.clone()).or_default();
            batch.votes.insert(tag);
        }
    }

    /// The transactions in a batch, as far as they have been seen.
    #[must_use]
    pub fn txids(&self, batch: &str) -> Vec<Txid> {
        let seen = self.seen.lock();
        let batch = seen.batches.get(batch);
        batch.map_or_else(Vec::new, |batch| batch.txids.clone())
    }

    /// Whether a batch is one of [`pulse`](crate::pulse)'s, as far as has been seen. Its first step
    /// tells.
    #[must_use]
    pub fn is_beat(&self, batch: &str) -> bool {
        let seen = self.seen.lock();
        seen.batches.get(batch).is_some_and(|batch| batch.is_beat)
    }

    /// How often each step was passed.
    #[must_use]
    pub fn steps(&self) -> BTreeMap<Step, u64> {
        self.seen.lock().steps.clone()
    }

    /// How much was compared.
    #[must_use]
    pub fn compared(&self) -> Compared {
        let seen = self.seen.lock();
        Compared {
            decisions: seen.decisions,
            votes: seen.votes,
            commits: seen.commits,
        }
    }

    /// What was seen that must not be.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.seen.lock().violations.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage(shard: usize, point: Point, prepared: &[u16]) -> Passage {
        Passage {
            shard,
            batch: "b".to_owned(),
            gid: None,
            txids: Vec::new(),
            prepared: prepared.to_vec(),
            backend_port: 1,
            point,
            calls: Vec::new(),
        }
    }

    /// What is found if shard 0 is home and shard 1, whose tag is 2, is prepared.
    fn found(events: &[(&str, usize, Point)]) -> String {
        let witness = Witness::new(vec![1, 2]);
        for (what, shard, point) in events {
            let passage = passage(*shard, *point, &[2]);
            match *what {
                "sent" => witness.forwarded(&passage),
                "done" => witness.answered(&passage, true),
                "failed" => witness.answered(&passage, false),
                _ => witness.delivered(&passage),
            }
        }
        let violations = witness.violations();
        let names = violations.iter().map(|each| each.invariant.to_string());
        names.collect::<Vec<_>>().join(" ")
    }

    const VOTED: [(&str, usize, Point); 3] = [
        ("sent", 1, Point::Prepare),
        ("done", 1, Point::Prepare),
        ("heard", 1, Point::Prepare),
    ];

    #[test]
    fn the_order_of_the_protocol_passes() {
        let decided = [("sent", 0, Point::Decide), ("done", 0, Point::Decide)];
        let finished = [("sent", 1, Point::Commit)];
        let all = [&VOTED[..], &decided[..], &finished[..]].concat();
        assert_eq!(found(&all), "");
        // The decision's answer was lost: the register knows it.
        let unanswered = [&VOTED[..], &decided[..1], &finished[..]].concat();
        assert_eq!(found(&unanswered), "");
    }

    #[test]
    fn a_decision_without_a_vote_that_was_heard_is_found() {
        assert_eq!(found(&[("sent", 0, Point::Decide)]), "I3");
        let unheard = [&VOTED[..2], &[("sent", 0, Point::Decide)]].concat();
        assert_eq!(found(&unheard), "I3");
    }

    #[test]
    fn a_commit_before_or_without_the_decision_is_found() {
        let early = [&VOTED[..], &[("sent", 1, Point::Commit)]].concat();
        assert_eq!(found(&early), "I8");
        let failed = [
            &VOTED[..],
            &[
                ("sent", 0, Point::Decide),
                ("failed", 0, Point::Decide),
                ("sent", 1, Point::Commit),
            ],
        ]
        .concat();
        assert_eq!(found(&failed), "I8");
    }
}
