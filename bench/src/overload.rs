//! Many times what can be done arrives for a minute: what is still done meanwhile, what it costs in
//! memory, and how soon everything is as before.
//!
//! Before and after, clients in a closed loop send as much as can be done. In between, transfers
//! arrive at a multiple of that rate from a process of their own ([`crate::flood`]), each with a
//! deadline and without retries: clients that do not care how much the others ask for. It runs on
//! the machine that the servers run on; what it uses is missing there, so that the rate meanwhile
//! is a lower bound.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use gavel_client::Gavel;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::audit::{audit, committed_of, until_nothing_is_prepared};
use crate::flood;
use crate::process::Processes;
use crate::scenario::{Draw, Place, Scenario};
use crate::variants::{Ended, Fleet, Layout, Search, Setting, Variant, run_through};
use crate::world::World;

const SHARDS: usize = 2;
/// Connections and caches are not measured.
const WARM_UP: Duration = Duration::from_secs(2);
/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(250);
/// Looks that make one second, over which a rate counts.
const LOOKS_PER_SECOND: usize = 4;
/// Back is who does so much of what he did before.
const BACK_SHARE: f64 = 0.95;

/// What is run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Gavel's executable.
    pub executable: PathBuf,
    /// Clients in the closed loop before and after.
    pub clients: usize,
    /// How many times what can be done arrives.
    pub factor: f64,
    /// How long one that arrives is waited for.
    pub deadline: Duration,
    /// How long before and after are.
    pub calm: Duration,
    /// How long the overload is.
    pub overload: Duration,
}

/// What clients were told so far.
#[derive(Default)]
struct Told {
    arrived: AtomicU64,
    /// Did not even reach the coordinator.
    lost: AtomicU64,
    committed: AtomicU64,
    refused: AtomicU64,
    /// What nobody could say the outcome of: the books know.
    unknown: Mutex<Vec<String>>,
}

/// One look: how much since the last one, and the memory of each process in MiB.
struct Look {
    since_begin: Duration,
    length: Duration,
    arrived: u64,
    lost: u64,
    committed: u64,
    refused: u64,
    memory_mib: Vec<(String, f64)>,
}

/// A crowd of clients, and what they were told.
struct Crowd {
    draw: Arc<Draw>,
    gavel: Gavel,
    told: Told,
}

type Clients = JoinSet<anyhow::Result<()>>;

/// Runs it, prints what came of it, and counts the money.
pub async fn run(world: &World, plan: &Plan) -> anyhow::Result<()> {
    let candidates = Layout::candidates(Scenario::Uniform.styles(), plan.clients, Search::Quick);
    let fleet = Fleet::fleet(
        Setting {
            shards: world.shards(SHARDS),
            clients: plan.clients,
            layout: candidates[candidates.len() - 1],
            executable: &plan.executable,
            // The limits are what is looked at: they stay as they come.
            limits: "",
        },
        false,
    )
    .await?;
    let processes = world.processes(SHARDS, fleet.processes());
    let draw = Arc::new(Draw::new(Scenario::Uniform, Place::Spread, world.accounts)?);
    let crowd = |gavel: &Gavel| {
        Arc::new(Crowd {
            draw: draw.clone(),
            gavel: gavel.clone(),
            told: Told::default(),
        })
    };
    let crowds = [(); 4].map(|()| crowd(fleet.client()));
    let [warm_up, before, overload, after] = &crowds;

    warm_up.in_a_loop(plan, WARM_UP, &processes).await?;
    let looks_before = before.in_a_loop(plan, plan.calm, &processes).await?;
    let usual = rate(&looks_before, |look| look.committed);
    let flood = flood::Plan {
        endpoint: fleet.endpoint().to_owned(),
        rate: usual * plan.factor,
        seconds: plan.overload.as_secs_f64(),
        deadline_ms: u64::try_from(plan.deadline.as_millis())?,
        accounts: world.accounts,
    };
    // Whoever is still under way at its end is heard while the clients are back already.
    let flooding = overload.arriving(&flood, &processes);
    let and_then = async {
        tokio::time::sleep(plan.overload).await;
        after.in_a_loop(plan, plan.calm, &processes).await
    };
    let (looks_meanwhile, looks_after) = tokio::try_join!(flooding, and_then)?;
    until_nothing_is_prepared(world).await?;
    fleet.stop().await?;

    print(&[
        ("before", &looks_before),
        ("overload", &looks_meanwhile),
        ("after", &looks_after),
    ]);
    print_back(&looks_after, usual);
    let mut committed = 0;
    let mut unknown = Vec::new();
    for crowd in &crowds {
        committed += crowd.told.committed.load(Ordering::Relaxed);
        unknown.append(&mut crowd.told.unknown());
    }
    println!(
        "{} were told that the outcome was not known.",
        unknown.len()
    );
    let found = committed_of(world, SHARDS, &unknown)?;
    audit(world, SHARDS, committed + found)
}

impl Crowd {
    /// Clients who send the next when the last one is over.
    async fn in_a_loop(
        self: &Arc<Self>,
        plan: &Plan,
        length: Duration,
        processes: &Processes,
    ) -> anyhow::Result<Vec<Look>> {
        let end = Instant::now() + length;
        let mut clients = Clients::new();
        for number in 0..plan.clients {
            let crowd = self.clone();
            clients.spawn(async move {
                while Instant::now() < end {
                    crowd.one(number).await?;
                }
                Ok(())
            });
        }
        let looks = self.told.watch(end, processes).await;
        join_all(&mut clients).await?;
        Ok(looks)
    }

