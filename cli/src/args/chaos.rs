//! `gavel chaos`.

use std::path::PathBuf;

use clap::Args;
use gavel_chaos::nemesis::{self, Nemesis};

/// What the help says beyond its options.
pub(super) const HELP: &str = "\
Examples:
  gavel chaos
  gavel chaos --seconds 600 --nemesis kill-coordinator,zombie,duplicate

Starts three PostgreSQL servers, their participants and two coordinators, with a proxy on every
wire. Ends with 0 if every invariant held and every fault struck a transaction at its step, with 1
if an invariant is broken or a fault never struck. docs/chaos.md says what each fault does.";

/// How long, and which faults.
#[derive(Debug, Args)]
pub struct ChaosArgs {
    /// How long there are faults
    #[arg(long, default_value_t = 60, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub seconds: u64,
    /// Which faults, separated by commas; `all` for all [default: all but disk-full and failover]
    #[arg(long, value_delimiter = ',', value_name = "NAME", value_parser = nemesis)]
    pub nemesis: Vec<Vec<Nemesis>>,
    /// How many members batches have at most: each coordinator of each round takes the next size
    /// [default: 500,1,60,2]
    #[arg(long, value_delimiter = ',', value_name = "N", value_parser = batch_members)]
    pub batch_members: Vec<usize>,
    /// How many clients
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clients)]
    pub clients: usize,
    /// Empty folder for data, logs and histories [default: a temporary one, removed if all is well]
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Where the report goes
    #[arg(long, default_value = "gavel-chaos.html", value_name = "FILE")]
    pub report: PathBuf,
}

fn nemesis(name: &str) -> Result<Vec<Nemesis>, String> {
    if name == "all" {
        return Ok(nemesis::ALL.to_vec());
    }
    let found = nemesis::by_name(name).map(|nemesis| vec![nemesis]);
    found.ok_or_else(|| {
        let names: Vec<&str> = nemesis::ALL.iter().map(|nemesis| nemesis.name).collect();
        format!(
            "there is none of this name; there are: all, {}",
            names.join(", ")
        )
    })
}

fn batch_members(text: &str) -> Result<usize, String> {
    let size: usize = text.parse().map_err(|_| "not a number".to_owned())?;
    let limits = gavel_protocol::Limits {
        batch_members_max: size,
        ..gavel_protocol::Limits::default()
    };
    let checked = limits.validate().map_err(|error| error.rule.to_owned());
    checked.map(|()| size)
}

/// Every interactive client holds connections, of which a server has so many.
const CLIENTS_MAX: usize = 64;

fn clients(text: &str) -> Result<usize, String> {
    let count: usize = text.parse().map_err(|_| "not a number".to_owned())?;
    if (4..=CLIENTS_MAX).contains(&count) {
        Ok(count)
    } else {
        Err(format!("from 4 to {CLIENTS_MAX}"))
    }
}
