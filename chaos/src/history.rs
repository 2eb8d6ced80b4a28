//! What clients asked for and what they were told, with times of one monotonic clock.
//!
//! # Purpose
//! The evidence that the checkers judge. It is written as JSON lines in the format of Jepsen's
//! histories, so that other tools (Elle, `adya check`) can read the file as well: `txn` are
//! list-append transactions, other values of `f` are skipped by them.
//!
//! # Invariants
//! * An invocation is recorded before its request is sent, a completion after its answer came;
//!   index and time grow together, because both are given under one lock.
//! * What was not answered for certain is `info`: it is never taken for ok or fail. Its process
//!   does nothing more, as Jepsen's convention wants.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use gavel_protocol::Txid;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;

/// Whether an event begins or ends an operation, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It is about to be sent.
    Invoke,
    /// Committed.
    Ok,
    /// Aborted or refused: it did nothing.
    Fail,
    /// Not known.
    Info,
}

/// One side of a transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leg {
    /// Index of the shard.
    pub shard: usize,
    /// The account.
    pub account: i64,
    /// What is added to its balance.
    pub amount: i64,
}

/// One step of a list-append transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "(String, i64, Value)")]
pub enum MicroOp {
    /// Appends an element to the list under a key.
    Append {
        /// The list.
        key: i64,
        /// The element, which nobody else appends.
        element: i64,
    },
    /// Reads the list under a key; `None` while that is not known.
    Read {
        /// The list.
        key: i64,
        /// What was read.
        elements: Option<Vec<i64>>,
    },
}

impl MicroOp {
    /// The list it is about.
    #[must_use]
    pub fn key(&self) -> i64 {
        match self {
            Self::Append { key, .. } | Self::Read { key, .. } => *key,
        }
    }
}

impl From<MicroOp> for (String, i64, Value) {
    fn from(op: MicroOp) -> Self {
        match op {
            MicroOp::Append { key, element } => ("append".to_owned(), key, element.into()),
            MicroOp::Read { key, elements } => ("r".to_owned(), key, elements.into()),
        }
    }
}

/// What an operation does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "f", content = "value", rename_all = "lowercase")]
pub enum Action {
    /// Moves money.
    Transfer(Vec<Leg>),
    /// Appends to lists and reads them.
    Txn(Vec<MicroOp>),
}

/// Whose operation it is; each has its own rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// Transfers that can succeed.
    Bank,
    /// Transfers that cannot: the payee does not exist.
    Doomed,
    /// Lists, every read `FOR UPDATE`.
    ListsLocked,
    /// Lists, read plainly.
    ListsPlain,
}

/// What a client was told, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// `committed`.
    Committed,
    /// `aborted`, with the code.
    Aborted(String),
    /// `refused`, with the code.
    Refused(String),
    /// `in doubt`, with the detail.
    InDoubt(String),
}

impl Told {
    /// How the operation ended, as far as is known.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self {
            Self::Committed => Phase::Ok,
            Self::Aborted(_) | Self::Refused(_) => Phase::Fail,
            Self::InDoubt(_) => Phase::Info,
        }
    }
}

/// One line of the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Position in the history.
    pub index: u64,
    /// Nanoseconds since the history began.
    pub time: u64,
    /// Begin or end.
    #[serde(rename = "type")]
    pub phase: Phase,
    /// Who; does one thing at a time.
    pub process: u64,
    /// Whose rows.
    pub workload: Workload,
    /// The transaction's name.
    pub txid: Txid,
    /// What; in a completion with what was read.
    #[serde(flatten)]
    pub action: Action,
    /// What the client was told, in a completion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told: Option<Told>,
}

/// Collects the events of all clients.
#[derive(Debug)]
pub struct Recorder {
    began: Instant,
    processes: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    events: Vec<Event>,
    file: Option<BufWriter<File>>,
}

