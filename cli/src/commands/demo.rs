//! `gavel demo`: the story in `gavel-demo`, played by this very executable.

use anyhow::Context as _;
use gavel_demo::{DemoOptions, run_demo};
use serde_json::json;

use crate::args::DemoArgs;
use crate::exit::Exit;
use crate::output::Output;

/// Runs the demo; fails unless the money is right.
pub(crate) async fn run(args: &DemoArgs, output: Output) -> anyhow::Result<Exit> {
    let executable = std::env::current_exe().context("cannot find this very executable")?;
    let mut options = DemoOptions::new(executable);
    options.folder.clone_from(&args.data);
    options.accounts = args.accounts;
    options.clients = args.clients;
    options.quiet = output.json;
    let report = run_demo(options).await?;
    if output.json {
        output.result("", &json!({"right": report.is_right(), "report": report}));
    }
    Ok(if report.is_right() {
        Exit::Ok
    } else {
        Exit::Failure
    })
}
