//! What is settled once per folder: names, tags, ports and passwords.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;

use serde::{Deserialize, Serialize};

use crate::folder::{Folder, write_secret};
use crate::options::SHARDS_DEFAULT;
use crate::{Error, Options};

/// Names of the first shards; later ones are numbered.
const NAMES: [&str; 8] = [
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta",
];

/// The shard that holds decisions and nothing else.
const DECISIONS: &str = "decisions";

/// The settled facts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    pub(crate) shards: Vec<ShardState>,
    pub(crate) coordinator_ports: Vec<u16>,
    /// Where each process serves its metrics, by its name.
    #[serde(default)]
    pub(crate) metrics_ports: BTreeMap<String, u16>,
}

/// One shard's settled facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShardState {
    pub(crate) name: String,
    /// Never changes and is never used again: txids carry it (R9).
    pub(crate) tag: u16,
    pub(crate) participant_port: u16,
    /// Of the participant's login role; `None` until the role exists.
    pub(crate) password: Option<String>,
}

impl State {
    /// What the folder has, grown to what is asked for, and saved.
    pub(crate) fn settle(folder: &Folder, options: &Options) -> Result<Self, Error> {
        let mut state = Self::load(folder)?;
        state.grow(folder, options)?;
        state.save(folder)?;
        Ok(state)
    }

    pub(crate) fn save(&self, folder: &Folder) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(self).expect("plain data always serializes");
        write_secret(&folder.state(), &text)
    }

    fn load(folder: &Folder) -> Result<Self, Error> {
        let path = folder.state();
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map_err(|source| Error::State { path, source }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }

    fn grow(&mut self, folder: &Folder, options: &Options) -> Result<(), Error> {
        let found = self.data_shards();
        let kept = if found == 0 { SHARDS_DEFAULT } else { found };
        let asked = options.shards.unwrap_or(kept);
        if asked < found {
            return Err(Error::FewerShards {
                folder: folder.root().to_path_buf(),
                found,
                asked,
            });
        }
        for index in found..asked {
            self.add_shard(shard_name(index))?;
        }
        if options.decisions_shard && !self.has_decisions_shard() {
            self.add_shard(DECISIONS.to_owned())?;
        }
        while self.coordinator_ports.len() < options.coordinators {
            let port = self.free_port()?;
            self.coordinator_ports.push(port);
        }
        if let Some(port) = options.port {
            self.coordinator_ports[0] = port;
        }
        self.add_metrics_ports()
    }

    fn add_metrics_ports(&mut self) -> Result<(), Error> {
        let participants = self
            .shards
            .iter()
            .map(|shard| participant_name(&shard.name));
        let coordinators = (0..self.coordinator_ports.len()).map(coordinator_name);
        for name in participants.chain(coordinators).collect::<Vec<_>>() {
            if !self.metrics_ports.contains_key(&name) {
                let port = self.free_port()?;
                self.metrics_ports.insert(name, port);
            }
        }
        Ok(())
    }

    fn data_shards(&self) -> usize {
        self.shards.len() - usize::from(self.has_decisions_shard())
    }

    fn has_decisions_shard(&self) -> bool {
        self.shards.iter().any(|shard| shard.name == DECISIONS)
    }

    fn add_shard(&mut self, name: String) -> Result<(), Error> {
        let highest = self.shards.iter().map(|shard| shard.tag).max();
        let participant_port = self.free_port()?;
        self.shards.push(ShardState {
            name,
            tag: highest.unwrap_or(0) + 1,
            participant_port,
            password: None,
        });
        Ok(())
    }

    /// A port that is free now and that none of our own is going to take.
    fn free_port(&self) -> Result<u16, Error> {
        loop {
            let port = local_postgres::free_port()?;
            let participants = self.shards.iter().map(|shard| shard.participant_port);
            if !participants
                .chain(self.coordinator_ports.iter().copied())
                .chain(self.metrics_ports.values().copied())
                .any(|p| p == port)
            {
                return Ok(port);
            }
        }
    }
}

/// What the process of a shard's participant is called.
pub(crate) fn participant_name(shard: &str) -> String {
    format!("participant-{shard}")
}

/// What the process of a coordinator is called.
pub(crate) fn coordinator_name(index: usize) -> String {
    match index {
        0 => "coordinator".to_owned(),
        _ => format!("coordinator-{}", index + 1),
    }
}

fn shard_name(index: usize) -> String {
    match NAMES.get(index) {
        Some(name) => (*name).to_owned(),
        None => format!("shard_{}", index + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(folder: &Folder) -> Options {
        Options::new(folder.root(), "gavel")
    }

    #[test]
    fn what_is_settled_stays_and_shards_are_only_added() {
        let temporary = tempfile::tempdir().expect("a folder");
        let folder = Folder::open(temporary.path()).expect("the owner");
        let first = State::settle(&folder, &options(&folder)).expect("a new state");
        let names: Vec<&str> = first.shards.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["alpha", "beta", "gamma"]);
        assert_eq!(
            State::settle(&folder, &options(&folder)).expect("again"),
            first
        );

        let mut more = options(&folder);
        more.shards = Some(4);
        more.decisions_shard = true;
        let grown = State::settle(&folder, &more).expect("grown");
        assert_eq!(grown.shards[..3], first.shards[..]);
        assert_eq!(grown.shards[3].name, "delta");
        assert_eq!(
            (grown.shards[4].name.as_str(), grown.shards[4].tag),
            (DECISIONS, 5)
        );

        more.shards = Some(5);
        let again = State::settle(&folder, &more).expect("grown again");
        assert_eq!(
            (again.shards[5].name.as_str(), again.shards[5].tag),
            ("epsilon", 6)
        );
        more.shards = Some(2);
        let error = State::settle(&folder, &more).expect_err("shards are not removed");
        assert!(
            error.to_string().contains("has 5 shards, 2 were asked for"),
            "{error}"
        );
    }
}
