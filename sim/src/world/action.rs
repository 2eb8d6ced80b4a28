//! Everything that can happen next, in one type.

use std::fmt;

use gavel_protocol::message::FinishKind;
use gavel_protocol::{BatchId, Gid, Txid};

use super::World;
use super::client::ClientMove;
use super::ids::{ShortBatch, ShortTxid};
use super::network::{Asker, Body, Key, Message, Node, Question, Reply};
use super::participant::job::Work;

/// What happens next. Places are those of the world in which it was offered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// A message arrives.
    Deliver(usize),
    /// PostgreSQL executes what a job has sent.
    Step(usize, usize),
    /// A session that nobody came back to is ended.
    Expire(usize, usize),
    /// A job has waited long enough for a lock.
    LockTimeout(usize, usize),
    /// A shard's standby catches up.
    Replicate(usize),
    /// A participant scans.
    Scan(usize),
    /// A participant has seen a branch for longer than `in_doubt_after`.
    Suspect(usize, Gid),
    /// A pause before a branch's next try is over.
    Retry(usize, Gid),
    /// A scan's question to a home stays unanswered.
    ScanGivesUp(usize, Gid),
    /// A coordinator's question stays unanswered.
    GiveUp(usize, BatchId, Key),
    /// A client has waited long enough for a transaction.
    LosePatience(usize, Txid),
    /// A participant notices that a coordinator's stream has ended.
    CloseStream(usize, usize),
    /// A coordinator opens a stream to a participant.
    Attend(usize, usize),
    /// A client does something.
    Client(usize, ClientMove),
    /// A home moves its floor, verifies it, and drops what is below it, one step at a time.
    Retain(usize),
    Fault(Fault),
    Repair(Repair),
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    Drop(usize),
    Duplicate(usize),
    /// A message arrives this many milliseconds late (simulation only).
    Delay(usize, u64),
    CrashCoordinator(usize),
    PauseCoordinator(usize),
    CrashParticipant(usize),
    PauseParticipant(usize),
    CrashShard(usize),
    /// A failover to the synchronous standby.
    FailOver(usize),
    /// A failover that loses this many acknowledged changes.
    LoseData(usize, usize),
    /// A restore from a backup that lacks this many changes, in a new incarnation (R13).
    Restore(usize, usize),
    /// A backend is terminated.
    Terminate(usize, usize),
    /// A wait for replication is cancelled: success, with warning 01000.
    CancelWait(usize, usize),
    /// Nothing of the first reaches the second.
    Cut(Node, Node),
    /// A person finishes a branch by hand.
    ByHand(usize, Gid, FinishKind),
}

/// What mends it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Repair {
    RestartCoordinator(usize),
    ResumeCoordinator(usize),
    RestartParticipant(usize),
    ResumeParticipant(usize),
    RestartShard(usize),
    Mend(Node, Node),
}

impl World {
    /// Lets it happen.
    pub(crate) fn play(&mut self, action: Action) {
        use gavel_protocol::branch::Event;
        use gavel_protocol::message::RegisterAnswer;
        match action {
            Action::Deliver(message) => self.deliver(message),
            Action::Step(at, job) => {
                self.step_job(at, job);
            }
            Action::Expire(at, job) => {
                self.shards[at].jobs.take(job);
            }
            Action::LockTimeout(at, job) => {
                self.shards[at].jobs[job].timed_out = true;
                self.step_job(at, job);
            }
            Action::Replicate(at) => self.replicate(at),
            Action::Scan(at) => self.scan(at),
            Action::Suspect(at, gid) => self.suspect(at, gid),
            Action::Retry(at, gid) => self.feed_branch(at, &gid, Event::RetryDue),
            Action::ScanGivesUp(at, gid) => {
                let detail = super::network::cut();
                let answer = RegisterAnswer::Unreachable { detail };
                self.feed_branch(at, &gid, Event::Register(answer));
            }
            Action::GiveUp(at, batch, key) => match key.unknown() {
                Some(event) => self.on_batch_event(at, batch, key, event),
                None => self.on_head_started(at, batch, key, None),
            },
            Action::LosePatience(at, txid) => self.lose_patience(at, txid),
            Action::CloseStream(at, shard) => self.close_stream(at, shard),
            Action::Attend(at, shard) => self.attend(at, shard),
            Action::Client(at, chosen) => self.client_moves(at, chosen),
            Action::Retain(at) => self.retain(at),
            Action::Fault(fault) => self.go_wrong(fault),
            Action::Repair(repair) => self.repair(repair),
        }
    }

    /// The action in the words of a trace.
    pub(crate) fn describe(&self, action: &Action) -> String {
        match action {
            Action::Deliver(at) => format!("deliver {}", self.network[*at]),
            Action::Step(at, job) => format!("step {}: {}", at + 1, self.job(*at, *job)),
            Action::Expire(at, job) => format!("expire {}: {}", at + 1, self.job(*at, *job)),
            Action::LockTimeout(at, job) => {
                format!("lock timeout {}: {}", at + 1, self.job(*at, *job))
            }
            Action::Suspect(at, gid) => format!("suspect {}: {}", at + 1, ShortGid(gid)),
            Action::Retry(at, gid) => format!("retry {}: {}", at + 1, ShortGid(gid)),
            Action::ScanGivesUp(at, gid) => format!("scan gives up {}: {}", at + 1, ShortGid(gid)),
            Action::GiveUp(at, batch, key) => {
                format!("coordinator {at} gives up {} {key:?}", ShortBatch(*batch))
            }
            Action::LosePatience(at, txid) => {
                format!(
                    "patience with {} at coordinator {at} ends",
                    ShortTxid(*txid)
                )
            }
            Action::Fault(Fault::Drop(at)) => format!("DROP {}", self.network[*at]),
            Action::Fault(Fault::Duplicate(at)) => format!("DOUBLE {}", self.network[*at]),
            Action::Fault(Fault::Delay(at, ms)) => {
                format!("DELAY by {ms} ms {}", self.network[*at])
            }
            Action::Fault(Fault::Terminate(at, job)) => {
                format!("TERMINATE {}: {}", at + 1, self.job(*at, *job))
            }
            Action::Fault(Fault::CancelWait(at, job)) => {
                format!("CANCEL WAIT {}: {}", at + 1, self.job(*at, *job))
            }
            Action::Fault(Fault::ByHand(at, gid, kind)) => {
                format!("BY HAND {}: {kind:?} {}", at + 1, ShortGid(gid))
            }
            Action::Fault(fault) => format!("FAULT {fault:?}"),
            Action::Replicate(_)
            | Action::Scan(_)
            | Action::CloseStream(..)
            | Action::Attend(..)
            | Action::Client(..)
            | Action::Retain(_)
            | Action::Repair(_) => format!("{action:?}"),
        }
    }

