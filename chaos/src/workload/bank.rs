//! Clients that move money: declared or interactive, once or twice at the same time, some with a
//! payee that does not exist, some that go away before they hear what became of it.

use std::time::Duration;

use gavel_client::{Gavel, Interactive, Outcome, params};
use gavel_protocol::{Ack, Isolation, Refusal, RefusalCode, Txid};
use rand::Rng;

use super::{Client, told};
use crate::arena::{Arena, BANK, DATA_SHARDS};
use crate::bank::{MARK, UPDATE};
use crate::history::{Action, Leg, Told, Workload};

/// An account that no shard has.
const NOBODY: i64 = 9_999_999;

/// How a transfer is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Declared,
    Interactive,
    /// Two requests with one txid at the same time.
    Twice,
    /// The client goes away after this many milliseconds.
    Abandoned(u64),
}

impl Client {
    pub(super) async fn transfer(&mut self) {
        let (workload, legs, way, ack) = choose(&mut rand::rng());
        let home = self.home();
        if way == Way::Interactive {
            return self.interactive_transfer(workload, legs, &home).await;
        }
        let Ok(txid) = self.gavel.mint(&home) else {
            return;
        };
        let _route = self.route(txid);
        let action = Action::Transfer(legs.clone());
        let recorder = &self.arena.recorder;
        let begun = recorder.invoke(self.process, workload, txid, action.clone());
        match way {
            Way::Declared | Way::Interactive => {
                let outcome = declared(&self.arena, &self.gavel, txid, &legs, ack).await;
                self.record(begun, action, told(&outcome));
            }
            Way::Twice => {
                let other = self.arena.recorder.new_process();
                let also = self
                    .arena
                    .recorder
                    .invoke(other, workload, txid, action.clone());
                let (first, second) = tokio::join!(
                    declared(&self.arena, &self.gavel, txid, &legs, ack),
                    declared(&self.arena, &self.gavel, txid, &legs, ack),
                );
                self.arena
                    .recorder
                    .complete(also, action.clone(), told(&second));
                self.record(begun, action, told(&first));
            }
            Way::Abandoned(ms) => {
                let calling = declared(&self.arena, &self.gavel, txid, &legs, ack);
                let heard = tokio::time::timeout(Duration::from_millis(ms), calling).await;
                let told = match heard {
                    Ok(outcome) => told(&outcome),
                    Err(_) => Told::InDoubt("the client went away".to_owned()),
                };
                self.record(begun, action, told);
            }
        }
    }

    async fn interactive_transfer(&mut self, workload: Workload, legs: Vec<Leg>, home: &str) {
        let isolation = Isolation::ReadCommitted;
        let Ok(session) = self.gavel.begin_at(home, isolation).await else {
            return;
        };
        let txid = session.txid();
        let _route = self.route(txid);
        let action = Action::Transfer(legs.clone());
        let recorder = &self.arena.recorder;
        let begun = recorder.invoke(self.process, workload, txid, action.clone());
        let told = match interactive(&self.arena, session, &legs).await {
            Some(outcome) => told(&outcome),
            None => Told::Refused("a statement failed, and it was rolled back".to_owned()),
        };
        self.record(begun, action, told);
    }
}

fn choose(rng: &mut impl Rng) -> (Workload, Vec<Leg>, Way, Ack) {
    let amount = rng.random_range(1..5);
    let payer = rng.random_range(0..DATA_SHARDS);
    // One in ten stays on its shard, and needs no two-phase commit.
    let payee = match rng.random_range(0..10) {
        0 => payer,
        _ => (payer + 1) % DATA_SHARDS,
    };
    let doomed = rng.random_ratio(1, 12);
    let mut accounts = [
        rng.random_range(0..BANK.accounts),
        rng.random_range(0..BANK.accounts),
    ];
    if doomed {
        accounts[1] = NOBODY;
    }
    let leg = |shard, account, amount| Leg {
        shard,
        account,
        amount,
    };
    let legs = vec![
        leg(payer, accounts[0], -amount),
        leg(payee, accounts[1], amount),
    ];
    let way = match rng.random_range(0..100) {
        0..12 => Way::Interactive,
        12..16 => Way::Twice,
        16..20 => Way::Abandoned(rng.random_range(1..30)),
        _ => Way::Declared,
    };
    let ack = if rng.random_ratio(1, 5) {
        Ack::Decided
    } else {
        Ack::Applied
    };
    let workload = if doomed {
        Workload::Doomed
    } else {
        Workload::Bank
    };
    (workload, legs, way, ack)
}

async fn declared(arena: &Arena, gavel: &Gavel, txid: Txid, legs: &[Leg], ack: Ack) -> Outcome {
    let name = txid.to_string();
    let mut transaction = gavel.transaction().txid(txid).ack(ack);
    for leg in legs {
        transaction = transaction
            .on(arena.shard(leg.shard))
            .execute(UPDATE, params![leg.amount, leg.account])
            .expect_rows(1)
            .execute(MARK, params![name.as_str(), leg.account, leg.amount]);
    }
    match transaction.submit().await {
        Ok(outcome) => outcome,
        Err(error) => refused(txid, error.to_string()),
    }
}

/// The answer, unless it was rolled back before its commit was sent.
async fn interactive(arena: &Arena, mut session: Interactive, legs: &[Leg]) -> Option<Outcome> {
    let name = session.txid().to_string();
    for leg in legs {
        let shard = arena.shard(leg.shard);
        let update = params![leg.amount, leg.account];
        let mark = params![name.as_str(), leg.account, leg.amount];
        let done = match session.execute(shard, UPDATE, update).await {
            Ok(1) => session.execute(shard, MARK, mark).await.is_ok(),
            Ok(_) | Err(_) => false,
        };
        if !done {
            // If this is lost, the session ends by itself: its commit was never sent.
            let _lost = session.rollback().await;
            return None;
        }
    }
    Some(session.commit().await)
}

/// One transfer that nobody disturbs and that shares no row with others of its round.
pub async fn calm_transfer(arena: &Arena, gavel: &Gavel, home: usize, number: i64) -> Outcome {
    let txid = match gavel.mint(arena.shard(home)) {
        Ok(txid) => txid,
        Err(error) => {
            return refused(
                Txid::mint(0, gavel_protocol::ShardTag(0), [0; 16]),
                error.to_string(),
            );
        }
    };
    let account = number % BANK.accounts;
    let legs: Vec<Leg> = [(0, -1), (1, 1)]
        .map(|(shard, amount)| Leg {
            shard,
            account,
            amount,
        })
        .to_vec();
    let action = Action::Transfer(legs.clone());
    let process = arena.recorder.new_process();
    let begun = arena
        .recorder
        .invoke(process, Workload::Bank, txid, action.clone());
    let outcome = declared(arena, gavel, txid, &legs, Ack::Applied).await;
    arena.recorder.complete(begun, action, told(&outcome));
    outcome
}

fn refused(txid: Txid, detail: String) -> Outcome {
    Outcome::Refused {
        txid,
        why: Refusal::new(RefusalCode::InvalidRequest, detail),
    }
}
