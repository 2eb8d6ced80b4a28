//! The command line.

mod chaos;
mod client;
mod retention;
mod shard;
mod steer;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use gavel_protocol::{Gid, ShardName, Txid};

pub use self::chaos::ChaosArgs;
pub use self::client::ClientArgs;
pub use self::retention::RetentionCommand;
pub use self::shard::ShardCommand;
pub use self::steer::SteerArgs;
use crate::config::LogFormat;

const EXIT_CODES: &str = "\
Exit codes:
  0  done; for a transaction: committed
  1  failed; the message says why
  2  wrong usage or configuration
  3  the transaction is aborted, for good
  4  the transaction was refused: this submission did nothing, and the txid is still open
  5  in doubt: not known yet, ask again
  6  damage was found: a branch and its decision disagree

Files and variables:
  gavel.toml        configuration, see docs/configuration.md; --config or GAVEL_CONFIG names
                    another file
  GAVEL__SECTION__KEY
                    overrides a key, as in GAVEL__COORDINATOR__LISTEN=127.0.0.1:7500";

/// Atomic transactions over several PostgreSQL databases.
#[derive(Debug, Parser)]
#[command(name = "gavel", version, after_help = EXIT_CODES)]
#[command(propagate_version = true, disable_help_subcommand = true)]
pub struct Cli {
    /// The configuration file
    #[arg(
        long,
        global = true,
        env = "GAVEL_CONFIG",
        default_value = "gavel.toml",
        value_name = "FILE"
    )]
    pub config: PathBuf,
    /// Print results, errors included, as JSON on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// How log lines on standard error look [default: log.format of the configuration]
    #[arg(long, global = true, value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug, trace, or filter directives [default: log.level]
    #[arg(long, global = true, env = "GAVEL_LOG", value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything in one process: a participant for every shard, and a coordinator
    #[command(after_help = "Example:\n  gavel serve --config gavel.toml")]
    Serve(ServeArgs),
    /// Run a coordinator; as many as you like, side by side
    #[command(after_help = "Example:\n  gavel coordinator --listen 127.0.0.1:7401")]
    Coordinator(ServeArgs),
    /// Run the participant of one shard
    #[command(after_help = "Example:\n  gavel participant --shard alpha")]
    Participant(ParticipantArgs),
    /// Bring the gavel schema of the shards up to date
    #[command(after_help = "Examples:\n  gavel migrate\n  \
        gavel migrate --shard alpha --admin-url postgres://postgres@127.0.0.1/bank\n\n\
        Needs admin_url of the shard in the configuration, or --admin-url.")]
    Migrate(MigrateArgs),
    /// Check the configuration and every shard; says what is wrong and how to mend it
    #[command(after_help = "Example:\n  gavel check --json")]
    Check,
    /// Look at every shard, coordinator and certificate: what is wrong, why it matters, what to do
    #[command(after_help = "Example:\n  gavel doctor --json\n\n\
        Changes nothing. Ends with 1 if anything is critical. Needs the databases' addresses, so\n\
        run it where a participant runs; and an operator's token or certificate, if any is needed.")]
    Doctor {
        /// Whom to ask about the services.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Ask whether a process is well; ends with 0 or 1, for health checks
    #[command(after_help = "Examples:\n  gavel health\n  \
        gavel health --endpoint http://127.0.0.1:7490 --deadline-ms 3000\n\n\
        Asks coordinators, and the metrics' address of any service: /health/ready. An address with\n\
        a path is asked for that path.")]
    Health {
        /// Whom to ask.
        #[command(flatten)]
        client: ClientArgs,
        /// Only whether it lives: /health/live
        #[arg(long)]
        live: bool,
    },
    /// Watch coordinators, shards and what is in doubt, live in the terminal
    #[command(after_help = "Examples:\n  gavel top\n  \
        gavel top --endpoint http://one:7400,http://two:7400\n  gavel top --once --json")]
    Top {
        /// Whom to watch.
        #[command(flatten)]
        client: ClientArgs,
        /// Look once, and print that
        #[arg(long)]
        once: bool,
    },
    /// Write man pages and completions for shells into a folder
    #[command(after_help = "Example:\n  gavel manual --out manual && man ./manual/gavel.1")]
    Manual(ManualArgs),
    /// Sign certificates for every process and principal of the configuration
    #[command(after_help = "Examples:\n  gavel certs\n  \
        gavel certs --host gavel.example --postgres db1.example --days 90\n\n\
        Makes an authority in the folder if there is none. For trials and small installations;\n\
        docs/security.md says what certificates of your own PKI must have.")]
    Certs(CertsArgs),
    /// Compare branches and decisions on all shards: proves that nothing is half done
    #[command(after_help = "Example:\n  gavel audit\n\nEnds with 6 if damage was found.")]
    Audit,
    /// List the damage that was found so far, by audits and by resolving
    #[command(after_help = "Examples:\n  gavel damage\n  \
        gavel damage acknowledge --shard alpha --id 1 --because 'ticket 4711: booked again'\n\n\
        Ends with 6 if there is any that nobody has acknowledged.")]
    Damage(DamageArgs),
    /// List what operators did to the shards, with who and why
    #[command(after_help = "Example:\n  gavel actions --json\n\n\
        What they did through coordinators (resolve, drain, retry) is in those coordinators' audit\n\
        files: see [audit] in docs/configuration.md.")]
    Actions,
    /// Start PostgreSQL servers, participants and a coordinator here, for trying things out
    #[command(
        after_help = "Examples:\n  gavel dev\n  gavel dev --shards 2 --data /tmp/bank --port 7500\n\n\
        The folder keeps the data: the same command resumes. Ctrl-C stops everything."
    )]
    Dev(DevArgs),
    /// Open accounts, move money, kill everything in turn, and count the money
    #[command(after_help = "Example:\n  gavel demo")]
    Demo(DemoArgs),
    /// Break a deployment of its own on purpose, and prove that every promise held
    #[command(after_help = chaos::HELP)]
    Chaos(ChaosArgs),
    /// Have coordinators take nothing new, and wait until they hold nothing
    #[command(after_help = "Examples:\n  \
        gavel drain --endpoint http://one:7400 --because 'kernel update' --dry-run\n  \
        gavel drain --endpoint http://one:7400 --because 'kernel update'\n\n\
        Clients go to other coordinators meanwhile. Ends with 0 when nothing is under way, with 1 if\n\
        something still is when the time is over. Lasts until `gavel resume`, or the process ends.\n\
        Stopping a coordinator does the same by itself: this is for looking before leaping.")]
    Drain(SteerArgs),
    /// Have coordinators take transactions again
    #[command(after_help = "Example:\n  \
        gavel resume --endpoint http://one:7400 --because 'kernel update is done'")]
    Resume(SteerArgs),
    /// Submit transactions and ask after them
    #[command(subcommand)]
    Tx(TxCommand),
    /// List and resolve branches whose outcome their shard does not know yet
    #[command(subcommand)]
    InDoubt(InDoubtCommand),
    /// Drop what is older than the retention
    #[command(subcommand)]
    Retention(RetentionCommand),
    /// Operate on a shard itself
    #[command(subcommand)]
    Shard(ShardCommand),
}