    fn job(&self, at: usize, job: usize) -> String {
        let job = &self.shards[at].jobs[job];
        let orphan = if job.is_orphan { " (orphan)" } else { "" };
        let work = match &job.work {
            Work::Prepare(prepare, phase) => {
                format!("prepare {} {}", ShortGid(&prepare.gid), word(phase))
            }
            Work::Decide(decide, phase) => {
                format!("decide {} {}", ShortBatch(decide.batch), word(phase))
            }
            Work::Resolve { batch, phase, .. } => {
                format!("resolve {} {}", ShortBatch(*batch), word(phase))
            }
            Work::Finish { gid, kind, phase } => {
                format!("{kind:?} {} {phase:?}", ShortGid(gid))
            }
            Work::Record(record, phase) => {
                format!(
                    "record {} {phase:?}",
                    short_txids(record.aborts.iter().map(|a| a.txid))
                )
            }
            Work::Status { txid, .. } => format!("status {}", ShortTxid(*txid)),
        };
        work + orphan
    }
}

/// The first word of what `Debug` writes.
fn word(value: &impl fmt::Debug) -> String {
    let text = format!("{value:?}");
    let end = text.find(|c: char| !c.is_alphanumeric());
    text[..end.unwrap_or(text.len())].to_owned()
}

fn short_txids(txids: impl Iterator<Item = Txid>) -> String {
    let txids: Vec<String> = txids.map(|txid| ShortTxid(txid).to_string()).collect();
    txids.join("+")
}

struct ShortGid<'a>(&'a Gid);

impl fmt::Display for ShortGid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", ShortBatch(self.0.batch), self.0.shard)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(at) => write!(f, "client {at}"),
            Self::Coordinator(at) => write!(f, "coordinator {at}"),
            Self::Participant(at) => write!(f, "participant {}", at + 1),
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}: {}", self.from, self.to, self.body)
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Submit(submit) => {
                write!(
                    f,
                    "submit {} content {}",
                    ShortTxid(submit.txid),
                    submit.content
                )
            }
            Self::AbortForGood { txid } => write!(f, "abort {}", ShortTxid(*txid)),
            Self::AskStatus { txid } => write!(f, "status {}", ShortTxid(*txid)),
            Self::Told { txid, outcome } => write!(f, "told {} {outcome:?}", ShortTxid(*txid)),
            Self::Ask { asker, question } => write!(f, "{asker} asks {question}"),
            Self::Reply { asker, reply } => write!(f, "{asker} hears {reply}"),
        }
    }
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch { batch, .. } => write!(f, "{}", ShortBatch(*batch)),
            Self::Scan { shard, gid, .. } => write!(f, "scan {} of {}", shard + 1, ShortGid(gid)),
            Self::Client { client, txid } => write!(f, "client {client} of {}", ShortTxid(*txid)),
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prepare(prepare) => {
                let members = short_txids(prepare.members.iter().map(|member| member.txid));
                write!(f, "prepare {} of {members}", ShortGid(&prepare.gid))
            }
            Self::Decide(decide) => {
                let members = short_txids(decide.members.iter().map(|member| member.txid));
                let failed = short_txids(decide.failed.iter().map(|failed| failed.txid));
                write!(f, "decide {members} failed [{failed}]")
            }
            Self::HeadStart { decide, .. } => {
                let members = short_txids(decide.members.iter().map(|member| member.txid));
                write!(f, "head start {members}")
            }
            Self::CommitSession { batch } => write!(f, "commit session {}", ShortBatch(*batch)),
            Self::EndSession { batch } => write!(f, "end session {}", ShortBatch(*batch)),
            Self::Resolve { batch, .. } => write!(f, "resolve {}", ShortBatch(*batch)),
            Self::Finish { gid, kind } => write!(f, "{kind:?} {}", ShortGid(gid)),
            Self::Record(record) => {
                let aborts = short_txids(record.aborts.iter().map(|abort| abort.txid));
                write!(f, "record {aborts}")
            }
            Self::Status { txid } => write!(f, "status {}", ShortTxid(*txid)),
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vote(vote) => write!(f, "{}", word(vote)),
            Self::HeadStarted(left_out) => write!(f, "head started: {left_out:?}"),
            Self::SessionEnded => write!(f, "session ended"),
            Self::Decided(decided) => write!(f, "{decided:?}"),
            Self::Register(answer) => write!(f, "{answer:?}"),
            Self::Finished(finished) => write!(f, "{}", word(finished)),
            Self::Recorded(answer) => write!(f, "{}", word(answer)),
            Self::Status(status) => write!(f, "{status:?}"),
            Self::Unreachable => write!(f, "unreachable"),
        }
    }
}
