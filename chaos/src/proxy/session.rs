//! What a session is doing, as its messages tell: which statements, of which batch, at which step.
//!
//! It knows how a participant speaks (`participant/src/pg`): statements are parsed under a name once
//! per connection, a gid is a literal, phase two is a simple query per branch. What it does not
//! recognise passes unnoticed.

use std::collections::HashMap;

use gavel_protocol::{Gid, Txid};

use super::frames::{Fields, Frame};
use super::step::{Passage, Point};

/// One statement with its parameters, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its text.
    pub sql: String,
    /// What was bound.
    pub params: Vec<Option<String>>,
}

/// What the open transaction is for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
enum Purpose {
    #[default]
    Other,
    Branch {
        batch: String,
        gid: String,
    },
    Decision {
        batch: String,
        prepared: Vec<u16>,
    },
}

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    shard: usize,
    backend_port: u16,
    statements: HashMap<String, String>,
    bound: Option<Call>,
    purpose: Purpose,
    txids: Vec<Txid>,
    calls: Vec<Call>,
    /// What the segment that is being sent does.
    point: Option<Point>,
    /// The gid of a phase two.
    finishing: Option<String>,
}

impl Session {
    pub(super) fn new(shard: usize, backend_port: u16) -> Self {
        Self {
            shard,
            backend_port,
            statements: HashMap::new(),
            bound: None,
            purpose: Purpose::Other,
            txids: Vec::new(),
            calls: Vec::new(),
            point: None,
            finishing: None,
        }
    }

    /// Takes note of a message on its way to the server. At the end of a segment (a Sync, or a
    /// simple query) says what the segment does, if it is a step.
    pub(super) fn note(&mut self, frame: &Frame) -> Option<Passage> {
        // A message that cannot be read is the server's to refuse.
        match frame.tag {
            b'P' => drop(self.parse(frame)),
            b'B' => self.bound = self.bind(frame),
            b'E' => {
                if let Some(call) = self.bound.take() {
                    self.execute(call);
                }
            }
            b'Q' => {
                let sql = Fields(frame.body()).text()?;
                self.execute(Call {
                    sql,
                    params: Vec::new(),
                });
                return self.end_segment();
            }
            b'S' => return self.end_segment(),
            _ => {}
        }
        None
    }

    fn parse(&mut self, frame: &Frame) -> Option<()> {
        let mut fields = Fields(frame.body());
        let (name, sql) = (fields.text()?, fields.text()?);
        self.statements.insert(name, sql);
        Some(())
    }

