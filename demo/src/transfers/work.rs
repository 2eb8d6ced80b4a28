//! The statements of a transfer, and which check each of them makes.
//!
//! Balances come before the rows of `transfers`, and with both accounts on one shard the one with
//! the lower id comes first: two transfers in opposite directions then wait for each other
//! instead of deadlocking.

use gavel_client::{Reason, TransactionBuilder, Txid, params};

use super::Transfer;
use crate::bank::Bank;

/// What a guard makes sure of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// The payer exists and has that much.
    PayerHasEnough,
    /// The payee exists, and its balance can take that much.
    PayeeHasRoom,
    /// A row of `transfers` was written.
    Recorded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Debit,
    Credit,
    RecordDebit,
    RecordCredit,
}

impl Step {
    fn is_payers(self) -> bool {
        matches!(self, Self::Debit | Self::RecordDebit)
    }

    fn check(self) -> Check {
        match self {
            Self::Debit => Check::PayerHasEnough,
            Self::Credit => Check::PayeeHasRoom,
            Self::RecordDebit | Self::RecordCredit => Check::Recorded,
        }
    }
}

/// Adds a transfer's statements to a transaction. Each must change exactly one row.
pub(super) fn add(
    mut transaction: TransactionBuilder,
    bank: &Bank,
    txid: Txid,
    transfer: Transfer,
) -> TransactionBuilder {
    let Transfer { from, to, amount } = transfer;
    for step in steps(transfer) {
        let shard = shard_of(bank, transfer, step);
        transaction = transaction.on(shard);
        transaction = match step {
            Step::Debit => transaction.execute(
                "UPDATE accounts SET balance = balance - $1::bigint \
                 WHERE id = $2 AND balance >= $1::bigint",
                params![amount, from],
            ),
            Step::Credit => transaction.execute(
                "UPDATE accounts SET balance = balance + $1::bigint \
                 WHERE id = $2 AND balance <= 9223372036854775807 - $1::bigint",
                params![amount, to],
            ),
            Step::RecordDebit => {
                transaction.execute(RECORD, params![txid.uuid(), from, to, -amount])
            }
            Step::RecordCredit => {
                transaction.execute(RECORD, params![txid.uuid(), to, from, amount])
            }
        }
        .expect_rows(1);
    }
    transaction
}

const RECORD: &str =
    "INSERT INTO transfers (txid, account, counterparty, amount) VALUES ($1, $2, $3, $4)";

/// The check that an abort was due to, from the place that was recorded with it.
pub(super) fn failed_check(bank: &Bank, transfer: Transfer, reason: &Reason) -> Option<Check> {
    let shard = reason.shard.as_ref()?.as_str();
    let here = steps(transfer)
        .into_iter()
        .filter(|step| shard_of(bank, transfer, *step) == shard);
    Some(here.clone().nth(reason.statement?)?.check())
}

fn steps(transfer: Transfer) -> [Step; 4] {
    let (first, second) = match transfer.from < transfer.to {
        true => (Step::Debit, Step::Credit),
        false => (Step::Credit, Step::Debit),
    };
    [first, second, Step::RecordDebit, Step::RecordCredit]
}

fn shard_of(bank: &Bank, transfer: Transfer, step: Step) -> &str {
    let account = if step.is_payers() {
        transfer.from
    } else {
        transfer.to
    };
    &bank.shard_of(account).name
}