    /// Transfers that arrive from elsewhere, whatever becomes of them.
    async fn arriving(
        &self,
        flood: &flood::Plan,
        processes: &Processes,
    ) -> anyhow::Result<Vec<Look>> {
        let mut reports = flood::start(flood)?;
        let end = Instant::now() + Duration::from_secs_f64(flood.seconds);
        let told = async {
            while let Some(report) = reports.recv().await {
                self.told.take_in(report);
            }
        };
        let (looks, ()) = tokio::join!(self.told.watch(end, processes), told);
        Ok(looks)
    }

    async fn one(&self, number: usize) -> anyhow::Result<()> {
        let work = self.draw.next(number);
        add(&self.told.arrived);
        match run_through(&self.gavel, &work).await {
            Ok(Ended::Committed { .. } | Ended::Late) => add(&self.told.committed),
            Ok(Ended::Refused) => add(&self.told.refused),
            Ok(Ended::Failed) => anyhow::bail!("a healthy transfer failed"),
            Err(_) => self.told.unknown().push(work.txid.to_string()),
        }
        Ok(())
    }
}

impl Told {
    fn counts(&self) -> [u64; 4] {
        let all = [&self.arrived, &self.lost, &self.committed, &self.refused];
        all.map(|count| count.load(Ordering::Relaxed))
    }

    fn take_in(&self, mut report: flood::Report) {
        self.arrived.fetch_add(report.arrived, Ordering::Relaxed);
        self.lost.fetch_add(report.lost, Ordering::Relaxed);
        self.committed
            .fetch_add(report.committed, Ordering::Relaxed);
        self.refused.fetch_add(report.refused, Ordering::Relaxed);
        self.unknown().append(&mut report.unknown);
    }

    fn unknown(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks until `end`.
    async fn watch(&self, end: Instant, processes: &Processes) -> Vec<Look> {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let begin = Instant::now();
        let (mut looks, mut last, mut counts) = (Vec::new(), begin, self.counts());
        while last < end {
            ticks.tick().await;
            let (now, new) = (Instant::now(), self.counts());
            let memory = processes.resident_mib().into_iter();
            looks.push(Look {
                since_begin: now - begin,
                length: now - last,
                arrived: new[0] - counts[0],
                lost: new[1] - counts[1],
                committed: new[2] - counts[2],
                refused: new[3] - counts[3],
                memory_mib: memory
                    .filter_map(|(name, mib)| Some((name, mib?)))
                    .collect(),
            });
            (last, counts) = (now, new);
        }
        looks
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

fn rate(looks: &[Look], of: impl Fn(&Look) -> u64) -> f64 {
    let length: Duration = looks.iter().map(|look| look.length).sum();
    looks.iter().map(of).sum::<u64>() as f64 / length.as_secs_f64()
}

/// When the first second ended in which as much was done as usual.
fn back_after(looks: &[Look], usual: f64) -> Option<Duration> {
    let mut seconds = looks.windows(LOOKS_PER_SECOND);
    let back = seconds.find(|second| rate(second, |look| look.committed) >= BACK_SHARE * usual)?;
    back.last().map(|look| look.since_begin)
}

async fn join_all(clients: &mut Clients) -> anyhow::Result<()> {
    while let Some(ended) = clients.join_next().await {
        ended.context("a client panicked")??;
    }
    Ok(())
}

fn print_back(after: &[Look], usual: f64) {
    let share = 100.0 * BACK_SHARE;
    match back_after(after, usual) {
        Some(time) => {
            let seconds = time.as_secs_f64();
            println!(
                "\nThe first second at {share:.0} % of the rate before ended after {seconds:.2} s."
            );
        }
        None => println!("\nNever back at {share:.0} % of the rate before."),
    }
}

fn print(phases: &[(&str, &[Look])]) {
    println!(
        "| phase | arrived/s | not even sent/s | committed/s | of before | refused/s |\n\
         |---|---|---|---|---|---|"
    );
    let usual = rate(phases[0].1, |look| look.committed);
    for (name, looks) in phases {
        let committed = rate(looks, |look| look.committed);
        println!(
            "| {name} | {:.0} | {:.0} | {committed:.0} | {:.0} % | {:.0} |",
            rate(looks, |look| look.arrived),
            rate(looks, |look| look.lost),
            100.0 * committed / usual,
            rate(looks, |look| look.refused),
        );
    }
    println!("\nMost memory, in MiB:\n");
    let names = phases[0].1.first().map(|look| &look.memory_mib);
    let names: Vec<_> = names.into_iter().flatten().map(|(name, _)| name).collect();
    print!("| phase |");
    names.iter().for_each(|name| print!(" {name} |"));
    println!("\n|---|{}", "---|".repeat(names.len()));
    for (phase, looks) in phases {
        print!("| {phase} |");
        for name in &names {
            let all = looks.iter().flat_map(|look| &look.memory_mib);
            let own = all.filter(|(other, _)| other == *name);
            print!(" {:.0} |", own.map(|(_, mib)| *mib).fold(0.0, f64::max));
        }
        println!();
    }
}
