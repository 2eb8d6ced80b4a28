//! A picture as text, for who is no terminal.

use std::fmt::Write as _;

use super::picture::{Picture, Rates, milliseconds, since};

pub(super) fn of(picture: &Picture) -> String {
    let mut text = String::new();
    for seen in &picture.coordinators {
        let endpoint = &seen.endpoint;
        let _infallible = match &seen.standing {
            Err(error) => writeln!(text, "{endpoint}: {error}"),
            Ok(standing) => {
                let rates = Rates::of(&standing.seconds);
                writeln!(
                    text,
                    "{endpoint}: {:.0} committed/s, {:.0} aborted/s, {:.0} refused/s, \
                     p50 {:.1} ms, p99 {:.1} ms, {} in flight, {} waiting, up {}, {}{}",
                    rates.committed,
                    rates.aborted,
                    rates.refused,
                    rates.p50_ms,
                    rates.p99_ms,
                    standing.in_flight,
                    standing.waiting,
                    since(standing.started_unix_s),
                    standing.version,
                    if standing.is_draining {
                        ", draining"
                    } else {
                        ""
                    },
                )
            }
        };
    }
    for row in picture.shard_rows() {
        let state = match (row.wrong.is_empty(), row.is_draining) {
            (true, false) => "well".to_owned(),
            (true, true) => "draining".to_owned(),
            (false, _) => row.wrong.join("; "),
        };
        let _infallible = writeln!(text, "shard {} (tag {}): {state}", row.name, row.tag);
    }
    match &picture.in_doubt {
        Err(error) => {
            let _infallible = writeln!(text, "in doubt: {error}");
        }
        Ok(shards) => {
            for shard in shards.iter().filter(|shard| shard.branches.is_err()) {
                let _infallible = writeln!(text, "in doubt: {} cannot be asked", shard.shard);
            }
        }
    }
    for doubt in picture.doubts() {
        let _infallible = writeln!(
            text,
            "prepared on {}: {} for {}, waits for {}",
            doubt.shard,
            doubt.gid,
            milliseconds(doubt.age_ms),
            doubt.waits_for
        );
    }
    text.truncate(text.trim_end().len());
    text
}
