//! `gavel drain` and `gavel resume`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::ClientArgs;

/// Which coordinators to steer, and why.
#[derive(Debug, Args)]
pub struct SteerArgs {
    /// Why, for the coordinators' audit logs
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub because: String,
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Which: every address that is given is told
    #[command(flatten)]
    pub client: ClientArgs,
}
