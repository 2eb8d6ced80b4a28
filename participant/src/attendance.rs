//! Which drivers attend, and which branches are theirs (R15).
//!
//! Purpose: tell the scanner *when* a branch is in doubt.
//!
//! Invariants:
//! - "Closed" means that this process saw the driver's last attendance end. A driver that never
//!   attended here is unknown, and unknown proves nothing.
//! - Nothing here decides what happens to a branch, so losing all of it (a restart) is safe.
//! - Bounded: notes are forgotten when their branch is finished, or when scans have not seen it
//!   for [`NOTE_KEPT`]; closed drivers are remembered up to [`CLOSED_MAX`].
//!
//! Failure model: a coordinator that dies without closing its stream is noticed by the
//! transport's keepalives, or by the branch's age.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gavel_protocol::branch::DriverSeen;
use gavel_protocol::{DriverId, Gid};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::api::Attendance;

/// How long a note outlives its branch if nobody forgets it. Longer than a PREPARE takes.
pub const NOTE_KEPT: Duration = Duration::from_secs(60);

/// How many closed drivers are remembered. One coordinator process is one or few drivers.
pub const CLOSED_MAX: usize = 1024;

/// The attendance book of one participant. Cheap to clone.
#[derive(Clone, Default)]
pub struct Drivers(Arc<Shared>);

#[derive(Default)]
struct Shared {
    book: Mutex<Book>,
    closed: Notify,
    stopped: CancellationToken,
}

#[derive(Default)]
struct Book {
    attending: HashMap<DriverId, usize>,
    closed: HashSet<DriverId>,
    closed_in_order: VecDeque<DriverId>,
    notes: HashMap<Gid, Note>,
}

struct Note {
    driver: DriverId,
    since: Instant,
}

impl Drivers {
    /// Announces a driver. It attends until the last result for it is dropped.
    pub fn attend(&self, driver: DriverId) -> Arc<dyn Attendance> {
        *self.0.book.lock().attending.entry(driver).or_insert(0) += 1;
        Arc::new(LocalAttendance {
            driver,
            shared: self.0.clone(),
        })
    }

    /// Notes whose branch `gid` is. Call it before PREPARE is sent, so that no scan sees the gid
    /// unnoted.
    pub fn note_prepared(&self, gid: Gid, driver: DriverId) {
        let since = Instant::now();
        self.0.book.lock().notes.insert(gid, Note { driver, since });
    }

    /// Forgets a branch that is not prepared (any more).
    pub fn forget(&self, gid: &Gid) {
        self.0.book.lock().notes.remove(gid);
    }

    /// What is known of the driver of `gid`.
    pub fn driver_of(&self, gid: &Gid) -> DriverSeen {
        let book = self.0.book.lock();
        match book.notes.get(gid) {
            None => DriverSeen::Unknown,
            Some(note) if book.attending.contains_key(&note.driver) => DriverSeen::Attending,
            Some(note) if book.closed.contains(&note.driver) => DriverSeen::Closed,
            Some(_) => DriverSeen::Unknown,
        }
    }

    /// Resolves when a driver's stream has closed since the last call.
    pub async fn driver_closed(&self) {
        self.0.closed.notified().await;
    }

    /// Drops notes of branches that are gone. `found` is what a scan found prepared.
    pub(crate) fn prune(&self, found: &HashSet<Gid>) {
        self.0
            .book
            .lock()
            .notes
            .retain(|gid, note| found.contains(gid) || note.since.elapsed() < NOTE_KEPT);
    }

    /// Tells every driver that it is not attended to any more, for a shutdown.
    pub fn stop(&self) {
        self.0.stopped.cancel();
    }
}

struct LocalAttendance {
    driver: DriverId,
    shared: Arc<Shared>,
}

impl Attendance for LocalAttendance {
    fn lost(&self) -> WaitForCancellationFutureOwned {
        self.shared.stopped.clone().cancelled_owned()
    }
}

impl Drop for LocalAttendance {
    fn drop(&mut self) {
        let mut book = self.shared.book.lock();
        if book.leave(self.driver) {
            drop(book);
            self.shared.closed.notify_one();
        }
    }
}

impl Book {
    /// One attendance less; true if it was the driver's last.
    fn leave(&mut self, driver: DriverId) -> bool {
        let Some(count) = self.attending.get_mut(&driver) else {
            return false;
        };
        *count -= 1;
        if *count > 0 {
            return false;
        }
        self.attending.remove(&driver);
        if self.closed.insert(driver) {
            self.closed_in_order.push_back(driver);
        }
        if self.closed_in_order.len() > CLOSED_MAX
            && let Some(oldest) = self.closed_in_order.pop_front()
        {
            self.closed.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use gavel_protocol::{BatchId, Incarnation, ShardTag};
    use uuid::Uuid;

    use super::*;

    fn gid(home: u16, random: u8) -> Gid {
        Gid {
            deployment: "bank".parse().expect("a name"),
            home: ShardTag(home),
            home_incarnation: Incarnation(1),
            batch: BatchId::mint(1, [random; 16]),
            shard: ShardTag(2),
        }
    }

    fn driver(number: u128) -> DriverId {
        DriverId(Uuid::from_u128(number))
    }

    #[test]
    fn r15_a_driver_is_closed_only_when_its_last_attendance_ends() {
        let drivers = Drivers::default();
        drivers.note_prepared(gid(1, 1), driver(1));
        assert_eq!(drivers.driver_of(&gid(1, 1)), DriverSeen::Unknown);
        let first = drivers.attend(driver(1));
        let second = drivers.attend(driver(1));
        drop(first);
        assert_eq!(drivers.driver_of(&gid(1, 1)), DriverSeen::Attending);
        drop(second);
        assert_eq!(drivers.driver_of(&gid(1, 1)), DriverSeen::Closed);
        assert_eq!(drivers.driver_of(&gid(1, 2)), DriverSeen::Unknown);
        let _again = drivers.attend(driver(1));
        assert_eq!(drivers.driver_of(&gid(1, 1)), DriverSeen::Attending);
    }

    #[test]
    fn closed_drivers_do_not_pile_up() {
        let drivers = Drivers::default();
        for number in 0..(CLOSED_MAX as u128 + 10) {
            drop(drivers.attend(driver(number)));
        }
        assert_eq!(drivers.0.book.lock().closed.len(), CLOSED_MAX);
    }
}