    fn bind(&self, frame: &Frame) -> Option<Call> {
        let mut fields = Fields(frame.body());
        let _portal = fields.text()?;
        let sql = self.statements.get(&fields.text()?)?.clone();
        let formats = fields.short()?;
        fields.take(formats * 2)?;
        let count = fields.short()?;
        let value = |_| {
            let value = fields.value()?;
            Some(value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        };
        let params = (0..count).map(value).collect::<Option<_>>()?;
        Some(Call { sql, params })
    }

    fn execute(&mut self, call: Call) {
        let sql = call.sql.as_str();
        if sql.starts_with("BEGIN") {
            self.forget();
        }
        if sql.contains("gavel.open_branch(") {
            self.purpose = Purpose::Branch {
                batch: param(&call, 0),
                gid: param(&call, 1),
            };
            self.point = Some(Point::Work);
        } else if sql.contains("gavel.open_decision(") {
            self.purpose = Purpose::Decision {
                batch: param(&call, 0),
                prepared: numbers(&param(&call, 2)),
            };
            self.point = Some(Point::Work);
        } else if sql.starts_with("PREPARE TRANSACTION") {
            self.point = Some(Point::Prepare);
        } else if sql == "COMMIT" {
            if matches!(self.purpose, Purpose::Decision { .. }) {
                self.point = Some(Point::Decide);
            }
        } else if let Some(gid) = literal(sql, "COMMIT PREPARED ") {
            self.finish(gid, Point::Commit);
        } else if let Some(gid) = literal(sql, "ROLLBACK PREPARED ") {
            self.finish(gid, Point::Rollback);
        }
        let named = call.params.iter().flatten();
        let named =
            named.flat_map(|text| elements(text).filter_map(|each| each.parse::<Txid>().ok()));
        self.txids.extend(named);
        self.calls.push(call);
    }

    fn finish(&mut self, gid: &str, point: Point) {
        self.forget();
        self.finishing = Some(gid.to_owned());
        self.point = Some(point);
    }

    fn end_segment(&mut self) -> Option<Passage> {
        let point = self.point.take()?;
        let (batch, gid, prepared) = match (&self.purpose, &self.finishing) {
            (_, Some(gid)) => {
                let batch = gid.parse::<Gid>().ok()?.batch.to_string();
                (batch, Some(gid.clone()), Vec::new())
            }
            (Purpose::Branch { batch, gid }, None) => {
                (batch.clone(), Some(gid.clone()), Vec::new())
            }
            (Purpose::Decision { batch, prepared }, None) => {
                (batch.clone(), None, prepared.clone())
            }
            (Purpose::Other, None) => return None,
        };
        let passage = Passage {
            shard: self.shard,
            batch,
            gid,
            txids: self.txids.clone(),
            prepared,
            backend_port: self.backend_port,
            point,
            calls: self.calls.clone(),
        };
        if point != Point::Work {
            self.forget();
        }
        Some(passage)
    }

    fn forget(&mut self) {
        self.purpose = Purpose::Other;
        self.txids.clear();
        self.calls.clear();
        self.finishing = None;
    }
}

fn param(call: &Call, index: usize) -> String {
    let param = call.params.get(index).cloned().flatten();
    param.unwrap_or_default()
}

/// The elements of an array literal of ids or numbers, which participants quote; or the text itself.
fn elements(text: &str) -> impl Iterator<Item = &str> {
    let inner = text.trim_start_matches('{').trim_end_matches('}');
    inner.split(',').map(|each| each.trim_matches('"'))
}

fn numbers(array: &str) -> Vec<u16> {
    elements(array)
        .filter_map(|each| each.parse().ok())
        .collect()
}

fn literal<'a>(sql: &'a str, verb: &str) -> Option<&'a str> {
    sql.strip_prefix(verb)?
        .strip_prefix('\'')?
        .strip_suffix('\'')
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use postgres_protocol::IsNull;
    use postgres_protocol::message::frontend;

    use super::*;
    use crate::proxy::frames::Frames;

    const BATCH: &str = "019a9f0e-7c11-7b1e-8f5a-3d4c5b6a7988";
    const GID: &str = "gavel:dev:1:1:019a9f0e-7c11-7b1e-8f5a-3d4c5b6a7988:2";

    /// What a session notices in these messages.
    fn noticed(session: &mut Session, build: impl FnOnce(&mut BytesMut)) -> Vec<Passage> {
        let mut bytes = BytesMut::new();
        build(&mut bytes);
        let mut frames = Frames::default();
        let mut stream = std::io::Cursor::new(bytes.to_vec());
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime").block_on(async {
            let mut seen = Vec::new();
            while let Some(frame) = frames.next(&mut stream).await.expect("frames") {
                seen.extend(session.note(&frame));
            }
            seen
        })
    }

    fn run(bytes: &mut BytesMut, name: &str, sql: Option<&str>, params: &[&str]) {
        if let Some(sql) = sql {
            frontend::parse(name, sql, [], bytes).expect("parse");
        }
        let write = |param: &&str, buffer: &mut BytesMut| {
            buffer.extend_from_slice(param.as_bytes());
            Ok(IsNull::No)
        };
        let bound = frontend::bind("", name, [], params, write, [], bytes);
        assert!(bound.is_ok());
        frontend::execute("", 0, bytes).expect("execute");
    }

    #[test]
    fn a_branch_is_followed_from_its_row_to_its_vote() {
        let mut session = Session::new(1, 9);
        for round in 0..2 {
            // The second time, the statements are known by name.
            let once = |sql| (round == 0).then_some(sql);
            let work = noticed(&mut session, |bytes| {
                run(
                    bytes,
                    "g0",
                    once("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"),
                    &[],
                );
                let open =
                    "SELECT gavel.open_branch($1, $2, $3, $4, $5), pg_current_xact_id()::text";
                run(bytes, "g1", once(open), &[BATCH, GID, "1", "1", "1"]);
                let txid = "019a9f0e-7c11-7b1e-8f5a-3d4c5b6a0001";
                run(
                    bytes,
                    "g2",
                    once("INSERT INTO mark VALUES ($1, $2, $3)"),
                    &[txid, "3", "-1"],
                );
                frontend::sync(bytes);
            });
            assert_eq!(work.len(), 1);
            assert_eq!(
                (work[0].point, work[0].batch.as_str()),
                (Point::Work, BATCH)
            );
            assert_eq!(
                work[0].txids.len(),
                1 + usize::from(BATCH.parse::<Txid>().is_ok())
            );
            let vote = noticed(&mut session, |bytes| {
                run(
                    bytes,
                    "",
                    Some(&format!("PREPARE TRANSACTION '{GID}'")),
                    &[],
                );
                frontend::sync(bytes);
                frontend::query("RESET ALL", bytes).expect("a query");
            });
            assert_eq!(vote.len(), 1, "the reset is no step");
            assert_eq!(vote[0].point, Point::Prepare);
            assert_eq!(vote[0].gid.as_deref(), Some(GID));
            assert_eq!(
                vote[0].calls.len(),
                4,
                "all of its statements: {:?}",
                vote[0].calls
            );
        }
    }

    #[test]
    fn only_a_decision_makes_a_commit_a_step() {
        let mut session = Session::new(0, 9);
        let plain = noticed(&mut session, |bytes| {
            run(bytes, "a", Some("BEGIN"), &[]);
            run(bytes, "b", Some("COMMIT"), &[]);
            frontend::sync(bytes);
        });
        assert!(plain.is_empty());
        let decided = noticed(&mut session, |bytes| {
            run(bytes, "a", None, &[]);
            let open = "SELECT gavel.open_decision($1, $2, $3, $4, $5, $6, $7, $8)";
            run(
                bytes,
                "c",
                Some(open),
                &[
                    BATCH,
                    "1",
                    "{\"2\",\"3\"}",
                    "{\"019a9f0e-7c11-7b1e-8f5a-3d4c5b6a0001\"}",
                    "{}",
                    "{}",
                    "{}",
                    "local",
                ],
            );
            frontend::sync(bytes);
            run(bytes, "b", None, &[]);
            frontend::sync(bytes);
        });
        assert_eq!(decided.len(), 2);
        assert_eq!(decided[1].point, Point::Decide);
        assert_eq!(decided[1].prepared, [2, 3]);
        assert_eq!(
            decided[1].txids.len(),
            2,
            "the batch id looks like one as well"
        );
    }

    #[test]
    fn phase_two_is_one_step_per_branch() {
        let mut session = Session::new(0, 9);
        let finished = noticed(&mut session, |bytes| {
            frontend::query(&format!("COMMIT PREPARED '{GID}'"), bytes).expect("a query");
            frontend::query(&format!("ROLLBACK PREPARED '{GID}'"), bytes).expect("a query");
            frontend::query("COMMIT PREPARED 'somebody else'", bytes).expect("a query");
        });
        let points: Vec<Point> = finished.iter().map(|passage| passage.point).collect();
        assert_eq!(points, [Point::Commit, Point::Rollback]);
        assert!(finished.iter().all(|passage| passage.batch == BATCH));
    }
}
