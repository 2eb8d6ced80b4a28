//! The audit after every run, by SQL directly on the servers.
//!
//! - nothing is prepared, and Gavel has recorded no damage;
//! - no money was made or lost, and every balance is what its marks say;
//! - marks carry a bit mask of the shards of their transfer: all shards of a mask have the marks of
//!   the same transfers (count and a sum of hashes), no other shard has any of that mask, and the
//!   amounts on all of them cancel out;
//! - there are as many transfers as clients were told of commits.
//!
//! So half a transfer, a lost one and one too many are all found, also where all of a transfer is
//! on one shard.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use local_postgres::Server;
use tokio::time::{Instant, sleep};

use crate::scenario::INITIAL_BALANCE;
use crate::world::{World, numbers, rows, text};

/// Per mask: transfers, marks, a sum over all txids, and the sum of amounts. Two shards with the
/// same transfers agree on the first three.
const MARKS: &str = "SELECT mask, count(DISTINCT txid), count(*), \
     sum(hashtextextended(txid::text, 0)::numeric), sum(amount) FROM mark GROUP BY mask";

/// What Gavel found to be broken, if anything.
const DAMAGE: &str = "SELECT kind, gid, batch::text, detail, seen_at::text FROM gavel.damage";

/// How long it may take until everything is resolved.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
/// What fits into one query.
const TXIDS_PER_QUERY: usize = 1_000;

/// What one shard has of one mask.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Marked {
    transfers: u64,
    /// Everything on which the mask's shards must agree.
    agreed: [String; 3],
    amounts: i64,
}

/// Counts the money on the first `shards` shards after `committed` transfers.
pub fn audit(world: &World, shards: usize, committed: u64) -> anyhow::Result<()> {
    let wanted = world.accounts * INITIAL_BALANCE * i64::try_from(shards)?;
    let mut money = 0;
    let mut masks = BTreeMap::<u32, Vec<(usize, Marked)>>::new();
    let books = world.on_each(shards, |server| {
        let damage = rows(server, DAMAGE)?;
        Ok((damage, numbers(server, &counts())?, marks(server)?))
    })?;
    for (index, (damage, [prepared, wrong, sum], marks)) in books.into_iter().enumerate() {
        ensure!(prepared == 0, "{prepared} transactions are still prepared");
        ensure!(damage.is_empty(), "gavel recorded damage: {damage:?}");
        ensure!(wrong == 0, "{wrong} balances differ from their marks");
        money += sum;
        for (mask, marked) in marks {
            masks.entry(mask).or_default().push((index, marked));
        }
    }
    let mut transfers = 0;
    for (mask, marked) in &masks {
        transfers += agree(*mask, marked)?;
    }
    ensure!(money == wanted, "there is {money} instead of {wanted}");
    ensure!(
        transfers == committed,
        "{committed} transfers were committed, but {transfers} have marks"
    );
    Ok(())
}

/// Waits until nothing is prepared any more, so that the money can be counted.
pub async fn until_nothing_is_prepared(world: &World) -> anyhow::Result<()> {
    const COUNT: &str = "SELECT count(*) FROM pg_prepared_xacts";
    let started = Instant::now();
    loop {
        let prepared = world.on_each(world.len(), |server| text(server, COUNT))?;
        if prepared.iter().all(|count| count == "0") {
            return Ok(());
        }
        ensure!(
            started.elapsed() < SETTLE_LIMIT,
            "still prepared: {prepared:?}"
        );
        sleep(Duration::from_millis(50)).await;
    }
}

/// How many of these have committed, of whom nobody could say it. [`audit`] sees whether they did
/// so everywhere.
pub fn committed_of(world: &World, shards: usize, txids: &[String]) -> anyhow::Result<u64> {
    let mut found = BTreeSet::new();
    for some in txids.chunks(TXIDS_PER_QUERY) {
        let each: Vec<String> = some
            .iter()
            .map(|txid| format!("('{txid}'::uuid)"))
            .collect();
        let sql = format!(
            "SELECT DISTINCT txid FROM mark WHERE txid IN (VALUES {})",
            each.join(", ")
        );
        found.extend(
            world
                .on_each(shards, |server| rows(server, &sql))?
                .into_iter()
                .flatten(),
        );
    }
    Ok(found.len() as u64)
}

