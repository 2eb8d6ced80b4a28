//! `gavel retention`.

use clap::Subcommand;
use clap::builder::NonEmptyStringValueParser;

/// About retention (R14).
#[derive(Debug, Subcommand)]
pub enum RetentionCommand {
    /// Raise the floors, verify every shard, drop old partitions
    #[command(
        after_help = "Examples:\n  gavel retention run --because 'disk is scarce' --dry-run\n  \
        gavel retention run --because 'disk is scarce'\n\n\
        Drops what is older than limits.retention_ms, and nothing that any shard still needs."
    )]
    Run {
        /// Why not wait until participants do it: for the record that every shard keeps
        #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
        because: String,
        /// Only say what would be dropped
        #[arg(long)]
        dry_run: bool,
    },
    /// Show how far retention has gone on every shard
    #[command(after_help = "Example:\n  gavel retention show")]
    Show,
}