/// Where to write.
#[derive(Debug, Args)]
pub struct ManualArgs {
    /// The folder
    #[arg(long, default_value = "manual", value_name = "FOLDER")]
    pub out: PathBuf,
}

/// What to sign.
#[derive(Debug, Args)]
pub struct CertsArgs {
    /// The folder
    #[arg(long, default_value = "tls", value_name = "FOLDER")]
    pub out: PathBuf,
    /// A further name or IP address of the services
    #[arg(long, value_name = "HOST")]
    pub host: Vec<String>,
    /// Also sign for the PostgreSQL server with this name or IP address
    #[arg(long, value_name = "HOST")]
    pub postgres: Vec<String>,
    /// How long the certificates are good for
    #[arg(long, default_value_t = 365, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=3650))]
    pub days: u64,
    /// Sign again what is there already, with new keys; the authority stays
    #[arg(long)]
    pub renew: bool,
}

/// What to do about damage.
#[derive(Debug, Args)]
pub struct DamageArgs {
    /// Without one, all damage is listed.
    #[command(subcommand)]
    pub command: Option<DamageCommand>,
}

/// See [`DamageArgs`].
#[derive(Debug, Subcommand)]
pub enum DamageCommand {
    /// Record that somebody has dealt with it; the record itself stays
    #[command(
        after_help = "Example:\n  gavel damage acknowledge --shard alpha --id 1 \
        --because 'ticket 4711: booked again'\n\nRecorded with the database role that did it."
    )]
    Acknowledge {
        /// The shard that recorded it
        #[arg(long, value_name = "NAME")]
        shard: ShardName,
        /// Which record: `gavel damage` says
        #[arg(long, value_name = "NUMBER")]
        id: i64,
        /// What was done about it
        #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        because: String,
        /// Only show the record
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
}

/// How a service runs.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address to listen on [default: coordinator.listen]
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// Address for metrics and health [default: metrics.listen]
    #[arg(long, value_name = "IP:PORT")]
    pub metrics_listen: Option<SocketAddr>,
    /// End when standard input ends: the parent process holds the other end
    #[arg(long, hide = true)]
    pub exit_with_stdin: bool,
}

