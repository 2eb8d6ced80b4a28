//! Taking over a changed configuration while a service runs.
//!
//! What can change is which shards there are, their states and the addresses of their participants,
//! and `log.level`. A service looks at the file every few seconds, and at once on SIGHUP. A file
//! with anything wrong in it is left alone as a whole, with the reason in the log, and what was
//! there before goes on; the same file is tried again as long as a database cannot be asked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use gavel_protocol::ShardName;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::registry::Registry;
use crate::args::Cli;
use crate::config::{self, Config, ShardState};
use crate::logging;

/// How often a service looks whether its configuration has changed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Where a service's configuration comes from.
pub(crate) struct Source {
    path: PathBuf,
    seen: Option<SystemTime>,
    hangup: Signal,
    /// What the command line says stays.
    keeps_log_level: bool,
    /// Whether a participant is somewhere else, and that is not taken over yet.
    is_moved: bool,
}

/// A service whose shards may change.
pub(super) trait TakesOver {
    /// Works with the shards of this configuration from now on, or changes nothing.
    async fn take_over(&mut self, config: &Config) -> anyhow::Result<()>;
}

impl Source {
    /// The file that the command line names. From now on SIGHUP does not end the process.
    pub(crate) fn of(cli: &Cli) -> anyhow::Result<Self> {
        Ok(Self {
            // Looked at once more: it may have changed since it was loaded.
            seen: None,
            path: cli.config.clone(),
            hangup: signal(SignalKind::hangup()).context("cannot listen to SIGHUP")?,
            keeps_log_level: cli.log_level.is_some(),
            is_moved: false,
        })
    }

    /// Keeps a service at what the file says and participants announce, for as long as the process
    /// lives. `now` is what it began with.
    pub(super) async fn follow(
        mut self,
        mut now: Config,
        mut service: impl TakesOver,
        registry: Arc<Registry>,
    ) {
        let mut told = None;
        loop {
            tokio::select! {
                () = self.changed() => {}
                () = registry.changed() => self.is_moved = true,
            }
            match self.take_over(&mut now, &mut service).await {
                Ok(()) => told = None,
                Err(error) => {
                    // Looked at again: the file may be half written, or a database down.
                    self.seen = None;
                    let why = format!("{error:#}");
                    if told.as_ref() != Some(&why) {
                        tracing::error!("the changed configuration is not taken over: {why}");
                        told = Some(why);
                    }
                }
            }
        }
    }

    /// Resolves when the file is worth a look.
    async fn changed(&mut self) {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {
                    if modified(&self.path) != self.seen {
                        return;
                    }
                }
            }
        }
    }

    async fn take_over(
        &mut self,
        now: &mut Config,
        service: &mut impl TakesOver,
    ) -> anyhow::Result<()> {
        if self.is_moved {
            // Whatever is wrong with the file meanwhile.
            service.take_over(now).await?;
            self.is_moved = false;
        }
        let seen = modified(&self.path);
        let new = config::load(&self.path)?;
        let changes = changes(now, &new).map_err(anyhow::Error::msg)?;
        if !changes.is_empty() {
            service.take_over(&new).await?;
            for change in &changes {
                tracing::info!(target: "gavel::audit", "the configuration has changed: {change}");
            }
            now.shard.clone_from(&new.shard);
        }
        if now.log.level != new.log.level && !self.keeps_log_level {
            logging::set(&new.log.level);
        }
        now.log.level.clone_from(&new.log.level);
        self.seen = seen;
        if is_more(now, &new) {
            tracing::warn!(
                "keys other than those of shards and log.level have changed: they count from \
                 the next start"
            );
        }
        Ok(())
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|file| file.modified()).ok()
}

/// One thing that is different.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    Added(ShardName),
    Removed(ShardName),
    State(ShardName, ShardState),
    Moved(ShardName),
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Added(name) => write!(f, "shard {name} is added"),
            Self::Removed(name) => write!(f, "shard {name} is removed"),
            Self::State(name, ShardState::Active) => write!(f, "shard {name} is active"),
            Self::State(name, ShardState::Draining) => write!(f, "shard {name} is draining"),
            Self::Moved(name) => write!(f, "the participant of shard {name} has another address"),
        }
    }
}

