//! A run: rounds of load and faults, each on a deployment of its own, and the report.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::seq::SliceRandom;
use serde::Serialize;

use crate::arena::{Arena, SHARDS};
use crate::bank::DATABASE;
use crate::error::ChaosError;
use crate::history::Event;
use crate::monitor::{Monitor, Sample};
use crate::nemesis::{Blow, Nemesis, Strikes};
use crate::proxy::Step;
use crate::verdict::Verdict;
use crate::verify::{Ending, verdicts};
use crate::workload::{Clients, Crowd, calm_transfer};

/// In-doubt branches are resolved within this, once everything is back (README).
const RESOLVED_WITHIN: Duration = Duration::from_secs(10);
/// A round's evidence is judged in memory: longer runs have more rounds.
const ROUND_MAX: Duration = Duration::from_secs(300);
const WARM_COMMITS: u64 = 30;
const WARM_LIMIT: Duration = Duration::from_secs(30);
const CALM_TRANSFERS: i64 = 20;
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Between two blows, so that their traces can be told apart.
const BREATH: Duration = Duration::from_millis(250);

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// For how long there are faults.
    pub time: Duration,
    /// Which faults.
    pub nemeses: Vec<Nemesis>,
    /// Where everything is kept.
    pub folder: PathBuf,
    /// The `gavel` to run.
    pub executable: PathBuf,
    /// How many clients.
    pub crowd: Crowd,
}

/// What happens, as it happens.
#[derive(Debug, Clone)]
pub enum Progress {
    /// A round begins.
    Round {
        /// Which, from 1.
        number: usize,
        /// Of how many.
        of: usize,
    },
    /// Everything runs, and the faults begin.
    Ready,
    /// A blow was struck, and healed.
    Blow(Blow),
    /// How it goes.
    Sample(Sample),
    /// The faults are over; the evidence is judged.
    Judging,
    /// A round is over.
    Judged(Box<Round>),
}

/// What became of one round.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// How long there were faults.
    pub seconds: f64,
    /// Every blow.
    pub blows: Vec<Blow>,
    /// How often transactions passed each step.
    pub steps: BTreeMap<String, u64>,
    /// What was seen over time.
    pub samples: Vec<Sample>,
    /// Latencies of commits, by second.
    pub latencies: Vec<Latency>,
    /// One per invariant.
    pub verdicts: Vec<Verdict>,
}

/// How long commits took, in one second of the run.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    /// Which second, since the history began.
    pub second: u64,
    /// How many.
    pub commits: u64,
    /// Half of them were faster, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 were faster.
    pub p99_ms: f64,
}

/// What became of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Names of the faults.
    pub nemeses: Vec<&'static str>,
    /// The rounds.
    pub rounds: Vec<Round>,
}

/// The result of a run, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// Every fault struck, and every invariant holds.
    Held,
    /// An invariant is broken.
    Violated,
    /// Nothing is broken, but some fault never struck, or some invariant was not compared: it
    /// proves nothing.
    NotRun,
}

/// Runs.
///
/// # Errors
/// The run could not be carried out; what it found is in the report.
pub async fn run(
    options: &Options,
    mut progress: impl FnMut(Progress),
) -> Result<Report, ChaosError> {
    let rounds = options.time.as_secs().div_ceil(ROUND_MAX.as_secs()).max(1);
    let rounds = usize::try_from(rounds).unwrap_or(usize::MAX);
    let time = options.time / u32::try_from(rounds).unwrap_or(u32::MAX);
    let mut report = Report {
        nemeses: options.nemeses.iter().map(|nemesis| nemesis.name).collect(),
        rounds: Vec::new(),
    };
    // Over all rounds, so that each blow of a nemesis strikes at another of its steps.
    let mut order = Order::new(&options.nemeses);
    for number in 1..=rounds {
        progress(Progress::Round { number, of: rounds });
        let folder = options.folder.join(format!("round-{number}"));
        let round = Play {
            options,
            folder: &folder,
            time,
        };
        let round = round.play(&mut order, &mut progress).await?;
        progress(Progress::Judged(Box::new(round.clone())));
        let broken = round
            .verdicts
            .iter()
            .any(|each| !each.violations.is_empty());
        report.rounds.push(round);
        if broken {
            // Its folder is the evidence; another round would only bury it.
            break;
        }
        remove_data(&folder)?;
    }
    Ok(report)
}

