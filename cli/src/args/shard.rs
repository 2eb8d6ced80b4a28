//! `gavel shard`.

use clap::Subcommand;
use clap::builder::NonEmptyStringValueParser;
use gavel_protocol::ShardName;

use super::SteerArgs;

/// About a shard itself.
#[derive(Debug, Subcommand)]
pub enum ShardCommand {
    /// After a restore from backup, a clone or a move: begin a new life of the shard
    #[command(after_help = "Example:\n  \
        gavel shard new-incarnation --shard alpha --because 'restored after the fire' --dry-run\n  \
        gavel shard new-incarnation --shard alpha --because 'restored after the fire' \\\n    \
        --i-restored-or-moved-this-database\n\n\
        Transactions of before can never be executed again. After a failover to a standby that\n\
        lost nothing it is wrong: the incarnation stays.")]
    NewIncarnation {
        /// The shard
        #[arg(long, value_name = "NAME")]
        shard: ShardName,
        /// Why, for the record that the shard keeps
        #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
        because: String,
        /// Confirms that you know what this does
        #[arg(long, required_unless_present = "dry_run")]
        i_restored_or_moved_this_database: bool,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
        /// Address for a role that may migrate [default: admin_url of the configuration]
        #[arg(
            long,
            env = "GAVEL_ADMIN_URL",
            hide_env_values = true,
            value_name = "URL"
        )]
        admin_url: Option<String>,
    },
    /// Ask a shard for a sign of life now, instead of when its circuit's pause is over
    #[command(after_help = "Example:\n  \
        gavel shard retry --shard gamma --because 'the network is mended'\n\n\
        Every coordinator asks it. Where it answers, the next transaction may try it. Ends with 1 if\n\
        it does not answer everywhere.")]
    Retry {
        /// The shard
        #[arg(long, value_name = "NAME")]
        shard: ShardName,
        /// Which coordinators, and why
        #[command(flatten)]
        steer: SteerArgs,
    },
    /// Take a drained shard out of the deployment, if nothing names it any more
    #[command(after_help = "Example:\n  \
        gavel shard remove --shard gamma --because 'moved into alpha' --dry-run\n\n\
        Asks every shard's database. Before: `state = \"draining\"` in the shard's table, and time for\n\
        retention to drop what it holds. Afterwards: its table out of the file. Its tag is never\n\
        used again.")]
    Remove {
        /// The shard
        #[arg(long, value_name = "NAME")]
        shard: ShardName,
        /// Why, for the record that the other shards keep
        #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
        because: String,
        /// Only say what would be done, or what stands in the way
        #[arg(long)]
        dry_run: bool,
    },
}
