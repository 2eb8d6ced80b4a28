//! Where participants are that announce themselves, because no configuration can say it.
//!
//! Coordinators hear it from participants, and participants from coordinators: nobody else is
//! believed, and nobody is believed about a host that the configuration does not allow. Whoever
//! connects to such an address makes sure that the shard's participant is there, as with any other.
//!
//! Kept in memory only: participants say it again every few seconds. What was heard last stands for
//! as long as nothing else is heard, as an address in a file would.
//!
//! Failure model: announcements are lost, come late, or from a participant that is being replaced.
//! The one that started later counts, for as long as it is heard.

mod announce;
mod hosts;
mod serve;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use gavel_protocol::ShardName;
use http::Uri;
use parking_lot::Mutex;
use tokio::sync::Notify;

pub(super) use self::announce::Announcer;
pub use self::hosts::Hosts;
pub(super) use self::serve::{PATH, service};
use crate::config::Config;

/// How often participants say where they are.
const EVERY: Duration = Duration::from_secs(2);

/// Whoever was not heard for this long gives way to anybody: clocks of machines differ, so that the
/// one that started later may seem to have started before.
const SILENCE: Duration = Duration::from_secs(10);

/// Where a participant is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Whereabouts {
    pub(super) shard: ShardName,
    pub(super) address: String,
    /// By the participant's own clock.
    pub(super) started_unix_ms: u64,
}

/// An announcement does not count.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotTaken {
    #[error("shard `{0}` is not one whose participant = \"announced\" in the configuration here")]
    NotExpected(ShardName),
    #[error("`{0}` is no address of a participant here, or none that [registry] hosts allows")]
    Forbidden(String),
    #[error("a participant of shard `{0}` that started later is at {1}")]
    Superseded(ShardName, String),
}

/// Where participants are, as far as this process has heard.
#[derive(Debug)]
pub(super) struct Registry {
    hosts: Vec<Hosts>,
    scheme: &'static str,
    heard: Mutex<Heard>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Heard {
    expected: BTreeSet<ShardName>,
    known: BTreeMap<ShardName, (Whereabouts, Instant)>,
}

impl Registry {
    pub(super) fn new(config: &Config) -> Self {
        let registry = Self {
            hosts: config.registry.hosts.clone(),
            scheme: match config.tls {
                Some(_) => "https",
                None => "http",
            },
            heard: Mutex::default(),
            changed: Notify::new(),
        };
        registry.follow(config);
        registry
    }

    /// Which shards are announced is the configuration's to say.
    pub(super) fn follow(&self, config: &Config) {
        let announced = config.shard.iter().filter(|shard| shard.is_announced());
        let expected: BTreeSet<ShardName> = announced.map(|shard| shard.name.clone()).collect();
        let mut heard = self.heard.lock();
        heard.known.retain(|shard, _| expected.contains(shard));
        heard.expected = expected;
    }

    /// Takes note of what a participant says, or a coordinator that heard it.
    pub(super) fn hear(&self, said: Whereabouts, now: Instant) -> Result<(), NotTaken> {
        let is_allowed = said.address.parse().is_ok_and(|uri| self.allows(&uri));
        let mut heard = self.heard.lock();
        if !heard.expected.contains(&said.shard) {
            return Err(NotTaken::NotExpected(said.shard));
        }
        if !is_allowed {
            return Err(NotTaken::Forbidden(said.address));
        }
        let before = heard.known.get(&said.shard);
        let is_news = before.is_none_or(|(before, _)| before.address != said.address);
        if let Some((before, at)) = before
            && is_news
            && before.started_unix_ms > said.started_unix_ms
            && now.saturating_duration_since(*at) < SILENCE
        {
            return Err(NotTaken::Superseded(said.shard, before.address.clone()));
        }
        if is_news {
            let (shard, address) = (&said.shard, &said.address);
            tracing::info!(target: "gavel::audit", %shard, address, "its participant is announced");
        }
        heard.known.insert(said.shard.clone(), (said, now));
        drop(heard);
        if is_news {
            self.changed.notify_one();
        }
        Ok(())
    }