/// An operation that was begun; [`Recorder::complete`] ends it.
#[derive(Debug)]
#[must_use = "an operation that never completes counts as unknown"]
pub struct Begun {
    process: u64,
    workload: Workload,
    txid: Txid,
}

impl Recorder {
    /// An empty history, kept in memory and in `file` if one is given.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(file: Option<&Path>) -> io::Result<Self> {
        let file = file.map(File::create).transpose()?.map(BufWriter::new);
        Ok(Self {
            began: Instant::now(),
            processes: AtomicU64::new(0),
            inner: Mutex::new(Inner {
                events: Vec::new(),
                file,
            }),
        })
    }

    /// When the history began.
    #[must_use]
    pub fn began(&self) -> Instant {
        self.began
    }

    /// A process number that nobody else has.
    pub fn new_process(&self) -> u64 {
        self.processes.fetch_add(1, Ordering::Relaxed)
    }

    /// Records that an operation is about to be sent.
    pub fn invoke(&self, process: u64, workload: Workload, txid: Txid, action: Action) -> Begun {
        self.push(Event {
            index: 0,
            time: 0,
            phase: Phase::Invoke,
            process,
            workload,
            txid,
            action,
            told: None,
        });
        Begun {
            process,
            workload,
            txid,
        }
    }

    /// Records how an operation ended; `action` holds what was read.
    pub fn complete(&self, begun: Begun, action: Action, told: Told) {
        self.push(Event {
            index: 0,
            time: 0,
            phase: told.phase(),
            process: begun.process,
            workload: begun.workload,
            txid: begun.txid,
            action,
            told: Some(told),
        });
    }

    /// All that was recorded so far, in the file as well.
    pub fn events(&self) -> Vec<Event> {
        let mut inner = self.inner.lock();
        if let Some(file) = &mut inner.file {
            // A full disk must not stop the checks, which work on memory.
            let _incomplete = file.flush();
        }
        inner.events.clone()
    }

    fn push(&self, mut event: Event) {
        let mut inner = self.inner.lock();
        event.index = inner.events.len() as u64;
        event.time = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if let Some(file) = &mut inner.file {
            let line = serde_json::to_string(&event).expect("plain data always serializes");
            // A full disk must not stop the checks, which work on memory.
            let _incomplete = writeln!(file, "{line}");
        }
        inner.events.push(event);
    }
}

#[cfg(test)]
mod tests {
    use gavel_protocol::ShardTag;

    use super::*;

    #[test]
    fn what_is_written_can_be_read_by_other_checkers() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("history.jsonl");
        let recorder = Recorder::create(Some(&path)).expect("a file");
        let txid = Txid::mint(1, ShardTag(1), [7; 16]);
        let process = recorder.new_process();
        let asked = vec![
            MicroOp::Append { key: 1, element: 5 },
            MicroOp::Read {
                key: 2,
                elements: None,
            },
        ];
        let begun = recorder.invoke(process, Workload::ListsPlain, txid, Action::Txn(asked));
        let read_back = vec![
            MicroOp::Append { key: 1, element: 5 },
            MicroOp::Read {
                key: 2,
                elements: Some(vec![4, 6]),
            },
        ];
        recorder.complete(begun, Action::Txn(read_back), Told::Committed);
        let leg = Leg {
            shard: 0,
            account: 1,
            amount: -1,
        };
        let other = recorder.new_process();
        let begun = recorder.invoke(
            other,
            Workload::Bank,
            txid,
            Action::Transfer(vec![leg.clone()]),
        );
        let told = Told::Aborted("guard_failed".to_owned());
        recorder.complete(begun, Action::Transfer(vec![leg]), told);
        let events = recorder.events();
        let text = std::fs::read_to_string(&path).expect("the file");
        assert_eq!(text.lines().count(), events.len());
        assert!(events.windows(2).all(|pair| pair[0].time <= pair[1].time));
        let theirs = adya::History::from_json(&text).expect("a Jepsen history");
        assert_eq!(theirs.ops.len(), 2, "the transfer is not theirs: {text}");
    }
}
