//! What is wrong with a shard, from what was seen of it.

use gavel_protocol::{DeploymentName, Gid};

use super::database::{Holder, Holds, Prepared, Vitals};
use super::finding::{Finding, Severity, graded};

/// How old a branch is that nobody resolves, in seconds: resolving takes a few.
const BRANCH_AGE: [f64; 2] = [10.0, 60.0];
/// How old a prepared transaction of others is that they have forgotten, in seconds.
const FOREIGN_AGE: [f64; 2] = [60.0, 3600.0];
/// Share of the slots that is used.
const SLOTS_USED: [f64; 2] = [0.5, 0.9];
/// Share of the connections that is open.
const CONNECTIONS_USED: [f64; 2] = [0.8, 0.95];
/// Transactions behind which dead rows have stayed.
const HORIZON_AGE: [i32; 2] = [1_000_000, 100_000_000];
/// Transactions until which PostgreSQL refuses to go on are 2^31; it warns 40 million before.
const DATABASE_AGE_MAX: i32 = 1_000_000_000;
/// How far a clock may be off, in seconds, until answers make no sense to people.
const CLOCK_OFF: f64 = 1.0;
/// Days with partitions. Participants make more a few times a day.
const DAYS_AHEAD_MIN: i32 = 2;

/// Makes findings of what was seen.
pub(super) struct Judge<'a> {
    pub(super) place: &'a str,
    pub(super) deployment: &'a DeploymentName,
    /// How far in the future a txid may be, in seconds.
    pub(super) ahead_max: f64,
    pub(super) vitals: &'a Vitals,
}