    fn allows(&self, uri: &Uri) -> bool {
        let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        let has_user = uri.authority().is_some_and(|it| it.as_str().contains('@'));
        let host = uri.host().unwrap_or_default();
        uri.scheme_str() == Some(self.scheme)
            && uri.port_u16().is_some_and(|port| port > 0)
            && is_bare
            && !has_user
            && self.hosts.iter().any(|hosts| hosts.include(host))
    }

    /// Where the participant of a shard is, if that has been heard.
    pub(super) fn address(&self, shard: &ShardName) -> Option<String> {
        let heard = self.heard.lock();
        let (whereabouts, _) = heard.known.get(shard)?;
        Some(whereabouts.address.clone())
    }

    /// All that has been heard.
    pub(super) fn known(&self) -> Vec<Whereabouts> {
        let heard = self.heard.lock();
        let known = heard.known.values();
        known.map(|(whereabouts, _)| whereabouts.clone()).collect()
    }

    /// Waits until a participant is somewhere else than before.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    fn registry() -> Registry {
        let text = r#"
            deployment = "bank"
            [registry]
            hosts = ["10.1.0.0/16"]
            coordinators = ["http://127.0.0.1:7400"]
            [[shard]]
            name = "east"
            tag = 1
            database_url = "postgres://me:pw@127.0.0.1/east"
            participant = "announced"
            [[shard]]
            name = "west"
            tag = 2
            database_url = "postgres://me:pw@127.0.0.1/west"
            participant = "http://127.0.0.1:7412"
        "#;
        let config = config::parse(Path::new("gavel.toml"), text, []);
        Registry::new(&config.expect("a configuration"))
    }

    fn at(shard: &str, address: &str, started_unix_ms: u64) -> Whereabouts {
        Whereabouts {
            shard: shard.parse().expect("a name"),
            address: address.to_owned(),
            started_unix_ms,
        }
    }

    const OLD: &str = "http://10.1.0.1:7411";
    const NEW: &str = "http://10.1.0.2:7411";

    #[test]
    fn only_what_the_configuration_expects_is_taken() {
        let (registry, now) = (registry(), Instant::now());
        for address in [
            "http://10.2.0.1:7411",
            "https://10.1.0.1:7411",
            "http://10.1.0.1",
            "http://10.1.0.1:7411/path",
            "http://me@10.1.0.1:7411",
            "http://10.1.0.1:7411@evil.example:80",
            "10.1.0.1:7411",
            "",
        ] {
            let taken = registry.hear(at("east", address, 1), now);
            assert_eq!(
                taken,
                Err(NotTaken::Forbidden(address.to_owned())),
                "{address}"
            );
        }
        for shard in ["west", "north"] {
            let taken = registry.hear(at(shard, OLD, 1), now);
            assert!(matches!(taken, Err(NotTaken::NotExpected(_))), "{shard}");
        }
        assert_eq!(registry.known(), []);
        assert_eq!(registry.hear(at("east", OLD, 1), now), Ok(()));
        let east = "east".parse().expect("a name");
        assert_eq!(registry.address(&east).as_deref(), Some(OLD));
    }

    #[test]
    fn the_participant_that_started_later_counts_while_it_is_heard() {
        let (registry, begin) = (registry(), Instant::now());
        registry.hear(at("east", OLD, 1), begin).expect("the first");
        registry
            .hear(at("east", NEW, 2), begin)
            .expect("a later one");
        // The old one is still there for a while.
        let soon = begin + SILENCE / 2;
        let old = registry.hear(at("east", OLD, 1), soon);
        assert!(matches!(old, Err(NotTaken::Superseded(..))), "{old:?}");
        // Its clock may be wrong, and the other one gone.
        let later = begin + SILENCE;
        registry
            .hear(at("east", OLD, 1), later)
            .expect("nobody else is there");
        assert_eq!(registry.known(), [at("east", OLD, 1)]);
    }
}
