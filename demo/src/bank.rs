//! The bank: its shards, and the way to write to several of them at once.
//!
//! Reads go straight to the shards. Everything that moves money goes through Gavel.
//!
//! Invariant: the list of shards is the one that the accounts were placed with. It is recorded on
//! every shard by whoever starts first, and compared by everybody who starts later.

use std::time::Duration;

use gavel_client::{Gavel, Txid, UnknownShard};
use sqlx::PgPool;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::error::ApiError;
use crate::placement::Placement;

/// Reads are short, and a key that is written waits for one flush, which many share.
const CONNECTIONS_PER_SHARD_MAX: u32 = 16;
/// A request that cannot have a connection by then is refused; it can be repeated.
const CONNECTION_WAIT: Duration = Duration::from_secs(3);
/// Between two tries to reach a shard at start.
const START_PAUSE: Duration = Duration::from_millis(200);

/// What a bank is opened with.
#[derive(Debug, Clone)]
pub struct BankOptions {
    /// Name and database URL of every shard. The role must be the one that runs the
    /// participants' statements, or have granted it its tables.
    pub shards: Vec<(String, String)>,
    /// The shard that records the outcomes of transfers, if it is none of the transfer's own.
    pub home: Option<String>,
    /// How long a request may take to write, retries included.
    pub write_deadline: Duration,
    /// How long to wait for shards that are down at start.
    pub start_deadline: Duration,
}

impl BankOptions {
    /// Over these shards, with the defaults: 15 s for a write, 30 s for a start.
    pub fn new(shards: Vec<(String, String)>) -> Self {
        Self {
            shards,
            home: None,
            write_deadline: Duration::from_secs(15),
            start_deadline: Duration::from_secs(30),
        }
    }
}

/// A bank could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No shard, or one of them twice.
    #[error("{0}")]
    Shards(String),
    /// Gavel does not know a shard.
    #[error("Gavel's deployment is not the one that was configured here")]
    UnknownShard(#[from] UnknownShard),
    /// A URL cannot be read. It may hold a password and is not shown.
    #[error("the database URL of shard `{shard}` is not valid")]
    BadUrl {
        /// Which shard.
        shard: String,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// A shard could not be reached in time.
    #[error("shard `{shard}` cannot be reached")]
    Unreachable {
        /// Which shard.
        shard: String,
        /// The last failure.
        #[source]
        source: sqlx::Error,
    },
    /// The bank's tables could not be made.
    #[error("the bank's tables could not be made on shard `{shard}`")]
    Migrate {
        /// Which shard.
        shard: String,
        /// Why.
        #[source]
        source: MigrateError,
    },
    /// Accounts were placed over another list of shards.
    #[error(
        "shard `{shard}` holds accounts that were placed over the shards {recorded}, \
         not over {configured}: accounts do not move by themselves"
    )]
    OtherPlacement {
        /// Which shard.
        shard: String,
        /// The list that is recorded there.
        recorded: String,
        /// The list that was configured.
        configured: String,
    },
}

/// One shard, as the API reads it.
#[derive(Debug, Clone)]
pub(crate) struct Shard {
    pub(crate) name: String,
    pub(crate) pool: PgPool,
}

impl Shard {
    pub(crate) fn failed(&self, error: &sqlx::Error) -> ApiError {
        ApiError::from_sql(&self.name, error)
    }
}

/// An open bank.
#[derive(Debug)]
pub struct Bank {
    pub(crate) gavel: Gavel,
    pub(crate) write_deadline: Duration,
    /// Sorted by name: positions are part of the placement.
    shards: Vec<Shard>,
    placement: Placement,
    home: Option<String>,
}