impl Judge<'_> {
    pub(super) fn all(&self, prepared: &[Prepared], holders: &[Holder]) -> Vec<Finding> {
        let mut findings: Vec<Finding> = prepared
            .iter()
            .filter_map(|one| self.prepared(one))
            .collect();
        let rest = [
            self.slots(),
            self.connections(),
            self.read_only(),
            self.clock(),
            self.partitions(),
            self.database_age(),
            self.standbys(),
            self.sight(),
        ];
        findings.extend(rest.into_iter().flatten());
        findings.extend(holders.iter().filter_map(|holder| self.horizon(holder)));
        findings
    }

    fn found(
        &self,
        severity: Severity,
        code: &'static str,
        what: String,
        why: &'static str,
        fix: impl Into<String>,
    ) -> Finding {
        Finding {
            severity,
            place: self.place.to_owned(),
            code,
            what,
            why,
            fix: fix.into(),
        }
    }

    fn prepared(&self, one: &Prepared) -> Option<Finding> {
        let Prepared {
            gid,
            owner,
            database,
            age,
        } = one;
        let [warning, critical] = match gid.parse::<Gid>() {
            Ok(ours) if ours.deployment == *self.deployment => {
                let severity = graded(*age, BRANCH_AGE[0], BRANCH_AGE[1])?;
                return Some(self.found(
                    severity,
                    "branch_in_doubt",
                    format!("{gid} has been prepared for {age:.0} s"),
                    "it holds its locks, and keeps vacuum back, until its home says what became of it",
                    format!(
                        "`gavel in-doubt list` says what it waits for; the fix is to bring that \
                         back. Home is the shard with tag {}",
                        ours.home
                    ),
                ));
            }
            _ => FOREIGN_AGE,
        };
        let severity = graded(*age, warning, critical)?;
        // Anybody may have chosen this text: it is printed as SQL for psql and never as a command
        // for a shell, and cannot steer the terminal.
        let shown = gid.escape_debug();
        let quoted = gid.replace('\'', "''");
        let quoted: String = quoted
            .chars()
            .filter(|letter| !letter.is_control())
            .collect();
        Some(self.found(
            severity,
            "foreign_prepared",
            format!("`{shown}` of {owner} in {database}, prepared {age:.0} s ago, is not Gavel's"),
            "it takes a slot, holds its locks and keeps vacuum back until somebody ends it",
            format!(
                "ask {owner}; if nobody knows it, in database {database}, as {owner} or a \
                 superuser: ROLLBACK PREPARED '{quoted}'"
            ),
        ))
    }

    fn slots(&self) -> Option<Finding> {
        let Vitals {
            slots_used, slots, ..
        } = self.vitals;
        let share = *slots_used as f64 / f64::from(*slots).max(1.0);
        let severity = graded(share, SLOTS_USED[0], SLOTS_USED[1])?;
        Some(self.found(
            severity,
            "slots_scarce",
            format!("{slots_used} of {slots} slots for prepared transactions are used"),
            "without a free slot every prepare fails, and so does every transaction over this shard",
            format!(
                "end what is old (SELECT * FROM pg_prepared_xacts ORDER BY prepared), or ALTER SYSTEM \
                 SET max_prepared_transactions = {}, standbys first, and restart",
                slots.saturating_mul(2)
            ),
        ))
    }

    fn connections(&self) -> Option<Finding> {
        let Vitals {
            connections,
            connections_used,
            ..
        } = self.vitals;
        let share = *connections_used as f64 / f64::from(*connections).max(1.0);
        let severity = graded(share, CONNECTIONS_USED[0], CONNECTIONS_USED[1])?;
        Some(self.found(
            severity,
            "connections_scarce",
            format!("{connections_used} of {connections} connections are open"),
            "a participant that cannot connect any more cannot finish branches either",
            "close some of others (SELECT usename, count(*) FROM pg_stat_activity GROUP BY 1), or \
             raise max_connections and restart",
        ))
    }

    fn read_only(&self) -> Option<Finding> {
        let Vitals {
            is_read_only, role, ..
        } = self.vitals;
        is_read_only.then(|| {
            self.found(
                Severity::Critical,
                "read_only_by_default",
                "default_transaction_read_only is on".to_owned(),
                "nothing can be written, decisions neither",
                format!(
                    "BEGIN READ WRITE; ALTER ROLE \"{role}\" SET default_transaction_read_only = off; \
                     COMMIT"
                ),
            )
        })
    }

    fn clock(&self) -> Option<Finding> {
        let ahead = self.vitals.clock_ahead;
        // Half of what is refused: clients' clocks are off as well.
        let severity = graded(ahead.abs(), CLOCK_OFF, self.ahead_max / 2.0)?;
        let direction = if ahead > 0.0 { "ahead of" } else { "behind" };
        Some(self.found(
            severity,
            "clock_off",
            format!(
                "its clock is {:.1} s {direction} this machine's",
                ahead.abs()
            ),
            "txids from the future are refused, and ages in lists and alerts are wrong",
            "synchronise both clocks (NTP)",
        ))
    }

    fn partitions(&self) -> Option<Finding> {
        let days = self.vitals.days_ahead;
        let severity = match days {
            0 => Severity::Critical,
            _ if days < DAYS_AHEAD_MIN => Severity::Warning,
            _ => return None,
        };
        Some(self.found(
            severity,
            "partitions_missing",
            format!("there are partitions for {days} days, today included"),
            "without a partition for its day nothing can be recorded",
            "is its participant running? It makes them; `gavel retention run` does so now",
        ))
    }

    fn database_age(&self) -> Option<Finding> {
        let Vitals {
            database_age,
            freeze_max_age,
            database,
            ..
        } = self.vitals;
        let warning = freeze_max_age.saturating_mul(2);
        let severity = graded(
            *database_age,
            warning.min(DATABASE_AGE_MAX),
            DATABASE_AGE_MAX,
        )?;
        Some(self.found(
            severity,
            "database_old",
            format!("the oldest row that is not frozen is {database_age} transactions old"),
            "at two thousand millions PostgreSQL refuses every write, to save its data",
            format!("see what holds vacuum back, end it, then: vacuumdb --freeze \"{database}\""),
        ))
    }

    fn standbys(&self) -> Option<Finding> {
        let Vitals {
            synchronous_standby_names: names,
            sees_others,
            standbys,
            synchronous_standbys,
            ..
        } = self.vitals;
        if !sees_others {
            return None;
        }
        match (names.is_empty(), standbys, synchronous_standbys) {
            (false, _, 0) => Some(self.found(
                Severity::Critical,
                "no_synchronous_standby",
                format!("synchronous_standby_names is `{names}`, and no such standby streams"),
                "every commit waits for it",
                "bring the standby back, or ALTER SYSTEM RESET synchronous_standby_names and \
                 SELECT pg_reload_conf(), with which a failover can lose what was acknowledged",
            )),
            (true, 1.., _) => Some(self.found(
                Severity::Note,
                "standbys_asynchronous",
                format!("{standbys} standbys stream, and no commit waits for them"),
                "promoting one can lose what was acknowledged, and break atomicity",
                "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (…)', or never promote \
                 without the steps of docs/operations.md",
            )),
            _ => None,
        }
    }

    fn sight(&self) -> Option<Finding> {
        let Vitals {
            sees_others, role, ..
        } = self.vitals;
        (!sees_others).then(|| {
            self.found(
                Severity::Note,
                "sees_little",
                format!("role `{role}` does not see what others do"),
                "standbys, and sessions that hold vacuum back, were not looked at",
                format!("GRANT pg_read_all_stats TO \"{role}\""),
            )
        })
    }

    fn horizon(&self, holder: &Holder) -> Option<Finding> {
        let Holder { kind, name, age } = holder;
        let severity = graded(*age, HORIZON_AGE[0], HORIZON_AGE[1])?;
        let (what, fix) = match kind {
            Holds::Slot => (
                format!("the replication slot `{name}`"),
                format!(
                    "let its reader catch up, or SELECT pg_drop_replication_slot('{}')",
                    name.replace('\'', "''")
                ),
            ),
            Holds::Session => (
                format!("the transaction of process {name}"),
                format!("let it end, or SELECT pg_terminate_backend({name})"),
            ),
            Holds::Prepared => (
                format!("the prepared transaction `{name}`"),
                "end it: see the finding about it".to_owned(),
            ),
        };
        Some(self.found(
            severity,
            "vacuum_held_back",
            format!("{what} is {age} transactions old"),
            "no row that died since then can be removed: tables grow and get slow",
            fix,
        ))
    }

    pub(super) fn damage(&self, open: usize) -> Option<Finding> {
        (open > 0).then(|| {
            self.found(
                Severity::Critical,
                "damage",
                format!("{open} records of damage that nobody has acknowledged"),
                "a part of a transaction is on one shard and not on another",
                "`gavel damage` shows the evidence; docs/operations.md, Damage, says what to do",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Vitals = Vitals {
        role: String::new(),
        database: String::new(),
        clock_ahead: 0.0,
        slots_used: 0,
        slots: 100,
        database_age: 1,
        freeze_max_age: 200_000_000,
        is_read_only: false,
        synchronous_standby_names: String::new(),
        connections: 97,
        connections_used: 40,
        sees_others: true,
        standbys: 0,
        synchronous_standbys: 0,
        days_ahead: 8,
    };

    fn codes(vitals: &Vitals, prepared: &[Prepared], holders: &[Holder]) -> Vec<String> {
        let judge = Judge {
            place: "alpha",
            deployment: &"shop".parse().unwrap(),
            ahead_max: 300.0,
            vitals,
        };
        let findings = judge.all(prepared, holders);
        let codes = findings.iter().map(|finding| {
            let severity = finding.to_json()["severity"].as_str().unwrap().to_owned();
            format!("{severity} {}", finding.code)
        });
        codes.collect()
    }

    #[test]
    fn a_healthy_shard_has_no_findings() {
        assert_eq!(codes(&WELL, &[], &[]), [""; 0]);
    }

    #[test]
    fn every_vital_sign_has_its_bounds() {
        let cases: [(Vitals, &str); 14] = [
            (
                Vitals {
                    slots_used: 50,
                    ..WELL
                },
                "warning slots_scarce",
            ),
            (
                Vitals {
                    slots_used: 90,
                    ..WELL
                },
                "critical slots_scarce",
            ),
            (
                Vitals {
                    connections_used: 80,
                    ..WELL
                },
                "warning connections_scarce",
            ),
            (
                Vitals {
                    connections_used: 97,
                    ..WELL
                },
                "critical connections_scarce",
            ),
            (
                Vitals {
                    is_read_only: true,
                    ..WELL
                },
                "critical read_only_by_default",
            ),
            (
                Vitals {
                    clock_ahead: -1.5,
                    ..WELL
                },
                "warning clock_off",
            ),
            (
                Vitals {
                    clock_ahead: 200.0,
                    ..WELL
                },
                "critical clock_off",
            ),
            (
                Vitals {
                    days_ahead: 0,
                    ..WELL
                },
                "critical partitions_missing",
            ),
            (
                Vitals {
                    days_ahead: 1,
                    ..WELL
                },
                "warning partitions_missing",
            ),
            (
                Vitals {
                    database_age: 400_000_000,
                    ..WELL
                },
                "warning database_old",
            ),
            (
                Vitals {
                    database_age: 1_000_000_000,
                    ..WELL
                },
                "critical database_old",
            ),
            (
                Vitals {
                    synchronous_standby_names: "b".into(),
                    standbys: 1,
                    ..WELL
                },
                "critical no_synchronous_standby",
            ),
            (
                Vitals {
                    standbys: 1,
                    ..WELL
                },
                "note standbys_asynchronous",
            ),
            (
                Vitals {
                    sees_others: false,
                    ..WELL
                },
                "note sees_little",
            ),
        ];
        for (vitals, expected) in cases {
            assert_eq!(codes(&vitals, &[], &[]), [expected], "{vitals:?}");
        }
    }

    #[test]
    fn what_is_prepared_is_told_by_age_and_owner() {
        let prepared = |gid: &str, age| Prepared {
            gid: gid.to_owned(),
            owner: "app".to_owned(),
            database: "app".to_owned(),
            age,
        };
        const BATCH: &str = "019a9f0e-7c11-7b1e-8f5a-3d4c5b6a7988";
        let ours = format!("gavel:shop:1:1:{BATCH}:2");
        let other = format!("gavel:bank:1:1:{BATCH}:2");
        for (gid, age, expected) in [
            (&ours, 9.0, &[][..]),
            (&ours, 10.0, &["warning branch_in_doubt"]),
            (&ours, 60.0, &["critical branch_in_doubt"]),
            (&other, 59.0, &[]),
            (&other, 60.0, &["warning foreign_prepared"]),
            (&"it's".to_owned(), 3600.0, &["critical foreign_prepared"]),
            (
                &"$(rm)\u{1b}[2J".to_owned(),
                60.0,
                &["warning foreign_prepared"],
            ),
        ] {
            assert_eq!(codes(&WELL, &[prepared(gid, age)], &[]), expected, "{gid}");
        }
    }

    #[test]
    fn what_holds_vacuum_back_is_named() {
        for kind in [Holds::Slot, Holds::Session, Holds::Prepared] {
            let holder = |age| Holder {
                kind,
                name: "7".to_owned(),
                age,
            };
            assert_eq!(codes(&WELL, &[], &[holder(999_999)]), [""; 0]);
            let found = codes(&WELL, &[], &[holder(1_000_000)]);
            assert_eq!(found, ["warning vacuum_held_back"]);
        }
    }

    #[test]
    fn what_others_have_chosen_is_no_command_and_steers_no_terminal() {
        let judge = Judge {
            place: "alpha",
            deployment: &"shop".parse().unwrap(),
            ahead_max: 300.0,
            vitals: &WELL,
        };
        let prepared = Prepared {
            gid: "it's $(rm)\u{1b}[2J".to_owned(),
            owner: "app".to_owned(),
            database: "app".to_owned(),
            age: 60.0,
        };
        let text = judge.all(&[prepared], &[])[0].to_string();
        assert!(!text.contains('\u{1b}') && !text.contains("psql"), "{text}");
        assert!(
            text.contains("ROLLBACK PREPARED 'it''s $(rm)[2J'"),
            "{text}"
        );
    }
}
