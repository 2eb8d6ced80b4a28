//! `gavel manual`: man pages and completions of shells, for packages.

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;
use serde_json::json;

use crate::args::{Cli, ManualArgs};
use crate::exit::Exit;
use crate::output::Output;

/// Writes a page for the program and for every command, and a file for each shell.
pub(crate) fn run(args: &ManualArgs, output: Output) -> anyhow::Result<Exit> {
    let out = &args.out;
    let failed = || format!("cannot write into {}", out.display());
    std::fs::create_dir_all(out).with_context(failed)?;
    clap_mangen::generate_to(Cli::command(), out).with_context(failed)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), "gavel", out)
            .with_context(failed)?;
    }
    output.result(
        format!("man pages and completions are in {}", out.display()),
        &json!({ "folder": out }),
    );
    Ok(Exit::Ok)
}
