//! `gavel shard`.

use clap::Subcommand;
use clap::builder::NonEmptyStringValueParser;
use gavel_protocol::ShardName;

/// About a shard itself.
#[derive(Debug, Subcommand)]
pub enum ShardCommand {
    /// After a restore from backup, a clone or a move: begin a new life of the shard
    #[command(after_help = "Example:\n  \
        gavel shard new-incarnation --shard alpha --i-restored-or-moved-this-database\n\n\
        Transactions of before can never be executed again. After a failover to a standby that\n\
        lost nothing it is wrong: the incarnation stays.")]
    NewIncarnation {
        /// The shard
        #[arg(long, value_name = "NAME")]
        shard: ShardName,
        /// Confirms that you know what this does
        #[arg(long, required = true)]
        i_restored_or_moved_this_database: bool,
        /// Address for a role that may migrate [default: admin_url of the configuration]
        #[arg(
            long,
            env = "GAVEL_ADMIN_URL",
            hide_env_values = true,
            value_name = "URL"
        )]
        admin_url: Option<String>,
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
