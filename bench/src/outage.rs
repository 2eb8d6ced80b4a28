//! One of four shards goes away and comes back: what that costs those who do not need it.
//!
//! Two crowds of clients in a closed loop: one over the shards that stay, one over pairs with the
//! one that goes. The first must keep its rate (I7); the second is refused until the shard is back.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use local_postgres::Mode;
use rand::Rng as _;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::audit::{audit, committed_of, until_nothing_is_prepared};
use crate::scenario::Scenario;
use crate::variants::{Ended, Kind, LIMITS, Layout, Search, Setting, Variant};
use crate::work::{Entry, Form, Style, Work};
use crate::world::World;

/// All shards; the last one goes away.
const SHARDS: usize = 4;
const GOES: usize = SHARDS - 1;

/// How the shard goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// Its server ends at once: connections are refused.
    Stop,
    /// Its server is frozen (SIGSTOP): nothing answers.
    Freeze,
}

/// What is run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Gavel's executable.
    pub executable: PathBuf,
    /// Clients in each crowd.
    pub clients: usize,
    /// How long each phase is.
    pub phase: Duration,
    /// How the shard goes away.
    pub fault: Fault,
}

/// The phases, in their order.
const PHASES: [&str; 3] = ["before", "away", "back"];

#[derive(Default)]
struct Crowd {
    committed: [AtomicU64; PHASES.len()],
    refused: [AtomicU64; PHASES.len()],
}

struct Run {
    accounts: i64,
    variant: Arc<dyn Variant>,
    phase: AtomicUsize,
    is_over: AtomicBool,
    others: Crowd,
    own: Crowd,
    /// What nobody could say the outcome of: the books know.
    unknown: Mutex<Vec<String>>,
}

/// Runs it, prints what came of it, and counts the money.
pub async fn run(world: &World, plan: &Plan) -> anyhow::Result<()> {
    let candidates = Layout::candidates(Scenario::Uniform.styles(), plan.clients, Search::Quick);
    let setting = Setting {
        shards: world.shards(SHARDS),
        clients: 2 * plan.clients,
        layout: candidates[candidates.len() - 1],
        executable: &plan.executable,
        limits: LIMITS,
    };
    let run = Arc::new(Run {
        accounts: world.accounts,
        variant: Kind::Fleet.start(setting).await?,
        phase: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
        others: Crowd::default(),
        own: Crowd::default(),
        unknown: Mutex::default(),
    });
    let mut clients = JoinSet::new();
    for number in 0..2 * plan.clients {
        let run = run.clone();
        clients.spawn(async move { run.client(number % 2 == 0).await });
    }
    let server = &world.servers(SHARDS)[GOES];
    let mut lengths = Vec::new();
    for phase in 0..PHASES.len() {
        match (phase, plan.fault) {
            (1, Fault::Stop) => server.stop(Mode::Immediate)?,
            (1, Fault::Freeze) => server.pause()?,
            (2, Fault::Stop) => server.start()?,
            (2, Fault::Freeze) => server.resume(),
            _ => {}
        }
        run.phase.store(phase, Ordering::Relaxed);
        let begun = Instant::now();
        sleep(plan.phase).await;
        lengths.push(begun.elapsed());
    }
    run.is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.context("a client panicked")??;
    }
    until_nothing_is_prepared(world).await?;
    run.variant.stop().await?;
    print(&run, &lengths);
    let unknown = run.unknown.lock().unwrap_or_else(PoisonError::into_inner);
    let found = committed_of(world, SHARDS, &unknown)?;
    let told = [&run.others, &run.own].map(|crowd| crowd.committed.each_ref().map(load));
    audit(world, SHARDS, told.iter().flatten().sum::<u64>() + found)
}

impl Run {
    async fn client(&self, over_the_one_that_goes: bool) -> anyhow::Result<()> {
        let crowd = match over_the_one_that_goes {
            true => &self.own,
            false => &self.others,
        };
        while !self.is_over.load(Ordering::Relaxed) {
            let work = self.draw(over_the_one_that_goes)?;
            let ended = self.variant.run(&work).await;
            let phase = self.phase.load(Ordering::Relaxed);
            match ended {
                Ok(Ended::Committed { .. } | Ended::Late) => add(&crowd.committed[phase]),
                Ok(Ended::Refused) => add(&crowd.refused[phase]),
                Ok(Ended::Failed) => anyhow::bail!("a healthy transfer failed"),
                Err(_) => {
                    let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
                    unknown.push(work.txid.to_string());
                }
            }
        }
        Ok(())
    }

    fn draw(&self, over_the_one_that_goes: bool) -> anyhow::Result<Work> {
        let mut random = rand::rng();
        let first = random.random_range(0..GOES);
        let second = match over_the_one_that_goes {
            true => GOES,
            false => (first + random.random_range(1..GOES)) % GOES,
        };
        let mut entry = |shard, amount| Entry {
            shard,
            account: random.random_range(1..=self.accounts),
            amount,
        };
        let entries = [entry(first, -1), entry(second, 1)];
        let form = Form {
            wide: false,
            broken_mark: None,
            healthy: true,
            style: Style::Declared,
        };
        let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let unix_ms = u64::try_from(since.as_millis())?;
        Ok(Work::transfer(&entries, form, unix_ms, rand::random()))
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

fn print(run: &Run, lengths: &[Duration]) {
    println!("| crowd | phase | transfers/s | of before | refused/s |\n|---|---|---|---|---|");
    for (name, crowd) in [
        ("over the others", &run.others),
        ("over the one that goes", &run.own),
    ] {
        let rate = |counts: &[AtomicU64; PHASES.len()], phase: usize| {
            load(&counts[phase]) as f64 / lengths[phase].as_secs_f64()
        };
        for (phase, phase_name) in PHASES.iter().enumerate() {
            let (committed, before) = (rate(&crowd.committed, phase), rate(&crowd.committed, 0));
            println!(
                "| {name} | {phase_name} | {committed:.0} | {:.0} % | {:.0} |",
                100.0 * committed / before,
                rate(&crowd.refused, phase)
            );
        }
    }
    let unknown = run.unknown.lock().unwrap_or_else(PoisonError::into_inner);
    println!(
        "\n{} were told that the outcome was not known.",
        unknown.len()
    );
}
