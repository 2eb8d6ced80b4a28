//! `gavel demo`: the story in `gavel-demo`, played by this very executable.

use crate::args::DemoArgs;
use crate::exit::Exit;
use crate::output::Output;

/// Runs the demo.
pub(crate) async fn run(_args: &DemoArgs, _output: Output) -> anyhow::Result<Exit> {
    anyhow::bail!("the demo is not part of this build")
}