/// Compares the shards of one mask, and gives the number of their transfers.
fn agree(mask: u32, marked: &[(usize, Marked)]) -> anyhow::Result<u64> {
    let shards: u32 = marked.iter().map(|(shard, _)| 1 << shard).sum();
    ensure!(
        shards == mask,
        "marks for the shards {mask:#b} are on the shards {shards:#b}"
    );
    let first = marked.first().context("a mask without marks")?;
    for other in marked {
        ensure!(
            other.1.agreed == first.1.agreed,
            "the shards do not have the same marks: {first:?}, {other:?}"
        );
    }
    let sum: i64 = marked.iter().map(|(_, marked)| marked.amounts).sum();
    ensure!(sum == 0, "amounts for the shards {mask:#b} add up to {sum}");
    Ok(first.1.transfers)
}

fn marks(server: &Server) -> anyhow::Result<Vec<(u32, Marked)>> {
    let found = rows(server, MARKS)?.into_iter().map(|row| {
        let row: Option<Vec<String>> = row.into_iter().collect();
        let [mask, transfers, count, hashes, amounts] = row
            .and_then(|row| row.try_into().ok())
            .context("a summary of marks has a hole")?;
        let marked = Marked {
            transfers: transfers.parse()?,
            agreed: [transfers, count, hashes],
            amounts: amounts.parse()?,
        };
        Ok((mask.parse()?, marked))
    });
    found.collect()
}

/// What is prepared, what is damaged, how many balances are wrong, and all the money.
fn counts() -> String {
    format!(
        "SELECT (SELECT count(*) FROM pg_prepared_xacts), \
         count(*) FILTER (WHERE balance <> {INITIAL_BALANCE} + coalesce(moved, 0)), \
         sum(balance)::bigint \
         FROM account LEFT JOIN (SELECT account, sum(amount) AS moved FROM mark GROUP BY account) \
         AS m ON m.account = id"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Upkeep;

    /// A transfer by SQL, as the statements of two or of one shard.
    fn side(amount: i64, mask: u32) -> String {
        format!(
            "UPDATE account SET balance = balance + {amount} WHERE id = 1; \
             INSERT INTO mark VALUES ('00000000-0000-7000-8000-000000000001', {mask}, 1, {amount})"
        )
    }

    fn refused(world: &World, committed: u64) -> String {
        audit(world, 2, committed).unwrap_err().to_string()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn whatever_is_wrong_is_found() {
        let world = World::start(10, Upkeep::ByItself).await.unwrap();
        let [one, two] = world.servers(2) else {
            panic!("two servers")
        };
        let run = |server: &Server, sql: &str| rows(server, sql).map(|_| ()).unwrap();
        audit(&world, 2, 0).unwrap();

        // Half a transfer, then all of it.
        run(one, &side(-5, 0b11));
        assert!(refused(&world, 1).contains("are on the shards 0b1"));
        run(two, &side(5, 0b11));
        audit(&world, 2, 1).unwrap();
        assert!(refused(&world, 2).contains("1 have marks"));

        // A lost mark; an effect without its mark; a mark of another transfer.
        run(two, "DELETE FROM mark");
        assert!(refused(&world, 1).contains("differ from their marks"));
        run(two, "UPDATE account SET balance = balance - 5 WHERE id = 1");
        assert!(refused(&world, 1).contains("are on the shards 0b1"));
        run(two, &side(5, 0b11));
        run(two, "UPDATE mark SET txid = gen_random_uuid()");
        assert!(refused(&world, 1).contains("the same marks"));

        // Half a transfer of one shard.
        world.reset(2).unwrap();
        run(one, &side(-5, 0b01));
        assert!(refused(&world, 1).contains("add up to -5"));
        run(one, &side(5, 0b01));
        audit(&world, 2, 1).unwrap();

        // Something prepared.
        let prepared = "BEGIN; CREATE TABLE t (); PREPARE TRANSACTION 'left'";
        run(two, prepared);
        assert!(refused(&world, 1).contains("still prepared"));
        run(two, "ROLLBACK PREPARED 'left'");
        audit(&world, 2, 1).unwrap();
    }
}
