//! Transfers that arrive at a rate, whatever becomes of them, from a process of their own: a crowd
//! of clients who do not know of each other, as cheap as it can be made.
//!
//! Everything that has arrived since the last look goes into one message of a submit stream. What
//! the connection does not take at once is lost: so are calls to a server that does not accept.

use std::collections::HashMap;
use std::io::Write as _;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gavel_wire::api::gavel_client::GavelClient;
use gavel_wire::api::submit_answer::Answer as Kind;
use gavel_wire::api::{self as wire, guard, outcome};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;

use crate::scenario::{Draw, Place, Scenario};
use crate::work::{Step, Work};
use crate::world::SHARDS;

/// Between two messages.
const TICK: Duration = Duration::from_millis(2);
/// Calls in one message at most.
const CALLS_MAX: usize = 1_000;
/// Messages that wait for the connection.
const MESSAGES_MAX: usize = 4;
/// Between two reports.
const REPORT_EVERY: Duration = Duration::from_millis(250);

/// What is sent.
#[derive(Debug, Clone, clap::Args)]
pub struct Plan {
    /// The coordinator
    #[arg(long)]
    pub endpoint: String,
    /// Transfers that arrive per second
    #[arg(long)]
    pub rate: f64,
    /// For how long
    #[arg(long)]
    pub seconds: f64,
    /// How long one is waited for, in milliseconds
    #[arg(long)]
    pub deadline_ms: u64,
    /// Accounts on each shard
    #[arg(long)]
    pub accounts: i64,
}

/// What came of it since the last report; in the last one also who was told nothing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// Wanted to transfer.
    pub arrived: u64,
    /// Could not be sent.
    pub lost: u64,
    /// Told that it is committed.
    pub committed: u64,
    /// Told that it was refused.
    pub refused: u64,
    /// Whom nobody could tell what became of his: the books know.
    pub unknown: Vec<String>,
}

#[derive(Default)]
struct Counts {
    arrived: AtomicU64,
    lost: AtomicU64,
    committed: AtomicU64,
    refused: AtomicU64,
    /// Calls that have no final answer, with their txids.
    waiting: Mutex<HashMap<u64, String>>,
}

/// A flood in another process; what it reports comes through the channel.
pub fn start(plan: &Plan) -> anyhow::Result<mpsc::UnboundedReceiver<Report>> {
    let own = std::env::current_exe().context("cannot find this executable")?;
    let mut process = Command::new(own)
        .arg("flood")
        .args(["--endpoint", &plan.endpoint])
        .args(["--rate", &plan.rate.to_string()])
        .args(["--seconds", &plan.seconds.to_string()])
        .args(["--deadline-ms", &plan.deadline_ms.to_string()])
        .args(["--accounts", &plan.accounts.to_string()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the flood")?;
    let (reports, received) = mpsc::unbounded_channel();
    let output = process.stdout.take().context("it has an output")?;
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if let Ok(report) = serde_json::from_str(&line) {
                let _nobody_listens = reports.send(report);
            }
        }
        process.wait().await
    });
    Ok(received)
}

/// The flood itself: reports on standard output, one JSON object per line.
pub async fn run(plan: &Plan) -> anyhow::Result<()> {
    ensure!(plan.rate > 0.0, "nothing arrives at this rate");
    let counts = Arc::new(Counts::default());
    let (messages, stream) = mpsc::channel(MESSAGES_MAX);
    let mut client = GavelClient::connect(plan.endpoint.clone())
        .await?
        .max_decoding_message_size(usize::MAX);
    let answers = client.submit_stream(ReceiverStream::new(stream)).await?;
    let end = Instant::now() + Duration::from_secs_f64(plan.seconds);
    let sending = tokio::spawn(send(plan.clone(), end, messages, counts.clone()));
    let hearing = tokio::spawn(hear(answers.into_inner(), counts.clone()));
    let mut ticks = interval(REPORT_EVERY);
    let mut last = [0; 4];
    while Instant::now() < end {
        ticks.tick().await;
        last = counts.report(last, Vec::new())?;
    }
    sending.await.context("the sender panicked")??;
    // Whoever is still under way has his deadline; the stream ends when all are answered.
    let deadline = Duration::from_millis(plan.deadline_ms);
    let _still_silent = tokio::time::timeout(2 * deadline, hearing).await;
    let unknown = std::mem::take(&mut *counts.waiting());
    counts.report(last, unknown.into_values().collect())?;
    Ok(())
}

