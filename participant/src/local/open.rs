//! A participant opens once its shard has passed its checks.

use std::sync::Arc;

use async_trait::async_trait;
use gavel_protocol::message::{Finish, Finished};
use gavel_protocol::{DeploymentName, Limits, ShardName, ShardTag};
use gavel_tls::DatabaseUrl;
use parking_lot::Mutex;

use super::background::Background;
use super::{Inner, LocalParticipant};
use crate::attendance::Drivers;
use crate::finish;
use crate::pg::ConnectError;
use crate::scan::{Finisher, Scanner, ScannerParts};
use crate::service_pool::{ServicePool, ServicePoolConfig};
use crate::shard::{Shard, Slots};
use crate::start_check::{self, Expected, StartError};

/// What a participant must know about its shard.
#[derive(Clone)]
pub struct ShardConfig {
    /// The installation.
    pub deployment: DeploymentName,
    /// The shard's name.
    pub name: ShardName,
    /// The shard's number.
    pub tag: ShardTag,
    /// `postgres://…` of a login with the role `gavel_participant`.
    pub database_url: String,
    /// The limits.
    pub limits: Limits,
}

/// Why a participant does not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database URL cannot be used.
    #[error("shard `{shard}`: {message}")]
    Url {
        /// Which shard.
        shard: ShardName,
        /// What is wrong with it.
        message: String,
    },
    /// The shard did not pass its start-up checks.
    #[error("shard `{shard}`")]
    Check {
        /// Which shard.
        shard: ShardName,
        /// What it did not pass, and the fix.
        #[source]
        cause: Box<StartError>,
    },
}

struct ReservedFinisher(Arc<Shard>);

#[async_trait]
impl Finisher for ReservedFinisher {
    async fn finish(&self, branches: Vec<Finish>) -> Vec<Finished> {
        finish::finish(&self.0, &branches).await
    }
}

impl LocalParticipant {
    /// Checks the shard and opens it. Call [`LocalParticipant::start`] once all participants are
    /// known.
    ///
    /// # Errors
    /// [`OpenError::Check`] with the fix in its source. A shard that is down is
    /// [`StartError::Unreachable`]: try again.
    pub async fn open(config: ShardConfig) -> Result<Self, OpenError> {
        let ShardConfig {
            deployment,
            name,
            tag,
            database_url,
            limits,
        } = config;
        let bad_url = |message: String| OpenError::Url {
            shard: name.clone(),
            message,
        };
        let database = DatabaseUrl::parse(&database_url);
        let database = database.map_err(|error| bad_url(error.to_string()))?;
        let pool = ServicePool::new(ServicePoolConfig {
            database,
            limits: limits.clone(),
        });
        let busy = limits.work_connections + limits.interactive_connections;
        let slots_needed = u32::try_from(busy).unwrap_or(u32::MAX);
        let expected = Expected {
            deployment,
            name: name.clone(),
            tag,
            slots_needed,
        };
        let checked = start_check::check(&pool, &expected)
            .await
            .map_err(|cause| OpenError::Check {
                shard: name.clone(),
                cause: Box::new(cause),
            })?;
        for warning in &checked.warnings {
            tracing::warn!(shard = %name, "{warning}");
        }
        let slots = Slots::new(checked.slots as usize, &limits);
        let shard = Shard::new(
            checked.identity.clone(),
            &database_url,
            slots.clone(),
            &limits,
        )
        .map_err(|error: ConnectError| bad_url(error.to_string()))?;
        let shard = Arc::new(shard);
        let drivers = Drivers::default();
        let scanner = Scanner::new(ScannerParts {
            identity: checked.identity,
            pool: pool.clone(),
            drivers: drivers.clone(),
            meters: shard.meters.clone(),
            slots,
            finisher: Arc::new(ReservedFinisher(shard.clone())),
        });
        Ok(Self(Arc::new(Inner {
            shard,
            pool,
            drivers,
            sessions: Arc::default(),
            scanner,
            background: Mutex::new(Background::NotStarted),
        })))
    }
}
