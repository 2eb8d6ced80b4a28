//! Transactions of days long gone, as a deployment that has run for weeks would hold them.
//!
//! They are written by hand, because Gavel refuses to decide with an old id. What retention
//! promises of them is checked by [`History::assert_sound`].

use std::collections::BTreeSet;

use gavel_protocol::{BatchId, Gid, Incarnation, ShardTag};
use local_postgres::Server;

use crate::bank;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const PER_DAY_AND_HOME: u64 = 5;

/// A commit of the past: its decision at home, its branch rows on the other shards.
struct Past {
    day: u64,
    batch: BatchId,
    home: usize,
    branches: Vec<usize>,
}

/// The past of a deployment with two data shards and a decisions shard.
pub struct History {
    past: Vec<Past>,
    oldest_day: u64,
}

impl History {
    /// Writes commits for each of `days` days before today, with home on a data shard and with
    /// the dedicated home.
    pub fn write(servers: &[Server], days: u16) -> Self {
        let today = today(&servers[0]);
        let oldest_day = today - u64::from(days);
        let mut past = Vec::new();
        for day in oldest_day..today {
            for number in 0..PER_DAY_AND_HOME {
                for (home, branches) in [(0, vec![1]), (2, vec![0, 1])] {
                    let ms = day * DAY_MS + number * 1000;
                    let batch = BatchId::mint(ms, rand::random());
                    past.push(Past {
                        day,
                        batch,
                        home,
                        branches,
                    });
                }
            }
        }
        let deployment = ask(&servers[0], "SELECT deployment FROM gavel.identity");
        for (index, server) in servers.iter().enumerate() {
            let mut rows = format!("SELECT gavel.ensure_partitions({days}, 7);");
            for each in &past {
                rows += &each.rows_of(index, &deployment);
            }
            sql(server, &rows);
        }
        Self { past, oldest_day }
    }

    /// How many whole days of it are gone from every server.
    pub fn days_gone(&self, servers: &[Server]) -> u64 {
        let left = Left::read(servers);
        let is_left = |each: &&Past| left.decides(each) || left.applied(each).next().is_some();
        let oldest = self.past.iter().filter(is_left).map(|each| each.day).min();
        oldest.unwrap_or(u64::MAX) - self.oldest_day
    }

    /// Asserts what holds after every step of retention: while a branch row is left, so is the
    /// decision that explains it (R14); and of the days from `kept_from` on, counted from the
    /// oldest, nothing is gone.
    pub fn assert_sound(&self, servers: &[Server], kept_from: u64) {
        let left = Left::read(servers);
        for each in &self.past {
            let (batch, decided) = (each.batch, left.decides(each));
            let applied: Vec<_> = left.applied(each).collect();
            assert!(
                decided || applied.is_empty(),
                "R14: {batch} is applied on {applied:?}, and its decision is gone"
            );
            if each.day >= self.oldest_day + kept_from {
                assert!(
                    decided && applied == each.branches,
                    "R14: {batch} is of a day that is kept; decided: {decided}, on {applied:?}"
                );
            }
        }
    }
}

impl Past {
    /// The statements that write its rows of one server.
    fn rows_of(&self, server: usize, deployment: &str) -> String {
        let Self { batch, home, .. } = self;
        if server == *home {
            let tags = self.branches.iter().map(|at| tag(*at).to_string());
            let tags = tags.collect::<Vec<_>>().join(",");
            return format!(
                "INSERT INTO gavel.decision VALUES ('{batch}', 'commit', 1, '{{{tags}}}');
                 INSERT INTO gavel.transaction VALUES
                     ('{batch}', '{batch}', 'committed', '\\x07', 'local', NULL);"
            );
        }
        if !self.branches.contains(&server) {
            return String::new();
        }
        let gid = Gid {
            deployment: deployment.parse().expect("a name"),
            home: tag(*home),
            home_incarnation: Incarnation(1),
            batch: *batch,
            shard: tag(server),
        };
        let home = tag(*home);
        format!("INSERT INTO gavel.branch VALUES ('{batch}', '{gid}', {home}, 1);")
    }
}

/// The ids that the servers still have, by server.
struct Left {
    decisions: Vec<BTreeSet<String>>,
    branches: Vec<BTreeSet<String>>,
}

impl Left {
    fn read(servers: &[Server]) -> Self {
        let read = |query: &str| -> Vec<BTreeSet<String>> {
            let ids = servers.iter().map(|server| sql(server, query));
            ids.map(|rows| {
                rows.into_iter()
                    .filter_map(|mut row| row.remove(0))
                    .collect()
            })
            .collect()
        };
        // A transaction's outcome is dropped together with its batch's decision.
        let torn = "SELECT batch FROM gavel.decision d FULL JOIN gavel.transaction t USING (batch)
                    WHERE batch < gavel.uuid_at(gavel.now_ms() - 86400000)
                      AND (d.outcome IS NULL OR t.outcome IS NULL)";
        for rows in read(torn) {
            assert!(rows.is_empty(), "R14: torn by a drop: {rows:?}");
        }
        Self {
            decisions: read("SELECT batch FROM gavel.decision"),
            branches: read("SELECT batch FROM gavel.branch"),
        }
    }

    fn decides(&self, past: &Past) -> bool {
        self.decisions[past.home].contains(&past.batch.to_string())
    }

    fn applied<'a>(&'a self, past: &'a Past) -> impl Iterator<Item = usize> + 'a {
        let has = |at: &usize| self.branches[*at].contains(&past.batch.to_string());
        past.branches.iter().copied().filter(has)
    }
}

fn tag(server: usize) -> ShardTag {
    ShardTag(u16::try_from(server + 1).expect("few shards"))
}

fn today(server: &Server) -> u64 {
    let day = "SELECT floor(extract(epoch FROM clock_timestamp()) / 86400)::bigint";
    ask(server, day).parse().expect("a number")
}

fn ask(server: &Server, query: &str) -> String {
    sql(server, query)[0][0].clone().expect("not null")
}

fn sql(server: &Server, query: &str) -> Vec<Vec<Option<String>>> {
    server.sql(bank::DATABASE, query).expect("ask the server")
}
