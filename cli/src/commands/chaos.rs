//! `gavel chaos`: faults on purpose, and the judgement.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use gavel_chaos::report::terminal::{Timeline, conclusion};
use gavel_chaos::report::{html, summary};
use gavel_chaos::run::{Conclusion, Options, Progress, run as run_chaos};
use gavel_chaos::workload::Crowd;
use gavel_chaos::{error::ChaosError, nemesis, run::Report};
use serde_json::json;

use crate::args::ChaosArgs;
use crate::exit::Exit;
use crate::output::Output;
use crate::service::stop_signal;

/// Takes the line at the bottom of the terminal back.
const CLEAR_LINE: &str = "\r\x1b[2K";

/// Runs; fails unless every invariant held and every fault struck.
pub(crate) async fn run(args: &ChaosArgs, output: Output) -> anyhow::Result<Exit> {
    let (folder, is_temporary) = folder(args.data.as_deref())?;
    let options = options(args, &folder)?;
    let stop = options.stop.clone();
    tokio::spawn(async move {
        stop_signal().await;
        eprintln!("\nStopping when what is under way is over; a second Ctrl-C stops at once …");
        stop.cancel();
        stop_signal().await;
        // Processes and servers notice that we are gone.
        std::process::exit(130);
    });
    let mut view = View::new(output);
    let ended = run_chaos(&options, |progress| view.show(&progress)).await;
    let report = match ended {
        Ok(report) => report,
        Err(error) => return Err(failed(error, &folder)),
    };
    std::fs::write(&args.report, html(&report))
        .with_context(|| format!("cannot write {}", args.report.display()))?;
    tell(&report, args, &folder, is_temporary, output);
    Ok(match report.conclusion() {
        Conclusion::Held => Exit::Ok,
        Conclusion::Violated | Conclusion::NotRun => Exit::Failure,
    })
}

fn options(args: &ChaosArgs, folder: &Path) -> anyhow::Result<Options> {
    let clients = args.clients;
    Ok(Options {
        time: Duration::from_secs(args.seconds),
        nemeses: if args.nemesis.is_empty() {
            nemesis::usual()
        } else {
            args.nemesis.concat()
        },
        folder: folder.to_owned(),
        executable: std::env::current_exe().context("cannot find this very executable")?,
        crowd: Crowd {
            bank: clients.div_ceil(2),
            locked: clients.div_ceil(4),
            plain: clients.div_ceil(4),
        },
        batch_members: args.batch_members.clone(),
        stop: Default::default(),
    })
}

/// The folder to work in, and whether it goes again. PostgreSQL's own account must reach it.
fn folder(given: Option<&Path>) -> anyhow::Result<(PathBuf, bool)> {
    if let Some(folder) = given {
        let is_empty = std::fs::read_dir(folder).map_or(true, |mut found| found.next().is_none());
        anyhow::ensure!(
            is_empty,
            "{} is not empty: a run wants a folder of its own",
            folder.display()
        );
        return Ok((folder.to_owned(), false));
    }
    let made = gavel_chaos::run::temporary_folder().context("cannot make a temporary folder")?;
    Ok((made, true))
}

fn failed(error: ChaosError, folder: &Path) -> anyhow::Error {
    let message = format!(
        "the run could not be carried out to its end; its logs are in {}",
        folder.display()
    );
    anyhow::Error::new(error).context(message)
}

fn tell(report: &Report, args: &ChaosArgs, folder: &Path, is_temporary: bool, output: Output) {
    let held = report.conclusion() == Conclusion::Held;
    let mut text = format!(
        "\n{}\nReport: {}",
        conclusion(report),
        args.report.display()
    );
    if is_temporary && held {
        // Nothing in it that the report does not show.
        let _left_behind = std::fs::remove_dir_all(folder);
    } else {
        text += &format!("\nHistories, logs and data: {}", folder.display());
    }
    let mut result = summary(report);
    result["report"] = json!(args.report);
    output.result(text, &json!({"event": "result", "result": result}));
}

/// The timeline: lines, and at a terminal a line at the bottom that changes.
struct View {
    output: Output,
    timeline: Timeline,
    has_bottom: bool,
}

impl View {
    fn new(output: Output) -> Self {
        Self {
            output,
            timeline: Timeline::default(),
            has_bottom: !output.json && std::io::stderr().is_terminal(),
        }
    }

    fn show(&mut self, progress: &Progress) {
        if self.output.json {
            if let Some(event) = event(progress) {
                self.output.result("", &event);
            }
            return;
        }
        let lines = self.timeline.lines(progress);
        let mut stderr = std::io::stderr().lock();
        // Whoever closed it does not want to know.
        if self.has_bottom {
            let _closed = write!(stderr, "{CLEAR_LINE}");
        }
        for line in lines {
            let _closed = writeln!(stderr, "{line}");
        }
        if self.has_bottom {
            let _closed = write!(stderr, "{}", self.timeline.bottom());
            let _closed = stderr.flush();
        }
    }
}

/// One line of the timeline for programs.
fn event(progress: &Progress) -> Option<serde_json::Value> {
    match progress {
        Progress::Round {
            number,
            of,
            batch_members,
        } => Some(
            json!({"event": "round", "number": number, "of": of, "batch_members": batch_members}),
        ),
        Progress::Skipped { nemesis, why } => {
            Some(json!({"event": "skipped", "nemesis": nemesis, "why": why}))
        }
        Progress::Ready => Some(json!({"event": "ready"})),
        Progress::Blow(blow) => Some(json!({"event": "fault", "fault": blow})),
        Progress::Sample(sample) => Some(json!({"event": "sample", "sample": sample})),
        Progress::Judging => Some(json!({"event": "judging"})),
        // It is part of the result.
        Progress::Judged(_) => None,
    }
}
