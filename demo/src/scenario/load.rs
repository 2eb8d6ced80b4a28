//! The clients: they move money through the API, and keep every answer to check it at the end.
//!
//! A client repeats a transfer with the same `Idempotency-Key` until it has a final answer, as
//! any careful client would. So it knows of every transfer whether it was done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use rand::Rng as _;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::show::{Show, thousands};

/// What every account is opened with, in minor units.
const OPENED_WITH: i64 = 100_000;
const AMOUNT_MAX: i64 = 20_000;
/// One transfer in this many asks for more than any account can have.
const HOPELESS_ONE_IN: u32 = 50;
const OPENED_AT_ONCE: usize = 16;
/// Above the API's own deadline: it answers first.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);
/// How long one transfer may go without a final answer before the demo calls it a failure.
const PATIENCE: Duration = Duration::from_secs(45);

/// What is going on, for the progress line.
#[derive(Debug, Default)]
pub(super) struct Tally {
    committed: AtomicU64,
    aborted: AtomicU64,
    repeated: AtomicU64,
}

impl Tally {
    pub(super) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    pub(super) fn aborted(&self) -> u64 {
        self.aborted.load(Ordering::Relaxed)
    }

    pub(super) fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }
}

/// A transfer that the API called done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Acknowledged {
    pub(super) txid: Uuid,
    pub(super) from: Uuid,
    pub(super) to: Uuid,
    pub(super) amount: i64,
}

/// All that the clients were told.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) committed: Vec<Acknowledged>,
    /// Transfers that the API called not done, for good.
    pub(super) aborted: Vec<Uuid>,
    /// Transfers that had to be asked for more than once.
    pub(super) retried: u64,
    /// Answers "not known yet".
    pub(super) in_doubt_answers: u64,
    /// Answers "not now", and answers that did not come.
    pub(super) refused_answers: u64,
}

impl Done {
    fn add(&mut self, other: Self) {
        self.committed.extend(other.committed);
        self.aborted.extend(other.aborted);
        self.retried += other.retried;
        self.in_doubt_answers += other.in_doubt_answers;
        self.refused_answers += other.refused_answers;
    }
}

/// Opens accounts through the API.
pub(super) async fn open_accounts(
    api: &str,
    count: usize,
    show: &Show,
) -> anyhow::Result<Vec<Uuid>> {
    show.step(
        "Opening accounts",
        &format!(
            "{} accounts with 1,000.00 each. A hash of its id decides in which database an \
             account lives.",
            thousands(count as u64)
        ),
    );
    let client = Client::new();
    stream::iter(0..count)
        .map(|number| open_account(&client, api, number))
        .buffer_unordered(OPENED_AT_ONCE)
        .try_collect()
        .await
}

async fn open_account(client: &Client, api: &str, number: usize) -> anyhow::Result<Uuid> {
    let body = json!({"owner": format!("owner {number}"), "initial_balance": OPENED_WITH});
    let response = client
        .post(format!("{api}/accounts"))
        .json(&body)
        .send()
        .await?;
    let (status, answer) = (response.status(), response.json::<Value>().await?);
    if status != StatusCode::CREATED {
        bail!("an account was not opened: {status} {answer}");
    }
    id_of(&answer["id"]).context("an account without an id")
}

fn id_of(value: &Value) -> Option<Uuid> {
    value.as_str()?.parse().ok()
}

/// Clients at work.
pub(super) struct Load {
    tally: Arc<Tally>,
    stop: Arc<AtomicBool>,
    clients: JoinSet<anyhow::Result<Done>>,
}

impl Load {
    pub(super) fn start(api: &str, accounts: Vec<Uuid>, clients: usize) -> Self {
        let (tally, stop) = (Arc::<Tally>::default(), Arc::<AtomicBool>::default());
        let accounts: Arc<[Uuid]> = accounts.into();
        let http = Client::new();
        let mut set = JoinSet::new();
        for _ in 0..clients {
            let teller = Teller {
                http: http.clone(),
                url: format!("{api}/transfers"),
                accounts: Arc::clone(&accounts),
                tally: Arc::clone(&tally),
                done: Done::default(),
            };
            set.spawn(teller.work(Arc::clone(&stop)));
        }
        Self {
            tally,
            stop,
            clients: set,
        }
    }

