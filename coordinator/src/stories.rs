//! What this coordinator did lately, batch by batch: for whoever wants to know what became of one
//! transaction, and why it took so long. Memory only; what counts is recorded by the shards.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gavel_protocol::{BatchId, ShardTag, Txid};
use parking_lot::Mutex;

/// Transactions whose stories are kept: some megabytes.
const TRANSACTIONS_MAX: usize = 100_000;
/// Calls that one story tells: one that retries for hours does not grow for ever.
const CALLS_MAX: usize = 100;

/// The stories that are kept, the oldest first.
#[derive(Default)]
pub(crate) struct Stories(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    stories: VecDeque<Arc<Story>>,
    transactions: usize,
}

/// What happened to one batch.
pub(crate) struct Story {
    batch: BatchId,
    home: ShardTag,
    began: SystemTime,
    since: Instant,
    /// Who, and how long he had waited.
    members: Box<[(Txid, Duration)]>,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    calls: Vec<CallTold>,
    decided: Option<Duration>,
    applied: Option<Duration>,
}

/// A call to a shard; times count from the batch's begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallTold {
    /// What was asked, such as `prepare`.
    pub name: &'static str,
    /// Whom.
    pub shard: ShardTag,
    /// When it was sent.
    pub from: Duration,
    /// When its answer came.
    pub to: Option<Duration>,
    /// What went wrong, if anything did.
    pub trouble: Option<String>,
}

/// A batch's story as one of its members sees it; times count from the batch's begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoryTold {
    /// The batch.
    pub batch: BatchId,
    /// Its home.
    pub home: ShardTag,
    /// When it began, in microseconds since 1970.
    pub began_unix_us: u64,
    /// How long the transaction had waited for it.
    pub queued: Duration,
    /// How many transactions were in it.
    pub members: usize,
    /// How long ago it began.
    pub age: Duration,
    /// In the order in which they were sent.
    pub calls: Vec<CallTold>,
    /// When the decision was known.
    pub decided: Option<Duration>,
    /// When every shard showed it.
    pub applied: Option<Duration>,
}

impl Stories {
    /// The story of a batch begins; others are forgotten for it.
    pub(crate) fn begin(
        &self,
        batch: BatchId,
        home: ShardTag,
        members: impl Iterator<Item = (Txid, Duration)>,
    ) -> Arc<Story> {
        let story = Arc::new(Story {
            batch,
            home,
            began: SystemTime::now(),
            since: Instant::now(),
            members: members.collect(),
            told: Mutex::default(),
        });
        let mut kept = self.0.lock();
        kept.transactions += story.members.len();
        kept.stories.push_back(story.clone());
        while kept.transactions > TRANSACTIONS_MAX
            && let Some(oldest) = kept.stories.pop_front()
        {
            kept.transactions -= oldest.members.len();
        }
        story
    }

    /// The batches that a transaction was in, the first one first. Looks at everything that is
    /// kept: a question for people.
    pub(crate) fn of(&self, txid: Txid) -> Vec<StoryTold> {
        let stories: Vec<Arc<Story>> = self.0.lock().stories.iter().cloned().collect();
        let told = stories.iter().filter_map(|story| story.told_to(txid));
        told.collect()
    }
}

impl Story {
    /// A call is sent.
    pub(crate) fn sent(&self, name: &'static str, shard: ShardTag) {
        let from = self.since.elapsed();
        let mut told = self.told.lock();
        if told.calls.len() < CALLS_MAX {
            told.calls.push(CallTold {
                name,
                shard,
                from,
                to: None,
                trouble: None,
            });
        }
    }

    /// Its answer has come. Calls of one name to one shard follow each other.
    pub(crate) fn answered(&self, name: &'static str, shard: ShardTag, trouble: Option<String>) {
        let to = self.since.elapsed();
        let mut told = self.told.lock();
        let mut calls = told.calls.iter_mut().rev();
        let sent = calls.find(|call| call.name == name && call.shard == shard);
        if let Some(call) = sent.filter(|call| call.to.is_none()) {
            call.to = Some(to);
            call.trouble = trouble;
        }
    }

    /// The decision is known.
    pub(crate) fn decided(&self) {
        self.told.lock().decided = Some(self.since.elapsed());
    }

    /// Every shard shows it.
    pub(crate) fn applied(&self) {
        self.told.lock().applied = Some(self.since.elapsed());
    }

    fn told_to(&self, txid: Txid) -> Option<StoryTold> {
        let (_, queued) = self.members.iter().find(|(member, _)| *member == txid)?;
        let began = self.began.duration_since(UNIX_EPOCH).unwrap_or_default();
        let told = self.told.lock();
        Some(StoryTold {
            batch: self.batch,
            home: self.home,
            began_unix_us: u64::try_from(began.as_micros()).unwrap_or(u64::MAX),
            queued: *queued,
            members: self.members.len(),
            age: self.since.elapsed(),
            calls: told.calls.clone(),
            decided: told.decided,
            applied: told.applied,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const HOME: ShardTag = ShardTag(1);

    fn txid() -> Txid {
        clock::mint_txid(HOME)
    }

    #[test]
    fn a_story_is_told_to_its_members() {
        let stories = Stories::default();
        let (one, other, stranger) = (txid(), txid(), txid());
        let queued = Duration::from_millis(3);
        let members = [(one, queued), (other, Duration::ZERO)];
        let story = stories.begin(clock::mint_batch(), HOME, members.into_iter());
        story.sent("commit", ShardTag(2));
        story.answered("commit", ShardTag(2), Some("no answer in time".to_owned()));
        story.sent("commit", ShardTag(2));
        story.decided();
        let [told] = &stories.of(one)[..] else {
            panic!("one story")
        };
        assert_eq!((told.queued, told.members, told.home), (queued, 2, HOME));
        let [first, second] = &told.calls[..] else {
            panic!("{told:?}")
        };
        assert!(first.to.is_some() && first.trouble.is_some());
        assert_eq!((second.to, &second.trouble), (None, &None));
        assert!(told.decided.is_some() && told.applied.is_none());
        assert_eq!(stories.of(other)[0].queued, Duration::ZERO);
        assert_eq!(stories.of(stranger), []);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let stories = Stories::default();
        let first = txid();
        stories.begin(
            clock::mint_batch(),
            HOME,
            [(first, Duration::ZERO)].into_iter(),
        );
        let crowd = (0..TRANSACTIONS_MAX).map(|_| (txid(), Duration::ZERO));
        let last = txid();
        stories.begin(clock::mint_batch(), HOME, crowd);
        assert_eq!(stories.of(first), [], "the oldest is forgotten first");
        let story = stories.begin(
            clock::mint_batch(),
            HOME,
            [(last, Duration::ZERO)].into_iter(),
        );
        for _ in 0..2 * CALLS_MAX {
            story.sent("commit", HOME);
        }
        assert_eq!(stories.of(last)[0].calls.len(), CALLS_MAX);
        let kept = stories.0.lock();
        assert!(kept.transactions <= TRANSACTIONS_MAX);
    }
}
