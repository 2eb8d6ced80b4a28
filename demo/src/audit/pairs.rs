//! Finds the two sides of every transfer: a merge of all shards' rows in the order of their
//! txids, so that memory does not grow with the number of transfers.

use std::pin::Pin;

use futures::stream::{Peekable, Stream, StreamExt as _};
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use crate::bank::Shard;
use crate::error::ApiError;

/// A row of `transfers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Side {
    txid: Uuid,
    account: Uuid,
    counterparty: Uuid,
    amount: i64,
}

/// A transfer of which one side only was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Half {
    pub(super) txid: Uuid,
    pub(super) account: Uuid,
    pub(super) counterparty: Uuid,
    pub(super) amount: i128,
}

impl Half {
    /// For people.
    pub(super) fn describe(&self) -> String {
        let Self { txid, account, .. } = self;
        format!("transfer {txid} is on the side of account {account} only")
    }
}

/// What the comparison found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pairs {
    /// Transfers with both sides.
    pub(super) whole: i64,
    pub(super) one_sided: Vec<Half>,
    /// Transfers whose sides contradict each other, for people.
    pub(super) wrong: Vec<String>,
}

impl Pairs {
    /// Takes in all rows of one txid.
    fn take_in(&mut self, sides: &[Side]) {
        match sides {
            [one] => self.one_sided.push(Half {
                txid: one.txid,
                account: one.account,
                counterparty: one.counterparty,
                amount: one.amount.into(),
            }),
            [one, other] if mirror_each_other(one, other) => self.whole += 1,
            [] => {}
            [first, ..] => self.wrong.push(format!(
                "the {} rows of transfer {} contradict each other",
                sides.len(),
                first.txid
            )),
        }
    }
}

fn mirror_each_other(one: &Side, other: &Side) -> bool {
    one.account == other.counterparty
        && other.account == one.counterparty
        && one.amount.checked_neg() == Some(other.amount)
}

type Sides<'a> = Peekable<Pin<Box<dyn Stream<Item = Result<Side, ApiError>> + Send + 'a>>>;

/// Reads all shards to their ends.
pub(super) async fn compare(
    shards: &[Shard],
    snapshots: &mut [Transaction<'_, Postgres>],
) -> Result<Pairs, ApiError> {
    let mut streams: Vec<Sides<'_>> = shards
        .iter()
        .zip(snapshots)
        .map(|(shard, snapshot)| sides(shard, snapshot))
        .collect();
    let mut pairs = Pairs::default();
    let mut same = Vec::new();
    while let Some(txid) = lowest(&mut streams).await? {
        same.clear();
        for stream in &mut streams {
            let is_next =
                |side: &Result<Side, ApiError>| matches!(side, Ok(side) if side.txid == txid);
            while let Some(side) = Pin::new(&mut *stream).next_if(is_next).await {
                same.push(side?);
            }
        }
        pairs.take_in(&same);
    }
    Ok(pairs)
}

fn sides<'a>(shard: &'a Shard, snapshot: &'a mut Transaction<'_, Postgres>) -> Sides<'a> {
    let rows =
        sqlx::query_as("SELECT txid, account, counterparty, amount FROM transfers ORDER BY txid")
            .fetch(&mut **snapshot)
            .map(|row| row.map_err(|error| shard.failed(&error)));
    let boxed: Pin<Box<dyn Stream<Item = _> + Send + 'a>> = Box::pin(rows);
    boxed.peekable()
}

/// The lowest txid that is next on any shard.
async fn lowest(streams: &mut [Sides<'_>]) -> Result<Option<Uuid>, ApiError> {
    let mut lowest: Option<Uuid> = None;
    for stream in streams {
        match Pin::new(stream).peek().await {
            Some(Ok(side)) => lowest = Some(lowest.map_or(side.txid, |low| low.min(side.txid))),
            Some(Err(error)) => return Err(error.clone()),
            None => {}
        }
    }
    Ok(lowest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(account: u128, counterparty: u128, amount: i64) -> Side {
        Side {
            txid: Uuid::from_u128(7),
            account: Uuid::from_u128(account),
            counterparty: Uuid::from_u128(counterparty),
            amount,
        }
    }

    #[test]
    fn two_sides_must_mirror_each_other() {
        let mut pairs = Pairs::default();
        pairs.take_in(&[side(1, 2, -5), side(2, 1, 5)]);
        assert_eq!((pairs.whole, pairs.wrong.len()), (1, 0));
        for wrong in [
            vec![side(1, 2, -5), side(2, 1, 6)],
            vec![side(1, 2, -5), side(3, 1, 5)],
            vec![side(1, 2, 5), side(2, 1, 5)],
            vec![side(1, 2, -5), side(2, 1, 5), side(2, 1, 5)],
        ] {
            let mut pairs = Pairs::default();
            pairs.take_in(&wrong);
            assert_eq!((pairs.whole, pairs.wrong.len()), (0, 1), "{wrong:?}");
        }
    }

    #[test]
    fn one_side_alone_keeps_its_sign() {
        let mut pairs = Pairs::default();
        pairs.take_in(&[side(1, 2, -5)]);
        assert_eq!(pairs.one_sided[0].amount, -5);
        assert_eq!(pairs.whole, 0);
    }
}
