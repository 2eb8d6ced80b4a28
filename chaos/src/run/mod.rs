//! A run: rounds of load and faults, each on a deployment of its own, and the report.

mod aftermath;
mod order;
mod outcome;
mod rounds;

use std::fs::Permissions;
use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::arena::{Arena, COORDINATORS, Needs};
use crate::error::ChaosError;
use crate::monitor::{Monitor, Sample};
use crate::nemesis::{Blow, Nemesis, Strikes};
use crate::pulse::{self, Pulse};

use crate::verify::{Seen, verdicts};
use crate::workload::{Clients, Crowd};

pub use outcome::{Conclusion, Latency, Report, Round};
pub use rounds::BATCH_MEMBERS;

use order::Order;
use outcome::latencies;

const WARM_COMMITS: u64 = 30;
const WARM_LIMIT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const LATE_MIN: Duration = Duration::from_secs(60);
const SHOW_EVERY: Duration = Duration::from_millis(500);

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
    /// How many members batches have at most: each coordinator of each round takes the next one.
    /// [`BATCH_MEMBERS`] if there is none.
    pub batch_members: Vec<usize>,
    /// Ends the run early; what was seen until then is judged.
    pub stop: CancellationToken,
}

/// What happens, as it happens.
#[derive(Debug, Clone)]
pub enum Progress {
    /// A fault cannot be made here.
    Skipped {
        /// Which.
        nemesis: &'static str,
        /// Why not.
        why: String,
    },
    /// A round begins.
    Round {
        /// Which, from 1.
        number: usize,
        /// Of how many.
        of: usize,
        /// How many members the batches of each coordinator have at most.
        batch_members: [usize; COORDINATORS],
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

/// Runs.
///
/// # Errors
/// The run could not be carried out; what it found is in the report.
pub async fn run(
    options: &Options,
    mut progress: impl FnMut(Progress),
) -> Result<Report, ChaosError> {
    let rounds = rounds::count(options.time, &options.batch_members);
    let time = options.time / u32::try_from(rounds).unwrap_or(u32::MAX);
    let (nemeses, skipped) = possible(&options.nemeses);
    for (nemesis, why) in &skipped {
        let (nemesis, why) = (*nemesis, why.clone());
        progress(Progress::Skipped { nemesis, why });
    }
    let mut report = Report {
        nemeses: nemeses.iter().map(|nemesis| nemesis.name).collect(),
        skipped,
        rounds: Vec::new(),
    };
    // Over all rounds, so that each blow of a nemesis strikes at another of its steps.
    let mut order = Order::new(&nemeses);
    for number in 1..=rounds {
        let batch_members = rounds::batch_members(&options.batch_members, number);
        progress(Progress::Round {
            number,
            of: rounds,
            batch_members,
        });
        let folder = options.folder.join(format!("round-{number}"));
        let round = Play {
            options,
            needs: needs(&nemeses),
            spares_somebody: nemeses.iter().any(|nemesis| nemesis.spares_somebody()),
            folder: &folder,
            time,
            batch_members,
            is_last: number == rounds,
        };
        let round = round.play(&mut order, &mut progress).await?;
        progress(Progress::Judged(Box::new(round.clone())));
        let broken = round
            .verdicts
            .iter()
            .any(|each| !each.violations.is_empty());
        report.rounds.push(round);
        if broken || options.stop.is_cancelled() {
            // Its folder is the evidence; another round would only bury it.
            break;
        }
        remove_data(&folder)?;
    }
    Ok(report)
}

/// Those that can be done here, and why the others cannot.
fn possible(nemeses: &[Nemesis]) -> (Vec<Nemesis>, Vec<(&'static str, String)>) {
    let mut possible = Vec::new();
    let mut skipped = Vec::new();
    for nemesis in nemeses {
        match nemesis.obstacle() {
            Some(why) => skipped.push((nemesis.name, why)),
            None => possible.push(*nemesis),
        }
    }
    (possible, skipped)
}

fn needs(nemeses: &[Nemesis]) -> Needs {
    Needs {
        small_disk: nemeses.iter().any(|nemesis| nemesis.needs_small_disk()),
        standbys: nemeses.iter().any(|nemesis| nemesis.needs_standbys()),
    }
}

/// One round.
struct Play<'a> {
    options: &'a Options,
    needs: Needs,
    /// Whether any of the faults does not touch everybody.
    spares_somebody: bool,
    folder: &'a Path,
    time: Duration,
    batch_members: [usize; COORDINATORS],
    /// Whoever has not struck in this round has no other.
    is_last: bool,
}

impl Play<'_> {
    async fn play(
        &self,
        order: &mut Order,
        progress: &mut impl FnMut(Progress),
    ) -> Result<Round, ChaosError> {
        make_folder(self.folder)?;
        let (executable, history) = (
            self.options.executable.clone(),
            self.folder.join("history.jsonl"),
        );
        let dev = self.folder.join("dev");
        let arena = Arena::start(dev, executable, history, self.needs, self.batch_members).await?;
        let clients = Clients::start(&arena, self.options.crowd).await?;
        let monitor = Monitor::start(&arena, clients.counts());
        warm_up(&monitor).await?;
        let pulse = Pulse::start(&arena).await?;
        pulse.calm().await?;
        progress(Progress::Ready);
        let began = Instant::now();
        let watching = (&monitor, &pulse);
        let (blows, seen) = self.fight(&arena, watching, order, progress).await?;
        let seconds = began.elapsed().as_secs_f64();
        progress(Progress::Judging);
        arena.heal().await?;
        clients.stop().await?;
        let beats = pulse.stop().await?;
        let kept = self.spares_somebody.then(|| pulse::judge(&beats, &blows));
        let ending = aftermath::ending(&arena, seen, kept.clone()).await?;
        let samples = monitor.samples();
        drop(monitor);
        let events = arena.recorder.events();
        let latencies = latencies(&events);
        let steps = arena.witness.steps();
        let largest_batch = aftermath::largest_batch(&arena).await?;
        let verdicts = verdicts(&arena, events, ending).await?;
        aftermath::stop(arena).await?;
        let named = steps.iter().map(|(step, count)| (step.to_string(), *count));
        Ok(Round {
            batch_members: self.batch_members,
            largest_batch,
            seconds,
            blows,
            steps: named.collect(),
            samples,
            latencies,
            kept,
            verdicts,
        })
    }

    /// Strikes until the time is over. If somebody has not struck by the end of the last round, or too little was seen of
    /// those whom faults do not touch, there is half as long again, and a minute at least: on a busy
    /// machine a short run should take longer rather than prove nothing.
    async fn fight(
        &self,
        arena: &Arc<Arena>,
        (monitor, pulse): (&Monitor, &Pulse),
        order: &mut Order,
        progress: &mut impl FnMut(Progress),
    ) -> Result<(Vec<Blow>, Seen), ChaosError> {
        let mut strikes = Strikes::new(arena, self.patience());
        let mut blows = Vec::new();
        let began = Instant::now();
        while !self.options.stop.is_cancelled() {
            let is_late = began.elapsed() >= self.time;
            let is_thin = is_late && self.spares_somebody && !pulse.shows_enough(&blows);
            let someone_missed = self.is_last && order.someone_missed();
            let is_done = is_late && !is_thin && !someone_missed;
            if is_done || began.elapsed() >= self.latest() {
                break;
            }
            let Some((nemesis, step)) = order.next(is_late && !is_thin) else {
                break;
            };
            let striking = strikes.strike(nemesis, step);
            let blow = showing(striking, monitor, progress).await?;
            order.note(&blow);
            blows.push(blow.clone());
            progress(Progress::Blow(blow));
            // Work gets done between two blows, and their traces can be told apart.
            tokio::time::sleep(self.patience() / 6).await;
        }
        let seen = showing(strikes.settle(), monitor, progress).await;
        Ok((blows, seen))
    }

    fn latest(&self) -> Duration {
        self.time + (self.time / 2).max(LATE_MIN)
    }

    /// Short runs have many short faults rather than one that lasts.
    fn patience(&self) -> Duration {
        (self.time / 20).clamp(Duration::from_secs(2), Duration::from_secs(14))
    }
}

/// Shows how it goes while something is done.
async fn showing<T>(
    work: impl Future<Output = T>,
    monitor: &Monitor,
    progress: &mut impl FnMut(Progress),
) -> T {
    let mut work = std::pin::pin!(work);
    let mut ticks = tokio::time::interval(SHOW_EVERY);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = ticks.tick() => progress(Progress::Sample(monitor.latest())),
        }
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

/// A folder that PostgreSQL's own account can reach, for a run whose data nobody wants.
///
/// # Errors
/// It cannot be made.
pub fn temporary_folder() -> io::Result<PathBuf> {
    let made = tempfile::Builder::new()
        .prefix("gavel-chaos-")
        .permissions(Permissions::from_mode(0o755))
        .tempdir()?;
    Ok(made.keep())
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