    pub(super) fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.tally)
    }

    /// Lets every client finish its transfer, and collects what they were told.
    pub(super) async fn finish(mut self) -> anyhow::Result<Done> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Done::default();
        while let Some(done) = self.clients.join_next().await {
            all.add(done??);
        }
        Ok(all)
    }
}

/// One client.
struct Teller {
    http: Client,
    url: String,
    accounts: Arc<[Uuid]>,
    tally: Arc<Tally>,
    done: Done,
}

/// What an answer means.
enum Answer {
    Committed(Uuid),
    Aborted(Uuid),
    InDoubt,
    NotNow,
}

impl Teller {
    async fn work(mut self, stop: Arc<AtomicBool>) -> anyhow::Result<Done> {
        while !stop.load(Ordering::Relaxed) {
            self.transfer().await?;
        }
        Ok(self.done)
    }

    /// One transfer, until it has a final answer.
    async fn transfer(&mut self) -> anyhow::Result<()> {
        let (from, to, amount) = self.draw();
        let body = json!({"from": from, "to": to, "amount": amount});
        let key = Uuid::now_v7().to_string();
        let deadline = Instant::now() + PATIENCE;
        let mut tries = 0;
        loop {
            tries += 1;
            match self.ask(&key, &body).await? {
                Answer::Committed(txid) => {
                    self.tally.committed.fetch_add(1, Ordering::Relaxed);
                    self.done.committed.push(Acknowledged {
                        txid,
                        from,
                        to,
                        amount,
                    });
                    break;
                }
                Answer::Aborted(txid) => {
                    self.tally.aborted.fetch_add(1, Ordering::Relaxed);
                    self.done.aborted.push(txid);
                    break;
                }
                Answer::InDoubt => self.done.in_doubt_answers += 1,
                Answer::NotNow => self.done.refused_answers += 1,
            }
            if Instant::now() > deadline {
                bail!("a transfer has had no final answer for {PATIENCE:?}; its key is {key}");
            }
            self.tally.repeated.fetch_add(1, Ordering::Relaxed);
            sleep(PAUSE).await;
        }
        self.done.retried += u64::from(tries > 1);
        Ok(())
    }

    fn draw(&self) -> (Uuid, Uuid, i64) {
        let mut random = rand::rng();
        let count = self.accounts.len();
        let from = random.random_range(0..count);
        // Any account but the payer's.
        let to = (from + random.random_range(1..count)) % count;
        let amount = match random.random_ratio(1, HOPELESS_ONE_IN) {
            true => OPENED_WITH * i64::try_from(count).unwrap_or(i64::MAX / OPENED_WITH) + 1,
            false => random.random_range(1..=AMOUNT_MAX),
        };
        (self.accounts[from], self.accounts[to], amount)
    }

    /// Sends the transfer.
    ///
    /// # Errors
    /// An answer that no correct API gives: repeating it would hide it.
    async fn ask(&self, key: &str, body: &Value) -> anyhow::Result<Answer> {
        let request = self
            .http
            .post(&self.url)
            .header("Idempotency-Key", key)
            .json(body);
        let Ok(response) = request.timeout(ANSWER_WAIT).send().await else {
            return Ok(Answer::NotNow);
        };
        let status = response.status();
        let Ok(answer) = response.json::<Value>().await else {
            return Ok(Answer::NotNow);
        };
        match status {
            StatusCode::CREATED => {
                let id = id_of(&answer["id"]).context("a transfer without an id")?;
                Ok(Answer::Committed(id))
            }
            StatusCode::ACCEPTED => Ok(Answer::InDoubt),
            StatusCode::SERVICE_UNAVAILABLE => Ok(Answer::NotNow),
            StatusCode::CONFLICT if answer["error"]["code"] == "insufficient_funds" => {
                let id = id_of(&answer["error"]["transfer"]).context("an abort without an id")?;
                Ok(Answer::Aborted(id))
            }
            _ => bail!("an answer that should not be: {status} {answer}"),
        }
    }
}