/// Which participant, and how.
#[derive(Debug, Args)]
pub struct ParticipantArgs {
    /// The shard's name
    #[arg(long, value_name = "NAME")]
    pub shard: ShardName,
    /// Address to listen on [default: participant.listen, or where the shard's `participant` says]
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// Address to announce, if the shard's `participant` is "announced" [default:
    /// registry.announce, or the one that it listens on]
    #[arg(long, value_name = "URL")]
    pub announce: Option<String>,
    /// Address for metrics and health [default: metrics.listen]
    #[arg(long, value_name = "IP:PORT")]
    pub metrics_listen: Option<SocketAddr>,
    /// End when standard input ends: the parent process holds the other end
    #[arg(long, hide = true)]
    pub exit_with_stdin: bool,
}

/// What to migrate.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Only this shard
    #[arg(long, value_name = "NAME")]
    pub shard: Option<ShardName>,
    /// Address of the database for a role that may migrate, instead of the configuration's
    #[arg(
        long,
        env = "GAVEL_ADMIN_URL",
        hide_env_values = true,
        requires = "shard",
        value_name = "URL"
    )]
    pub admin_url: Option<String>,
}

/// What `gavel dev` starts.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// How many shards [default: 3, or what the folder has]
    #[arg(long, value_name = "N")]
    pub shards: Option<usize>,
    /// Folder that keeps everything
    #[arg(long, default_value = "gavel-data", value_name = "FOLDER")]
    pub data: PathBuf,
    /// Port of the coordinator [default: 7400, or the folder's]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Add a shard `decisions` that holds no data, as a home for transactions that ask for it
    #[arg(long)]
    pub decisions_shard: bool,
    /// How many coordinators run side by side
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub coordinators: usize,
    /// Encrypt every connection, and give everybody a certificate
    #[arg(long)]
    pub tls: bool,
}

/// How the demo runs.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Folder for the data [default: a temporary one, removed at the end]
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// How many accounts to open
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    pub accounts: usize,
    /// How many clients move money at the same time
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub clients: usize,
}

/// About transactions.
#[derive(Debug, Subcommand)]
pub enum TxCommand {
    /// Mint a txid whose outcome the given shard will record
    #[command(after_help = "Example:\n  gavel tx id --home alpha")]
    Id {
        /// The home shard [default: the shard with the lowest tag]
        #[arg(long, value_name = "SHARD")]
        home: Option<ShardName>,
        /// How to reach a coordinator
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Submit a transaction, as the JSON of the HTTP API
    #[command(after_help = "Example:\n  \
        echo '{\"branches\": [{\"shard\": \"alpha\", \"statements\": [{\"sql\": \"select 1\"}]}]}' | gavel tx submit\n\n\
        Beside the keys of the HTTP API, `home` may name the shard that records the outcome.\n\
        Submitting the same txid again is safe: it runs once at most.")]
    Submit {
        /// File with the request; - is standard input
        #[arg(default_value = "-", value_name = "FILE")]
        file: PathBuf,
        /// How to reach a coordinator
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Say what is recorded of a txid
    #[command(after_help = "Example:\n  gavel tx status 019a9f0e-7c11-7b1e-8f5a-3d4c5b6a0001")]
    Status {
        /// The transaction
        txid: Txid,
        /// How to reach a coordinator
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Abort a txid for good, unless it has an outcome already
    #[command(
        after_help = "Example:\n  gavel tx abort 019a9f0e-7c11-7b1e-8f5a-3d4c5b6a0001\n\n\
        Ends with 3 if it is aborted now, with 0 if it had committed."
    )]
    Abort {
        /// The transaction
        txid: Txid,
        /// How to reach a coordinator
        #[command(flatten)]
        client: ClientArgs,
    },
}

/// About branches in doubt.
#[derive(Debug, Subcommand)]
pub enum InDoubtCommand {
    /// List prepared branches on all shards, with their age and what they wait for
    #[command(after_help = "Example:\n  gavel in-doubt list --json")]
    List {
        /// How to reach a coordinator
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Resolve one branch now: find or force its decision, and apply it
    #[command(
        after_help = "Example:\n  gavel in-doubt resolve gavel:dev:1:1:019a9f0e-7c11-7b1e-8f5a-3d4c5b6a7988:2 \\\n    \
        --because 'ticket 4711: home was restored'"
    )]
    Resolve {
        /// The branch, as `in-doubt list` prints it
        gid: Gid,
        /// Why, for the coordinator's audit log
        #[arg(long, value_name = "TEXT")]
        because: String,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
        /// How to reach a coordinator
        #[command(flatten)]
        client: ClientArgs,
    },
}
