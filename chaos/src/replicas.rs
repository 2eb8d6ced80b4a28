//! Which server is a shard's primary, and which one would take its place.
//!
//! A shard begins with the deployment's own server. Where standbys are wanted, it has a synchronous
//! one all the time; when that was promoted, it gets a new one, so that it can fail over again.
//!
//! Whoever judges a shard asks here for its server: the deployment knows the first one only.

use std::borrow::Borrow;
use std::ops::Deref;
use std::sync::Arc;

use gavel_devkit::Dev;
use local_postgres::{Error, Server};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::arena::{Arena, SHARDS, with_port};
use crate::bank::DATABASE;
use crate::error::ChaosError;

/// The primaries and standbys of all shards.
#[derive(Debug)]
pub struct Replicas(Vec<Mutex<Place>>);

/// Who is who on one shard.
#[derive(Debug, Default)]
struct Place {
    /// How many standbys it has had.
    standbys: usize,
    standby: Option<Arc<Server>>,
    /// The primary, unless it is the deployment's own server still.
    promoted: Option<Arc<Server>>,
}

/// The server that is a shard's primary, for as long as somebody looks at it.
#[derive(Debug)]
pub enum Primary<'a> {
    /// The deployment's own.
    First(&'a Server),
    /// One that was a standby.
    Promoted(Arc<Server>),
}

impl Deref for Primary<'_> {
    type Target = Server;

    fn deref(&self) -> &Server {
        match self {
            Self::First(server) => server,
            Self::Promoted(server) => server,
        }
    }
}

impl Borrow<Server> for Primary<'_> {
    fn borrow(&self) -> &Server {
        self
    }
}

impl Replicas {
    /// No standbys, for this many shards.
    pub(crate) fn none(shards: usize) -> Self {
        Self((0..shards).map(|_| Mutex::default()).collect())
    }

    /// The primary of a shard.
    pub(crate) fn primary<'a>(&self, dev: &'a Dev, shard: usize) -> Primary<'a> {
        match &self.0[shard].lock().promoted {
            Some(server) => Primary::Promoted(Arc::clone(server)),
            None => Primary::First(&dev.servers()[shard]),
        }
    }

    /// Gives a shard a standby without which nothing is acknowledged.
    pub(crate) fn add_standby(&self, dev: &Dev, shard: usize) -> Result<(), Error> {
        let primary = self.primary(dev, shard);
        let number = {
            let mut place = self.0[shard].lock();
            place.standbys += 1;
            place.standbys
        };
        let name = format!("{}_standby_{number}", dev.shards()[shard].name);
        let standby = primary.standby(&name)?;
        primary.acknowledge_after(&standby)?;
        self.0[shard].lock().standby = Some(Arc::new(standby));
        Ok(())
    }

    /// Whether nothing has been acknowledged that the standby of this shard lacks.
    pub(crate) fn is_covered(&self, dev: &Dev, shard: usize) -> Result<bool, Error> {
        let standby = self.0[shard].lock().standby.clone();
        match standby {
            Some(standby) => self.primary(dev, shard).acknowledges_after(&standby),
            None => Ok(false),
        }
    }

    /// Makes the standby of this shard its primary. The one before must be dead.
    pub(crate) fn promote(&self, shard: usize) -> Result<(), Error> {
        let Some(standby) = self.0[shard].lock().standby.take() else {
            return Ok(());
        };
        standby.promote()?;
        // Whose place it takes is dropped, with its data, unless it is the deployment's.
        self.0[shard].lock().promoted = Some(standby);
        Ok(())
    }
}

impl Arena {
    /// The server that is a shard's primary now.
    #[must_use]
    pub fn primary(&self, shard: usize) -> Primary<'_> {
        self.replicas.primary(&self.dev, shard)
    }

    /// All of them.
    #[must_use]
    pub fn primaries(&self) -> Vec<Primary<'_>> {
        (0..SHARDS).map(|shard| self.primary(shard)).collect()
    }

    /// A shard's database on its primary, as superuser, past all proxies.
    #[must_use]
    pub fn superuser_url(&self, shard: usize) -> String {
        self.primary(shard).url(DATABASE)
    }

    /// A shard's database on its primary, as the participant's role, past all proxies.
    #[must_use]
    pub fn database_url(&self, shard: usize) -> String {
        with_port(self.dev.database_url(shard), self.primary(shard).port())
    }

    /// Runs something that blocks, on the primaries.
    ///
    /// # Errors
    /// What it says, or that it panicked.
    pub async fn on_primaries<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&[Primary<'_>]) -> Result<T, ChaosError> + Send + 'static,
    ) -> Result<T, ChaosError> {
        let arena = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&arena.primaries()));
        done.await.map_err(ChaosError::Panicked)?
    }

    /// Gives every shard a synchronous standby.
    pub(crate) async fn add_standbys(self: &Arc<Self>) -> Result<(), ChaosError> {
        let mut adding = JoinSet::new();
        for shard in 0..SHARDS {
            let arena = Arc::clone(self);
            adding.spawn_blocking(move || arena.replicas.add_standby(&arena.dev, shard));
        }
        while let Some(added) = adding.join_next().await {
            added.map_err(ChaosError::Panicked)??;
        }
        Ok(())
    }
}