/// What is different in the shards, if it may be. Tags and names stay together for ever (R9), and
/// a shard that takes transactions cannot just be gone.
pub(super) fn changes(now: &Config, new: &Config) -> Result<Vec<Change>, String> {
    if now.deployment != new.deployment {
        return Err("`deployment` never changes".to_owned());
    }
    let mut changes = Vec::new();
    for old in &now.shard {
        let name = &old.name;
        let Some(shard) = new.shard(name) else {
            if old.state != ShardState::Draining {
                return Err(format!(
                    "shard `{name}` is gone from the file, but takes transactions: put its table \
                     back, with state = \"draining\", and see `gavel shard remove`"
                ));
            }
            changes.push(Change::Removed(name.clone()));
            continue;
        };
        if shard.tag != old.tag {
            let (was, is) = (old.tag, shard.tag);
            return Err(format!(
                "shard `{name}` has tag {was}, not {is}: a tag never changes"
            ));
        }
        if shard.state != old.state {
            changes.push(Change::State(name.clone(), shard.state));
        }
        if shard.participant != old.participant {
            changes.push(Change::Moved(name.clone()));
        }
    }
    let tags: BTreeSet<_> = now.shard.iter().map(|shard| shard.tag).collect();
    for shard in new
        .shard
        .iter()
        .filter(|shard| now.shard(&shard.name).is_none())
    {
        if tags.contains(&shard.tag) {
            let (name, tag) = (&shard.name, shard.tag);
            return Err(format!(
                "shard `{name}` has tag {tag}, which is another shard's: give it one that was \
                 never used"
            ));
        }
        changes.push(Change::Added(shard.name.clone()));
    }
    Ok(changes)
}

/// Whether anything else is different.
fn is_more(now: &Config, new: &Config) -> bool {
    let mut now = now.clone();
    now.shard.clone_from(&new.shard);
    now.log.level.clone_from(&new.log.level);
    match (toml::Table::try_from(&now), toml::Table::try_from(new)) {
        (Ok(now), Ok(new)) => now != new,
        // It was read from such a text, so it can be written as one.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(shards: &[(&str, u16, &str)]) -> Config {
        let tables = shards.iter().map(|(name, tag, state)| {
            format!(
                "[[shard]]\nname = \"{name}\"\ntag = {tag}\nstate = \"{state}\"\n\
                 database_url = \"postgres://me:pw@127.0.0.1:{}/x\"\n\
                 participant = \"http://127.0.0.1:{}\"\n",
                5000 + tag,
                6000 + tag
            )
        });
        let text = format!("deployment = \"bank\"\n{}", tables.collect::<String>());
        config::parse(Path::new("gavel.toml"), &text, []).expect("a configuration")
    }

    fn name(name: &str) -> ShardName {
        name.parse().expect("a name")
    }

    #[test]
    fn shards_come_drain_and_go() {
        let now = config(&[("alpha", 1, "active"), ("beta", 2, "draining")]);
        let new = config(&[("alpha", 1, "draining"), ("gamma", 3, "active")]);
        let expected = vec![
            Change::State(name("alpha"), ShardState::Draining),
            Change::Removed(name("beta")),
            Change::Added(name("gamma")),
        ];
        assert_eq!(changes(&now, &new), Ok(expected));
        assert_eq!(changes(&new, &new), Ok(Vec::new()));
    }

    #[test]
    fn r9_a_tag_stays_with_its_name() {
        let now = config(&[("alpha", 1, "active"), ("beta", 2, "draining")]);
        for wrong in [
            config(&[("alpha", 3, "active"), ("beta", 2, "active")]),
            config(&[("alpha", 1, "active"), ("gamma", 2, "active")]),
        ] {
            assert!(changes(&now, &wrong).is_err());
        }
    }

    #[test]
    fn r13_a_shard_that_takes_transactions_is_not_just_gone() {
        let now = config(&[("alpha", 1, "active"), ("beta", 2, "active")]);
        let without = config(&[("alpha", 1, "active")]);
        let why = changes(&now, &without).expect_err("beta is active");
        assert!(why.contains("draining"), "{why}");
    }
}