/// Which blow is next: all nemeses in turn, in an order that changes.
struct Order {
    all: Vec<Turn>,
    queue: Vec<usize>,
}

struct Turn {
    nemesis: Nemesis,
    blows: usize,
    has_struck: bool,
}

impl Order {
    fn new(nemeses: &[Nemesis]) -> Self {
        let first = |nemesis: &Nemesis| Turn {
            nemesis: *nemesis,
            blows: rand::random_range(0..nemesis.steps.len()),
            has_struck: false,
        };
        Self {
            all: nemeses.iter().map(first).collect(),
            queue: Vec::new(),
        }
    }

    /// The next one; of those that have not struck, if it is `late`.
    fn next(&mut self, late: bool) -> Option<(Nemesis, Step)> {
        if late {
            let all = &self.all;
            self.queue.retain(|index| !all[*index].has_struck);
        }
        if self.queue.is_empty() {
            let wanted = |index: &usize| !late || !self.all[*index].has_struck;
            self.queue = (0..self.all.len()).filter(wanted).collect();
            self.queue.shuffle(&mut rand::rng());
        }
        let Turn { nemesis, blows, .. } = &mut self.all[self.queue.pop()?];
        *blows += 1;
        Some((*nemesis, nemesis.steps[*blows % nemesis.steps.len()]))
    }

    fn note(&mut self, blow: &Blow) {
        let mut all = self.all.iter_mut();
        if let Some(turn) = all.find(|turn| turn.nemesis.name == blow.nemesis) {
            turn.has_struck |= blow.hit;
        }
    }

    fn someone_missed(&self) -> bool {
        self.all.iter().any(|turn| !turn.has_struck)
    }
}

/// One round.
struct Play<'a> {
    options: &'a Options,
    folder: &'a Path,
    time: Duration,
}

impl Play<'_> {
    async fn play(
        &self,
        order: &mut Order,
        progress: &mut impl FnMut(Progress),
    ) -> Result<Round, ChaosError> {
        let history = self.folder.join("history.jsonl");
        make_folder(self.folder)?;
        let executable = self.options.executable.clone();
        let arena = Arena::start(self.folder.join("dev"), executable, history).await?;
        let clients = Clients::start(&arena, self.options.crowd).await?;
        let monitor = Monitor::start(&arena, clients.counts());
        warm_up(&monitor).await?;
        progress(Progress::Ready);
        let began = Instant::now();
        let mut strikes = Strikes::new(&arena, self.patience());
        let mut blows = Vec::new();
        // Who has not struck yet gets half as long again.
        while began.elapsed() < self.time
            || (order.someone_missed() && began.elapsed() < self.time * 3 / 2)
        {
            let is_late = began.elapsed() >= self.time;
            let Some((nemesis, step)) = order.next(is_late) else {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            };
            let blow = strikes.strike(nemesis, step).await?;
            order.note(&blow);
            blows.push(blow.clone());
            progress(Progress::Blow(blow));
            progress(Progress::Sample(monitor.latest()));
            tokio::time::sleep(BREATH).await;
        }
        let seconds = began.elapsed().as_secs_f64();
        strikes.settle().await;
        progress(Progress::Judging);
        arena.heal().await?;
        clients.stop().await?;
        let at_rest_after = rest(&arena).await?;
        let (calm, calm_failures) = calm(&arena).await?;
        let samples = monitor.samples();
        drop((monitor, strikes));
        let ending = Ending {
            at_rest_after,
            calm,
            calm_failures,
            foreign: Vec::new(),
        };
        let events = arena.recorder.events();
        let latencies = latencies(&events);
        let steps = arena.witness.steps();
        let verdicts = verdicts(&arena, events, ending).await?;
        stop(arena).await?;
        Ok(Round {
            seconds,
            blows,
            steps: steps
                .iter()
                .map(|(step, count)| (step.to_string(), *count))
                .collect(),
            samples,
            latencies,
            verdicts,
        })
    }

    /// Short runs have many short faults rather than one that lasts.
    fn patience(&self) -> Duration {
        (self.time / 20).clamp(Duration::from_secs(2), Duration::from_secs(14))
    }
}

impl Report {
    /// What the run has shown.
    #[must_use]
    pub fn conclusion(&self) -> Conclusion {
        let mut verdicts = self.rounds.iter().flat_map(|round| &round.verdicts);
        if verdicts
            .clone()
            .any(|verdict| !verdict.violations.is_empty())
        {
            return Conclusion::Violated;
        }
        let all_compared = verdicts.all(Verdict::holds);
        if all_compared && self.missed().is_empty() && !self.rounds.is_empty() {
            Conclusion::Held
        } else {
            Conclusion::NotRun
        }
    }

