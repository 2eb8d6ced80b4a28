//! Clients: each submits its transactions one after the other, and asks again, always under the
//! same txid, until it has a final answer.

use gavel_protocol::message::RecordAnswer;
use gavel_protocol::{Outcome, Txid};

use super::World;
use super::coordinator::driver::recorded_outcome;
use super::hole::Hole;
use super::ids::{self, TxNumber};
use super::network::{Asker, Body, Message, Node, Reply, Submit};
use super::participant::prepare::guard;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    /// What it still means to do, last first.
    left: Vec<TxNumber>,
    pub(crate) current: Option<Current>,
}

/// The transaction that a client is busy with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Current {
    pub(crate) txid: Txid,
    pub(crate) submitted: bool,
    /// Questions whose answer is outstanding.
    pub(crate) waits_for: u8,
    /// Heard that the answer is not known, or nothing for a while.
    pub(crate) is_in_doubt: bool,
    pub(crate) since: u64,
    version: u8,
}

/// What a client does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ClientMove {
    /// Takes up its next transaction, and mints its txid.
    Begin,
    /// Submits it to this coordinator, perhaps again.
    Submit {
        to: u8,
    },
    /// Submits other content under the same txid.
    SubmitOther {
        to: u8,
    },
    AskStatus {
        to: u8,
    },
    AbortForGood {
        to: u8,
    },
}

impl Client {
    pub(crate) fn new(mut left: Vec<TxNumber>) -> Self {
        left.reverse();
        Self {
            left,
            current: None,
        }
    }

    pub(crate) fn has_more(&self) -> bool {
        !self.left.is_empty()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.left.is_empty() && self.current.is_none()
    }

    /// It will try no more.
    pub(crate) fn stop(&mut self) {
        self.left.clear();
    }
}

impl World {
    pub(crate) fn client_moves(&mut self, at: usize, chosen: ClientMove) {
        let to = match chosen {
            ClientMove::Begin => {
                self.begin(at);
                return;
            }
            ClientMove::Submit { to }
            | ClientMove::SubmitOther { to }
            | ClientMove::AskStatus { to }
            | ClientMove::AbortForGood { to } => to,
        };
        let now = self.now;
        let mints_again = self.setup.has(Hole::NewTxid);
        let Some(current) = &mut self.clients[at].current else {
            return;
        };
        let is_retry = current.submitted;
        current.since = now;
        if chosen != (ClientMove::SubmitOther { to }) {
            current.waits_for = current.waits_for.saturating_add(1);
        }
        if is_retry && mints_again && matches!(chosen, ClientMove::Submit { .. }) {
            current.version = current.version.wrapping_add(1);
            let number = ids::number(current.txid);
            current.txid = ids::txid(number, current.version, current.txid.home(), now);
        }
        let txid = current.txid;
        let principal = self.setup.spec(ids::number(txid)).principal;
        let submit = |content| Submit {
            txid,
            content,
            principal,
            is_retry,
        };
        let body = match chosen {
            ClientMove::Begin => return,
            ClientMove::Submit { .. } => Body::Submit(submit(0)),
            ClientMove::SubmitOther { .. } => Body::Submit(submit(1)),
            ClientMove::AskStatus { .. } => Body::AskStatus { txid },
            ClientMove::AbortForGood { .. } => Body::AbortForGood { txid },
        };
        if matches!(chosen, ClientMove::Submit { .. })
            && let Some(current) = &mut self.clients[at].current
        {
            current.submitted = true;
        }
        self.send(Message {
            from: Node::Client(u16::try_from(at).expect("not that many clients")),
            to: Node::Coordinator(to),
            body,
            not_before: 0,
        });
    }

    fn begin(&mut self, at: usize) {
        let now = self.now;
        let Some(number) = self.clients[at].left.pop() else {
            return;
        };
        let home = self.setup.spec(number).home;
        self.clients[at].current = Some(Current {
            txid: ids::txid(number, 0, home, now),
            submitted: false,
            waits_for: 0,
            is_in_doubt: false,
            since: now,
            version: 0,
        });
    }

    /// A coordinator's answer has come.
    pub(crate) fn on_answer(&mut self, at: usize, txid: Txid, outcome: Outcome) {
        let client = &mut self.clients[at];
        let Some(current) = client.current.as_mut().filter(|each| each.txid == txid) else {
            return;
        };
        current.waits_for = current.waits_for.saturating_sub(1);
        match outcome {
            Outcome::Committed { .. } | Outcome::Aborted(_) => client.current = None,
            Outcome::Refused(why) if !why.is_retryable() => client.current = None,
            Outcome::Refused(_) => current.is_in_doubt = false,
            Outcome::InDoubt { .. } => current.is_in_doubt = true,
        }
    }

    /// Home's answer to a status question, or to an abort for good, has come.
    pub(crate) fn on_reply_to_client(&mut self, at: usize, asker: &Asker, reply: Reply) {
        let Asker::Client { txid, .. } = *asker else {
            return;
        };
        let none_is_aborted = self.setup.has(Hole::NoneYetIsAborted);
        let recorded = match reply {
            Reply::Status(recorded) => recorded.map(recorded_outcome),
            Reply::Recorded(RecordAnswer::Recorded(recorded)) => {
                recorded.into_iter().next().map(recorded_outcome)
            }
            Reply::Recorded(RecordAnswer::Refused(why)) => Some(Outcome::Refused(why)),
            _ => Some(Outcome::InDoubt {
                detail: String::new(),
            }),
        };
        let outcome = match recorded {
            Some(outcome) => outcome,
            None if none_is_aborted => Outcome::Aborted(guard()),
            // None yet: it may still commit. The client submits it again.
            None => Outcome::InDoubt {
                detail: String::new(),
            },
        };
        self.observe_told(txid, None, &outcome);
        self.on_answer(at, txid, outcome);
    }
}
