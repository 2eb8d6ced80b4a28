//! Clients that transfer money through coordinators and remember what they were told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use gavel_chaos::bank::{MARK, Recorded, Statement, TxidOutcome, UPDATE, judge};
use gavel_chaos::history::Told as Heard;
use gavel_client::{Gavel, Options, Outcome, Status, params};
use gavel_protocol::{Isolation, Txid};
use tokio::task::JoinSet;

use crate::bank::{ACCOUNTS, Books};

/// What a client was told about one transfer.
#[derive(Debug, Clone)]
pub struct Told {
    /// The transfer.
    pub txid: Txid,
    /// The answer.
    pub outcome: Outcome,
}

/// Clients at work; [`Load::stop`] ends them.
pub struct Load {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicUsize>,
    clients: JoinSet<Vec<Told>>,
}

/// How a client's options differ from the defaults: a test should not wait for half a minute
/// where it has killed something for good.
pub fn options() -> Options {
    Options::new()
        .attempt_timeout(Duration::from_secs(4))
        .deadline(Duration::from_secs(12))
}

impl Load {
    /// Starts `clients` clients. Transfers go between `shards`; their outcomes are recorded on
    /// `home`, or on the shard with the lowest tag. Every fifth transfer has no payee, every
    /// seventh is interactive, and of the others every third is serializable, which home does not
    /// begin before the votes are in.
    pub fn start(
        gavel: &Gavel,
        clients: usize,
        shards: [&'static str; 2],
        home: Option<&'static str>,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let committed = Arc::new(AtomicUsize::new(0));
        let mut set = JoinSet::new();
        for client in 0..clients {
            let (gavel, stop, committed) = (gavel.clone(), stop.clone(), committed.clone());
            set.spawn(async move {
                let mut told = Vec::new();
                let mut number = client;
                while !stop.load(Ordering::Relaxed) {
                    let one = one_transfer(&gavel, number, shards, home).await;
                    let is_committed = matches!(one.outcome, Outcome::Committed(_));
                    committed.fetch_add(usize::from(is_committed), Ordering::Relaxed);
                    told.push(one);
                    number += clients;
                }
                told
            });
        }
        Self {
            stop,
            committed,
            clients: set,
        }
    }

    /// Waits until the clients have been told of `count` commits; panics after `limit`.
    pub async fn wait_committed(&self, count: usize, limit: Duration) {
        let reached = async {
            while self.committed() < count {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(limit, reached).await;
        let committed = self.committed();
        assert!(
            waited.is_ok(),
            "{committed} commits instead of {count} within {limit:?}"
        );
    }

    /// How many commits the clients have been told of.
    pub fn committed(&self) -> usize {
        self.committed.load(Ordering::Relaxed)
    }

    /// Lets every client finish its transfer, and collects what they were told.
    pub async fn stop(mut self) -> Vec<Told> {
        self.stop.store(true, Ordering::Relaxed);
        let mut told = Vec::new();
        while let Some(client) = self.clients.join_next().await {
            told.extend(client.expect("a client does not panic"));
        }
        told
    }
}

async fn one_transfer(
    gavel: &Gavel,
    number: usize,
    shards: [&'static str; 2],
    home: Option<&'static str>,
) -> Told {
    let [from, to] = if number.is_multiple_of(2) {
        shards
    } else {
        [shards[1], shards[0]]
    };
    // Loads with different homes use different accounts: what is tested is that one does not
    // hold up the other, not that they share rows.
    let (half, first) = (ACCOUNTS / 2, if home.is_some() { 0 } else { ACCOUNTS / 2 });
    let payer = first + i64::try_from(number * 7).expect("small") % half;
    let payee = match number % 5 {
        4 => 9_999,
        _ => first + i64::try_from(number * 3).expect("small") % half,
    };
    let txid = gavel.mint(home.unwrap_or(shards[0])).expect("a shard");
    let outcome = if number % 7 == 6 {
        interactive(
            gavel,
            home.unwrap_or(shards[0]),
            txid,
            (from, payer),
            (to, payee),
        )
        .await
    } else {
        let isolation = match number % 3 {
            2 => Isolation::Serializable,
            _ => Isolation::ReadCommitted,
        };
        declared_at(isolation, gavel, txid, (from, payer), (to, payee)).await
    };
    Told {
        txid: outcome.txid(),
        outcome,
    }
}

/// Moves one between accounts of two shards, in one request.
pub async fn declared(gavel: &Gavel, txid: Txid, from: (&str, i64), to: (&str, i64)) -> Outcome {
    declared_at(Isolation::ReadCommitted, gavel, txid, from, to).await
}

async fn declared_at(
    isolation: Isolation,
    gavel: &Gavel,
    txid: Txid,
    from: (&str, i64),
    to: (&str, i64),
) -> Outcome {
    let name = txid.to_string();
    let submitted = gavel
        .transaction()
        .txid(txid)
        .isolation(isolation)
        .on(from.0)
        .execute(UPDATE, params![-1, from.1])
        .expect_rows(1)
        .execute(MARK, params![name.as_str(), from.1, -1])
        .on(to.0)
        .execute(UPDATE, params![1, to.1])
        .expect_rows(1)
        .execute(MARK, params![name.as_str(), to.1, 1])
        .submit()
        .await;
    submitted.expect("the transfer is well-formed")
}

async fn interactive(
    gavel: &Gavel,
    home: &str,
    minted: Txid,
    from: (&str, i64),
    to: (&str, i64),
) -> Outcome {
    let mut txid = minted;
    let mut session = match gavel.begin_at(home, Isolation::ReadCommitted).await {
        Ok(session) => session,
        Err(error) => return refused(txid, error.to_string()),
    };
    txid = session.txid();
    let name = txid.to_string();
    for ((shard, account), amount) in [(from, -1), (to, 1)] {
        let updated = session
            .execute(shard, UPDATE, params![amount, account])
            .await;
        let marked = match updated {
            Ok(1) => {
                session
                    .execute(shard, MARK, params![name.as_str(), account, amount])
                    .await
            }
            Ok(rows) => {
                let _ = session.rollback().await;
                return refused(txid, format!("{rows} accounts"));
            }
            Err(error) => return refused(txid, error.to_string()),
        };
        if let Err(error) = marked {
            return refused(txid, error.to_string());
        }
    }
    session.commit().await
}

fn refused(txid: Txid, detail: String) -> Outcome {
    let code = gavel_protocol::RefusalCode::SessionLost;
    Outcome::Refused {
        txid,
        why: gavel_protocol::Refusal::new(code, detail),
    }
}

/// Compares what clients were told with the books (I2, I4), asking for the status of what was
/// left in doubt. Returns how many of each were told.
pub async fn assert_told_the_truth(gavel: &Gavel, told: &[Told], books: &Books) -> Counts {
    let mut counts = Counts::default();
    let mut statements = Vec::new();
    let mut recorded = BTreeMap::new();
    for Told { txid, outcome } in told {
        let (count, heard) = match outcome {
            Outcome::Committed(_) => (&mut counts.committed, Heard::Committed),
            Outcome::Aborted { reason, .. } => {
                (&mut counts.aborted, Heard::Aborted(reason.code.to_string()))
            }
            Outcome::Refused { why, .. } => {
                (&mut counts.refused, Heard::Refused(why.code.to_string()))
            }
            Outcome::InDoubt { detail, .. } => {
                let status = gavel.status(*txid).await;
                let status = status.expect("the status can be asked for");
                let row = match status {
                    Status::Committed => TxidOutcome::Committed,
                    Status::Aborted(_) => TxidOutcome::Aborted,
                    Status::NoneYet | Status::TooOld => TxidOutcome::None,
                };
                recorded.insert(*txid, Recorded { row, status: None });
                (&mut counts.in_doubt, Heard::InDoubt(detail.clone()))
            }
        };
        *count += 1;
        statements.push(Statement {
            txid: *txid,
            marks: None,
            told: Some(heard),
        });
    }
    let violations = judge(&statements, &recorded, books);
    assert!(violations.is_empty(), "{violations:#?}");
    counts
}

/// How often clients were told what.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// `committed`.
    pub committed: usize,
    /// `aborted`.
    pub aborted: usize,
    /// `refused`.
    pub refused: usize,
    /// `in doubt`.
    pub in_doubt: usize,
}