impl Bank {
    /// Opens the bank: waits for the shards, makes the tables, compares the placement.
    ///
    /// # Errors
    /// See [`OpenError`]. Can be repeated after the cause is gone.
    pub async fn open(gavel: Gavel, options: BankOptions) -> Result<Self, OpenError> {
        let names = sorted_names(&options)?;
        for name in names.iter().chain(&options.home) {
            gavel.mint(name)?;
        }
        let deadline = Instant::now() + options.start_deadline;
        let list = names.join(",");
        let opening = names.iter().enumerate().map(async |(position, name)| {
            let (_, url) = options
                .shards
                .iter()
                .find(|(each, _)| each == name)
                .expect("sorted from these");
            let shard = connect(name, url, deadline).await?;
            migrate(&shard).await?;
            check_placement(&shard, &list, position).await?;
            Ok::<_, OpenError>(shard)
        });
        let shards = futures::future::try_join_all(opening).await?;
        Ok(Self {
            gavel,
            write_deadline: options.write_deadline,
            placement: Placement::new(shards.len()),
            shards,
            home: options.home,
        })
    }

    /// The shard where an account lives.
    pub(crate) fn shard_of(&self, account: Uuid) -> &Shard {
        &self.shards[self.placement.position(account)]
    }

    pub(crate) fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// A fresh txid for a transaction that writes on these shards. Its home is the configured
    /// one, or that with the lowest tag, as the client library would choose: one home per set of
    /// shards means one lane, in which transfers share their flushes.
    pub(crate) fn mint(&self, written: &[&Shard]) -> Txid {
        let map = self.gavel.shards();
        let tag = |name: &str| name.parse().ok().and_then(|name| map.tag(&name));
        let lowest = written.iter().min_by_key(|shard| tag(&shard.name));
        let home = self
            .home
            .as_deref()
            .or(lowest.map(|shard| shard.name.as_str()));
        let home = home.expect("a transaction writes somewhere");
        self.gavel
            .mint(home)
            .expect("shards were checked when the bank was opened")
    }
}

fn sorted_names(options: &BankOptions) -> Result<Vec<String>, OpenError> {
    let mut names: Vec<_> = options
        .shards
        .iter()
        .map(|(name, _)| name.clone())
        .collect();
    names.sort_unstable();
    if names.is_empty() {
        return Err(OpenError::Shards("name at least one shard".to_owned()));
    }
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(OpenError::Shards(format!(
            "shard `{}` is there twice",
            pair[0]
        ))),
        None => Ok(names),
    }
}

async fn connect(name: &str, url: &str, deadline: Instant) -> Result<Shard, OpenError> {
    let shard = name.to_owned();
    let options: PgConnectOptions = match url.parse() {
        Ok(options) => options,
        Err(source) => return Err(OpenError::BadUrl { shard, source }),
    };
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS_PER_SHARD_MAX)
        .acquire_timeout(CONNECTION_WAIT)
        .connect_lazy_with(options.application_name("gavel-demo"));
    loop {
        match pool.acquire().await {
            Ok(_) => return Ok(Shard { name: shard, pool }),
            Err(source) if Instant::now() >= deadline => {
                return Err(OpenError::Unreachable { shard, source });
            }
            Err(error) => tracing::info!(shard, %error, "waiting for a shard"),
        }
        sleep(START_PAUSE).await;
    }
}

async fn migrate(shard: &Shard) -> Result<(), OpenError> {
    let mut migrator: Migrator = sqlx::migrate!("./sql");
    // The database is not ours alone: `_sqlx_migrations` may belong to another application.
    migrator.dangerous_set_table_name("bank_migrations");
    let migrated = migrator.run(&shard.pool).await;
    migrated.map_err(|source| OpenError::Migrate {
        shard: shard.name.clone(),
        source,
    })
}

async fn check_placement(shard: &Shard, list: &str, position: usize) -> Result<(), OpenError> {
    let position = i32::try_from(position).unwrap_or(i32::MAX);
    let unreachable = |source| OpenError::Unreachable {
        shard: shard.name.clone(),
        source,
    };
    sqlx::query("INSERT INTO placement (shards, position) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(list)
        .bind(position)
        .execute(&shard.pool)
        .await
        .map_err(unreachable)?;
    let (recorded, recorded_position): (String, i32) =
        sqlx::query_as("SELECT shards, position FROM placement")
            .fetch_one(&shard.pool)
            .await
            .map_err(unreachable)?;
    if recorded == list && recorded_position == position {
        return Ok(());
    }
    Err(OpenError::OtherPlacement {
        shard: shard.name.clone(),
        recorded: format!("{recorded} (this one as number {recorded_position})"),
        configured: format!("{list} (this one as number {position})"),
    })
}
