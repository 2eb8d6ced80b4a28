//! `gavel demo`: money moves between three databases while things are killed, and at the end it
//! is counted, by SQL, on the databases themselves.
//!
//! | module | what it does |
//! |---|---|
//! | `stage` | starts servers, participants, coordinator and API, and stops them |
//! | `load` | the clients |
//! | `direct`, `watch` | look at the databases past Gavel and past the API |
//! | `kills` | the three kills |
//! | `verify`, `report` | the count at the end |
//! | `show` | what is printed |

mod direct;
mod kills;
mod load;
mod report;
mod show;
mod stage;
mod verify;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

pub use report::DemoReport;

use kills::Kills;
use load::Load;
use show::Show;
use stage::{Folder, Stage};
use watch::Watch;

/// Load before the first kill and between kills, for the numbers on the screen to settle.
const CALM: Duration = Duration::from_secs(3);

/// How to run the demo.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// The `gavel` executable that runs participants and coordinator.
    pub executable: PathBuf,
    /// Where everything is kept. `None`: a temporary folder, removed if all went well.
    pub folder: Option<PathBuf>,
    /// Accounts to open.
    pub accounts: usize,
    /// Clients that move money at the same time.
    pub clients: usize,
    /// Whether to print the story. Without it, only the report is returned.
    pub quiet: bool,
}

impl DemoOptions {
    /// 1,000 accounts, 16 clients, a temporary folder.
    pub fn new(executable: impl Into<PathBuf>) -> Self {
        Self {
            executable: executable.into(),
            folder: None,
            accounts: 1_000,
            clients: 16,
            quiet: false,
        }
    }
}

/// Runs the demo. Ctrl-C ends it early, as an error.
///
/// # Errors
/// Something could not be started, or the load could not be ended. What is wrong with the money
/// is no error but part of the report: see [`DemoReport::is_right`].
pub async fn run_demo(options: DemoOptions) -> anyhow::Result<DemoReport> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let show = Show::new(options.quiet);
    let folder = Folder::new(&options)?;
    let played = tokio::select! {
        // Boxed: the whole story is one large future.
        played = Box::pin(play(&options, &folder, &show)) => played,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        _ = terminate.recv() => anyhow::bail!("terminated"),
        _ = hang_up.recv() => anyhow::bail!("the terminal is gone"),
    };
    if !played.as_ref().is_ok_and(DemoReport::is_right) {
        folder.keep(&show);
    }
    played
}

async fn play(options: &DemoOptions, folder: &Folder, show: &Show) -> anyhow::Result<DemoReport> {
    let began = Instant::now();
    introduce(show);
    let stage = Stage::start(options, folder, show).await?;
    let accounts = load::open_accounts(stage.api(), options.accounts, show)
        .await
        .context("the accounts could not be opened")?;
    let money_before = stage.direct.money().await?;
    show.fact(&format!(
        "{} accounts, {} in all, read by SQL from the three databases.",
        show::thousands(accounts.len() as u64),
        show::money(money_before)
    ));
    let watch = Watch::start(Arc::clone(&stage.direct));
    let load = Load::start(stage.api(), accounts, options.clients);
    let progress = show.progress(load.tally(), watch.handle());
    show.step(
        "Moving money",
        "Clients send transfers to the bank's HTTP API. Two of three go from one database to \
         another: each must happen on both, or on neither.",
    );
    sleep(CALM).await;
    let kills = Kills::new(&stage, &watch, show);
    let mut blows = Vec::new();
    blows.push(kills.participant().await?);
    sleep(CALM).await;
    blows.push(kills.database().await?);
    sleep(CALM).await;
    blows.push(kills.coordinator().await?);
    sleep(CALM).await;
    show.step(
        "Counting",
        "The clients stop. Now everything is counted on the databases themselves, past Gavel and \
         past the API.",
    );
    let done = load.finish().await?;
    progress.abort();
    show.clear();
    let found = verify::verify(&stage, &done).await?;
    let longest_in_doubt = watch.longest();
    let report = DemoReport::new(
        done,
        found,
        blows,
        money_before,
        longest_in_doubt,
        began.elapsed(),
    );
    report.print(show);
    drop(watch);
    stage.stop().await?;
    Ok(report)
}

fn introduce(show: &Show) {
    show.title("Gavel: one transaction over several PostgreSQL databases");
    show.text(
        "A bank keeps its accounts in three databases, each on a PostgreSQL server of its own. A \
         transfer takes money from an account in one and adds it to an account in another. If \
         something dies in between, money must neither vanish nor appear. Gavel sees to that in \
         two steps: every database first makes its half ready and promises to keep it whatever \
         happens (it is then \"prepared\"); then one of them, the transfer's home, writes down the \
         decision, and all follow it. This demo kills things at the worst moments, and then \
         counts the money.",
    );
}