async fn send(
    plan: Plan,
    end: Instant,
    messages: mpsc::Sender<wire::SubmitBatch>,
    counts: Arc<Counts>,
) -> anyhow::Result<()> {
    let draw = Draw::new(Scenario::Uniform, Place::Spread, plan.accounts)?;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let begun = Instant::now();
    let mut call = 0;
    while Instant::now() < end {
        ticks.tick().await;
        let due = (begun.elapsed().as_secs_f64() * plan.rate) as u64;
        let arrived = counts.arrived.load(Ordering::Relaxed);
        let many = usize::try_from(due.saturating_sub(arrived))?.min(CALLS_MAX);
        // Who cannot be sent anyway costs nothing more.
        let Ok(place) = messages.try_reserve() else {
            add(&counts.arrived, many);
            add(&counts.lost, many);
            continue;
        };
        let mut calls = Vec::with_capacity(many);
        for _ in 0..many {
            let work = draw.next(0);
            call += 1;
            counts.waiting().insert(call, work.txid.to_string());
            calls.push(wire::SubmitCall {
                call,
                request: Some(request(&work, plan.deadline_ms)),
            });
        }
        add(&counts.arrived, many);
        place.send(wire::SubmitBatch { calls });
    }
    Ok(())
}

async fn hear(
    mut answers: tonic::Streaming<wire::SubmitAnswers>,
    counts: Arc<Counts>,
) -> anyhow::Result<()> {
    while let Some(message) = answers.message().await? {
        for answer in message.answers {
            let told = match answer.answer {
                Some(Kind::Response(response)) => response.outcome.and_then(|told| told.outcome),
                Some(Kind::Error(error)) => anyhow::bail!("{}", error.message),
                None => None,
            };
            match told {
                Some(outcome::Outcome::Committed(_)) => add(&counts.committed, 1),
                Some(outcome::Outcome::Refused(_)) => add(&counts.refused, 1),
                Some(outcome::Outcome::Aborted(reason)) => {
                    anyhow::bail!("a healthy transfer failed: {}", reason.message)
                }
                // It stays among those who wait: the books know.
                Some(outcome::Outcome::InDoubt(_)) | None => continue,
            }
            counts.waiting().remove(&answer.call);
        }
    }
    Ok(())
}

fn request(work: &Work, timeout_ms: u64) -> wire::SubmitRequest {
    let branches = work.branches.iter().map(|branch| wire::Branch {
        shard: SHARDS[branch.shard].to_owned(),
        access: None,
        statements: branch.steps.iter().map(statement).collect(),
    });
    wire::SubmitRequest {
        txid: work.txid.to_string(),
        branches: branches.collect(),
        timeout_ms: Some(timeout_ms),
        ..Default::default()
    }
}

fn statement(step: &Step) -> wire::Statement {
    let params = step.params.iter().cloned();
    wire::Statement {
        sql: step.sql.to_owned(),
        params: params.map(|text| wire::Value { text }).collect(),
        guard: step.expects_rows.map(|rows| wire::Guard {
            rows: Some(guard::Rows::Exactly(rows)),
        }),
    }
}

impl Counts {
    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, String>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints what has changed since `last`, and gives what it is now.
    fn report(&self, last: [u64; 4], unknown: Vec<String>) -> anyhow::Result<[u64; 4]> {
        let all = [&self.arrived, &self.lost, &self.committed, &self.refused];
        let now = all.map(|count| count.load(Ordering::Relaxed));
        let report = Report {
            arrived: now[0] - last[0],
            lost: now[1] - last[1],
            committed: now[2] - last[2],
            refused: now[3] - last[3],
            unknown,
        };
        let mut line = serde_json::to_vec(&report)?;
        line.push(b'\n');
        std::io::stdout().write_all(&line)?;
        Ok(now)
    }
}

fn add(count: &AtomicU64, more: usize) {
    count.fetch_add(more as u64, Ordering::Relaxed);
}