    /// The nemeses that never struck.
    #[must_use]
    pub fn missed(&self) -> Vec<&'static str> {
        let struck = |name: &&&str| self.hits().keys().any(|(nemesis, _)| nemesis == *name);
        self.nemeses
            .iter()
            .filter(|name| !struck(name))
            .copied()
            .collect()
    }

    /// How often each nemesis struck at each step.
    #[must_use]
    pub fn hits(&self) -> BTreeMap<(&'static str, Step), u64> {
        let mut hits = BTreeMap::new();
        let blows = self.rounds.iter().flat_map(|round| &round.blows);
        for blow in blows.filter(|blow| blow.hit) {
            *hits.entry((blow.nemesis, blow.step)).or_default() += 1;
        }
        hits
    }
}

async fn warm_up(monitor: &Monitor) -> Result<(), ChaosError> {
    let deadline = Instant::now() + WARM_LIMIT;
    while monitor.latest().committed < WARM_COMMITS {
        if Instant::now() > deadline {
            let message = format!(
                "{} transactions committed in the first {WARM_LIMIT:?}, before any fault",
                monitor.latest().committed
            );
            return Err(ChaosError::NeverWorked(message));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Waits until nothing of Gavel's is prepared.
async fn rest(arena: &Arc<Arena>) -> Result<Option<Duration>, ChaosError> {
    let began = Instant::now();
    while began.elapsed() < RESOLVED_WITHIN {
        let prepared = arena
            .blocking(|dev| {
                let mut count = 0;
                for server in dev.servers() {
                    let sql = "SELECT 1 FROM pg_prepared_xacts WHERE gid LIKE 'gavel:%'";
                    count += server.sql(DATABASE, sql)?.len();
                }
                Ok(count)
            })
            .await?;
        if prepared == 0 {
            return Ok(Some(began.elapsed()));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(None)
}

/// Transfers one after the other, through each coordinator, with each home.
async fn calm(arena: &Arc<Arena>) -> Result<(usize, Vec<String>), ChaosError> {
    let clients = [arena.client(&[0]).await?, arena.client(&[1]).await?];
    let mut failures = Vec::new();
    let mut count = 0;
    for number in 0..CALM_TRANSFERS {
        for client in &clients {
            let home = usize::try_from(number).unwrap_or_default() % SHARDS;
            let outcome = calm_transfer(arena, client, home, number).await;
            count += 1;
            if !outcome.is_committed() {
                failures.push(outcome.to_string());
            }
        }
    }
    Ok((count, failures))
}

/// Latencies of commits by the second in which they ended.
fn latencies(events: &[Event]) -> Vec<Latency> {
    let mut open = BTreeMap::new();
    let mut seconds: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for event in events {
        match &event.told {
            None => drop(open.insert(event.process, event.time)),
            Some(told) => {
                let began = open.remove(&event.process);
                if let (Some(began), crate::history::Told::Committed) = (began, told) {
                    let second = event.time / 1_000_000_000;
                    seconds.entry(second).or_default().push(event.time - began);
                }
            }
        }
    }
    let quantile = |sorted: &[u64], part: usize| {
        let index = (sorted.len() * part / 100).min(sorted.len() - 1);
        sorted[index] as f64 / 1e6
    };
    seconds
        .into_iter()
        .map(|(second, mut times)| {
            times.sort_unstable();
            Latency {
                second,
                commits: times.len() as u64,
                p50_ms: quantile(&times, 50),
                p99_ms: quantile(&times, 99),
            }
        })
        .collect()
}

async fn stop(arena: Arc<Arena>) -> Result<(), ChaosError> {
    let stopped = tokio::task::spawn_blocking(move || drop(arena));
    stopped.await.map_err(ChaosError::Panicked)
}

fn make_folder(folder: &Path) -> Result<(), ChaosError> {
    std::fs::create_dir_all(folder).map_err(|source| ChaosError::Write {
        what: folder.display().to_string(),
        source,
    })
}

/// The servers' data of a round that held; history and logs stay.
fn remove_data(folder: &Path) -> Result<(), ChaosError> {
    let data = folder.join("dev").join("postgres");
    std::fs::remove_dir_all(&data).map_err(|source| ChaosError::Write {
        what: data.display().to_string(),
        source,
    })
}
