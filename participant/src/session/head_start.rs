//! Head starts: home's work on a batch, done before or while its branches are prepared, and kept
//! open until the votes are in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use gavel_protocol::BatchId;
use gavel_protocol::message::{Decide, HeadStart, HeadStarted, SessionOpen};

use super::{Entry, Session, Sessions};
use crate::crash_point;
use crate::decide::{self, Home, Worked};
use crate::pg::pool::Lease;
use crate::shard::Shard;

impl Sessions {
    /// Does home's work on a batch, and keeps it open.
    pub async fn head_start(&self, shard: &Shard, head_start: HeadStart) -> HeadStarted {
        crash_point!("participant.head_start.received");
        let HeadStart {
            decide,
            driver,
            leave_out,
        } = head_start;
        let not = |detail: &str| HeadStarted::Not {
            detail: detail.to_owned(),
        };
        let Ok(permit) = shard.head_starts.clone().try_acquire_owned() else {
            return not("too many head starts");
        };
        let gid = shard.home_gid(decide.batch);
        let entry = Arc::new(Entry::new(gid.clone(), true));
        let mut session = entry.session.lock().await;
        if !self.enter(&entry) {
            return not("this batch has a session here already");
        }
        let Ok(connection) = shard.decide.get().await else {
            self.0.lock().remove(&decide.batch);
            return not("no connection");
        };
        let open = SessionOpen {
            gid,
            incarnation: decide.incarnation,
            driver,
            isolation: decide.isolation,
        };
        let batch_safe = decide.batch_safe;
        let (connection, worked) = work_ahead(shard, connection, decide, leave_out).await;
        crash_point!("participant.head_start.executed");
        if leave_out {
            crash_point!("participant.head_start.first");
        }
        let (decide, ready) = worked.map(Worked::into_session).unzip();
        *session = Some(Session {
            open,
            connection,
            slot: None,
            sequence: 0,
            last: None,
            batch_safe,
            decide: decide.flatten(),
            _head_start: Some(permit),
        });
        *entry.last_used.lock() = Instant::now();
        let Some(ready) = ready else {
            self.end(&entry, &mut session).await;
            return not("home's work failed");
        };
        ready
    }

    /// Undoes the head start of a batch, if there is one.
    pub async fn end_head_start(&self, batch: BatchId) {
        if let Some(entry) = self.find(batch).filter(|entry| entry.is_head_start) {
            let mut session = entry.session.lock().await;
            self.end(&entry, &mut session).await;
        }
    }

    /// Undoes the head start of a batch if it only waits for votes. A home that works is waited
    /// for instead (R4).
    pub async fn end_idle_head_start(&self, batch: BatchId) {
        if let Some(entry) = self.find(batch).filter(|entry| entry.is_head_start)
            && let Ok(mut session) = entry.session.try_lock()
        {
            self.end(&entry, &mut session).await;
        }
    }
}

/// Everything that a decide asks for but COMMIT; nothing of it counts if it cannot be done.
async fn work_ahead(
    shard: &Shard,
    mut connection: Lease,
    decide: Decide,
    leave_out: bool,
) -> (Lease, Option<Worked>) {
    if leave_out {
        let worked = decide::work_first(&mut connection, shard, decide).await;
        return (connection, worked.ok().flatten());
    }
    let mut home = Home {
        shard,
        decide: &decide,
        connection,
    };
    let executed = home.execute().await;
    let Home { connection, .. } = home;
    let worked = executed.ok().and_then(Result::ok).map(|results| Worked {
        left_out: BTreeMap::new(),
        decide,
        results,
    });
    (connection, worked)
}
