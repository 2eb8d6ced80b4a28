//! All shards at once, straight from their databases: for commands of an operator that must not
//! depend on running services.

use std::sync::Arc;

use futures::future::join_all;
use gavel_participant::{Directory, LocalParticipant, OpenError, Participant};

use crate::config::{Config, ShardConfig};
use crate::service::local_config;

/// What could be opened, and what could not.
pub(crate) struct Everybody<'c> {
    pub(crate) opened: Vec<(&'c ShardConfig, LocalParticipant)>,
    pub(crate) failed: Vec<(&'c ShardConfig, OpenError)>,
}

impl<'c> Everybody<'c> {
    /// Opens every shard of the configuration. Nothing is started: no scan runs from here.
    pub(crate) async fn open(config: &'c Config) -> Self {
        let opening = config.shard.iter().map(|shard| async move {
            let opened = LocalParticipant::open(local_config(config, shard)).await;
            (shard, opened)
        });
        let (mut opened, mut failed) = (Vec::new(), Vec::new());
        for (shard, result) in join_all(opening).await {
            match result {
                Ok(participant) => opened.push((shard, participant)),
                Err(error) => failed.push((shard, error)),
            }
        }
        Self { opened, failed }
    }

    pub(crate) fn directory(&self) -> Directory {
        let participants = self.opened.iter();
        Directory::new(participants.map(|(_, each)| Arc::new(each.clone()) as Arc<dyn Participant>))
    }
}
