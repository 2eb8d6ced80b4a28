//! The servers, databases and roles of the shards.
//!
//! Each shard has a server of its own, a database `app`, and a login role `app` that the
//! participant uses. The role may create tables, and there is one named `hello` already: people
//! try things out here.

use std::thread;

use gavel_migrations::IdentityClaim;
use local_postgres::{Cluster, Server};

use crate::config_file::DEPLOYMENT;
use crate::folder::Folder;
use crate::state::{ShardState, State};
use crate::{Error, Options};

/// Name of the database on every server, and of the participant's login role.
const DATABASE: &str = "app";
const ROLE: &str = "app";

/// One shard, as its users need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Its name.
    pub name: String,
    /// Its number, which txids carry.
    pub tag: u16,
    /// Where its participant listens.
    pub participant_url: String,
    /// Its database, as the participant's login role. The role may create tables.
    pub database_url: String,
    /// Its database, as superuser.
    pub superuser_url: String,
}

/// Starts the servers and makes what is missing on them. Saves new passwords in `state`.
pub(crate) fn start(
    folder: &Folder,
    options: &Options,
    state: &mut State,
) -> Result<(Cluster, Vec<Shard>), Error> {
    let servers: Vec<_> = state
        .shards
        .iter()
        .map(|shard| server_options(shard, options))
        .collect();
    let cluster = Cluster::create_or_open(&folder.servers(), &servers)?;
    for (server, shard) in cluster.servers().iter().zip(&mut state.shards) {
        if shard.password.is_none() {
            shard.password = Some(create_database(server)?);
        }
    }
    state.save(folder)?;
    let shards: Vec<Shard> = cluster
        .servers()
        .iter()
        .zip(&state.shards)
        .map(|(server, shard)| describe(server, shard, options))
        .collect();
    migrate_all(&shards)?;
    Ok((cluster, shards))
}

fn server_options(shard: &ShardState, options: &Options) -> local_postgres::Options {
    let mut server = local_postgres::Options::new(&shard.name);
    server.fresh_initdb = options.fresh_initdb;
    server.settings.clone_from(&options.server_settings);
    server
}

/// Makes database, role and a table to try things out on; gives the role's password.
fn create_database(server: &Server) -> Result<String, Error> {
    server.create_database(DATABASE)?;
    let password = server.create_login_role(ROLE)?;
    let table = "id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
                 note text NOT NULL, at timestamptz NOT NULL DEFAULT now()";
    let statements = format!(
        "GRANT USAGE, CREATE ON SCHEMA public TO {ROLE}; \
         CREATE TABLE IF NOT EXISTS hello ({table}); \
         ALTER TABLE hello OWNER TO {ROLE}"
    );
    server.sql(DATABASE, &statements)?;
    Ok(password)
}

fn describe(server: &Server, shard: &ShardState, options: &Options) -> Shard {
    let scheme = if options.tls { "https" } else { "http" };
    let password = shard.password.as_deref().unwrap_or_default();
    Shard {
        name: shard.name.clone(),
        tag: shard.tag,
        participant_url: format!("{scheme}://127.0.0.1:{}", shard.participant_port),
        database_url: server.url_for(ROLE, password, DATABASE),
        superuser_url: server.url(DATABASE),
    }
}

/// Migrates all shards at once. On a thread with a runtime of its own, because the caller may
/// be inside one already.
fn migrate_all(shards: &[Shard]) -> Result<(), Error> {
    thread::scope(|scope| {
        let workers: Vec<_> = shards
            .iter()
            .map(|shard| scope.spawn(move || migrate(shard)))
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().expect("a migration does not panic"))
    })
}

fn migrate(shard: &Shard) -> Result<(), Error> {
    let claim = IdentityClaim {
        deployment: DEPLOYMENT.to_owned(),
        shard: shard.name.clone(),
        tag: shard.tag,
        participant_role: Some(ROLE.to_owned()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::io("start a runtime for", "migrations".as_ref()))?;
    let migrated = runtime.block_on(gavel_migrations::migrate(&shard.superuser_url, &claim));
    migrated.map(drop).map_err(|source| Error::Migrate {
        shard: shard.name.clone(),
        source: Box::new(source),
    })
}
