//! Home's register and index, seen from those who ask: `participant/src/resolve.rs`, `status.rs`.

use gavel_protocol::message::{Decision, RecordAnswer, RegisterAnswer};
use gavel_protocol::{AbortCode, BatchId, Incarnation, Refusal, RefusalCode, Txid};

use super::job::{RecordPhase, ResolvePhase, Work};
use super::steps::Then;
use super::unavailable;
use crate::world::World;
use crate::world::hole::Hole;
use crate::world::network::{Record, Reply, cut};
use crate::world::shard::{Change, Rows, TransactionRow};

impl World {
    pub(crate) fn step_resolve(
        &mut self,
        at: usize,
        batch: BatchId,
        incarnation: Incarnation,
        phase: ResolvePhase,
        timed_out: bool,
    ) -> Then {
        let next = match phase {
            ResolvePhase::Answering(answer) => return Then::Answer(Reply::Register(answer)),
            ResolvePhase::Looking => self.look(at, batch, incarnation),
            ResolvePhase::Forcing if timed_out => Ok(unreachable()),
            ResolvePhase::Forcing => self.force(at, batch, incarnation),
            ResolvePhase::Reading => {
                let row = self.shards[at].tables.decisions.get(&batch);
                Ok(row.map_or(RegisterAnswer::NoRow, |row| {
                    RegisterAnswer::Decision(row.clone())
                }))
            }
        };
        match next {
            Ok(answer) => Then::Answer(Reply::Register(answer)),
            Err((phase, waits)) => Then::Next {
                work: Work::Resolve {
                    batch,
                    incarnation,
                    phase,
                },
                waits,
            },
        }
    }

    /// Reads the row, behind a barrier (R6).
    fn look(&self, at: usize, batch: BatchId, incarnation: Incarnation) -> Looked {
        let shard = &self.shards[at];
        let is_other_life = shard.incarnation != incarnation;
        let row = match is_other_life && !self.setup.has(Hole::AnyIncarnation) {
            true => None,
            false => shard.tables.decisions.get(&batch),
        };
        let Some(row) = row else {
            if self.setup.has(Hole::ReadsWithoutWriting) {
                return Ok(RegisterAnswer::Decision(Decision::Abort));
            }
            return Err((ResolvePhase::Forcing, false));
        };
        let answer = RegisterAnswer::Decision(row.clone());
        match shard.is_replicated() || self.setup.has(Hole::NoBarrier) {
            true => Ok(answer),
            false => Err((ResolvePhase::Answering(answer), true)),
        }
    }

    /// R7: inserts, and reads in another statement.
    fn force(&mut self, at: usize, batch: BatchId, incarnation: Incarnation) -> Looked {
        let shard = &self.shards[at];
        let is_other_life = shard.incarnation != incarnation;
        if is_other_life && !self.setup.has(Hole::AnyIncarnation) {
            return Ok(RegisterAnswer::OtherIncarnation { detail: cut() });
        }
        let unverified = self.setup.has(Hole::DropUnverified);
        if batch.unix_ms() < shard.tables.dropped_ms && !unverified {
            return Ok(RegisterAnswer::BelowFloor);
        }
        let is_taken = shard.tables.decisions.contains_key(&batch);
        if is_taken && self.setup.has(Hole::OldSnapshot) {
            return Ok(RegisterAnswer::Decision(Decision::Abort));
        }
        let change = match is_taken {
            true => Change::Nothing,
            false => Change::Rows(Rows {
                batch: Some(batch),
                decision: Some(Decision::Abort),
                transactions: Vec::new(),
                marks: Vec::new(),
            }),
        };
        let waits = self.commit_rows(at, change);
        Err((ResolvePhase::Reading, waits))
    }

    /// Records aborts outside any batch, and reads them back (R8).
    pub(crate) fn step_record(
        &mut self,
        at: usize,
        record: Record,
        phase: RecordPhase,
        timed_out: bool,
    ) -> Then {
        match phase {
            RecordPhase::Inserting => match self.may_record(at, &record, timed_out) {
                Ok(()) => {
                    let waits = self.insert_records(at, &record);
                    Then::Next {
                        work: Work::Record(record, RecordPhase::ReadingBack),
                        waits,
                    }
                }
                Err(refusal) => Then::Answer(Reply::Recorded(RecordAnswer::Refused(refusal))),
            },
            RecordPhase::ReadingBack => {
                Then::Answer(Reply::Recorded(self.read_records(at, &record)))
            }
        }
    }

    fn may_record(&self, at: usize, record: &Record, timed_out: bool) -> Result<(), Refusal> {
        let shard = &self.shards[at];
        if shard.incarnation != record.incarnation && !self.setup.has(Hole::AnyIncarnation) {
            return Err(unavailable());
        }
        let floor = shard.tables.floor_ms;
        let mut aborts = record.aborts.iter();
        if aborts.any(|abort| abort.txid.unix_ms() < floor) {
            return Err(Refusal::new(RefusalCode::TxidTooOld, "floor"));
        }
        match timed_out {
            true => Err(Refusal::new(RefusalCode::LockTimeout, "lock")),
            false => Ok(()),
        }
    }

    fn insert_records(&mut self, at: usize, record: &Record) -> bool {
        let tables = &self.shards[at].tables;
        let aborts = record.aborts.iter();
        let transactions: Vec<_> = aborts
            .filter(|abort| !tables.transactions.contains_key(&abort.txid))
            .map(|abort| {
                let row = TransactionRow {
                    aborted: Some(abort.reason.clone()),
                    hash: abort.request_hash,
                    principal: record.principal,
                };
                (abort.txid, row)
            })
            .collect();
        let change = match transactions.is_empty() {
            true => Change::Nothing,
            false => Change::Rows(Rows {
                batch: record.batch,
                decision: None,
                transactions,
                marks: Vec::new(),
            }),
        };
        self.commit_rows(at, change)
    }

    fn read_records(&self, at: usize, record: &Record) -> RecordAnswer {
        let tables = &self.shards[at].tables;
        let mut recorded = Vec::new();
        for abort in &record.aborts {
            let Some(row) = tables.transactions.get(&abort.txid) else {
                return RecordAnswer::Unknown { detail: cut() };
            };
            let by_request = abort.reason.code == AbortCode::AbortedByRequest;
            recorded.push(match by_request && row.principal == record.principal {
                true => row.outcome(),
                false => row.recorded(record.principal, abort.request_hash),
            });
        }
        RecordAnswer::Recorded(recorded)
    }

    /// What is recorded of a txid, behind a barrier.
    pub(crate) fn step_status(&mut self, at: usize, txid: Txid, has_looked: bool) -> Then {
        let shard = &self.shards[at];
        let row = shard.tables.transactions.get(&txid);
        let hurries = row.is_none() || self.setup.has(Hole::NoBarrier);
        if has_looked || hurries || shard.is_replicated() {
            let status = row.map(TransactionRow::outcome);
            let too_old = status.is_none() && txid.unix_ms() < shard.tables.floor_ms;
            return Then::Answer(match too_old {
                true => Reply::Unreachable,
                false => Reply::Status(status),
            });
        }
        Then::Next {
            work: Work::Status {
                txid,
                has_looked: true,
            },
            waits: true,
        }
    }
}

/// An answer, or the next phase and whether it waits for replication.
type Looked = Result<RegisterAnswer, (ResolvePhase, bool)>;

fn unreachable() -> RegisterAnswer {
    RegisterAnswer::Unreachable { detail: cut() }
}
