//! Which drivers attend, and which branches are theirs (R15).
//!
//! Purpose: tell the scanner *when* a branch is in doubt.
//!
//! Invariants:
//! - "Closed" means that this process saw the driver's last attendance end. A driver that never
//!   attended here is unknown, and unknown proves nothing.
//! - A branch that has been rolled back here is over: nobody attends to what may still
//!   be prepared under its name, by a message or a PREPARE that was late.
//! - Nothing here decides what happens to a branch, so losing all of it (a restart) is safe.
//! - Bounded: notes are forgotten when their branch is finished, or when scans have not seen it
//!   for [`NOTE_KEPT`]; closed drivers are remembered up to [`CLOSED_MAX`], branches that are over
//!   up to [`OVER_MAX`].
//!
//! Failure model: a coordinator that dies without closing its stream is noticed by the
//! transport's keepalives, or by the branch's age.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gavel_protocol::branch::DriverSeen;
use gavel_protocol::{BatchId, DriverId, Gid, Refusal, RefusalCode};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::api::Attendance;

/// How long a note outlives its branch if nobody forgets it. Longer than a PREPARE takes.
pub const NOTE_KEPT: Duration = Duration::from_secs(60);

/// How many closed drivers are remembered. One coordinator process is one or few drivers.
pub const CLOSED_MAX: usize = 1024;

/// How many branches that are over are remembered: those of minutes, unless hardly anything
/// commits. What is forgotten is resolved as if it had never been known, only later.
pub const OVER_MAX: usize = 16_384;

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
    closed: Recent<DriverId>,
    over: Recent<BatchId>,
    notes: HashMap<Gid, Note>,
}

/// A set that forgets the oldest of its entries when there are too many.
struct Recent<T> {
    entries: HashSet<T>,
    in_order: VecDeque<T>,
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
    ///
    /// # Errors
    /// If the branch is over: it must not be prepared.
    pub fn begin(&self, gid: Gid, driver: DriverId) -> Result<(), Refusal> {
        let since = Instant::now();
        let mut book = self.0.book.lock();
        if book.over.contains(&gid.batch) {
            return Err(Refusal::new(
                RefusalCode::OutOfSequence,
                "the branch was rolled back before this message came",
            ));
        }
        book.notes.insert(gid, Note { driver, since });
        Ok(())
    }

    /// The branch was rolled back; there may have been nothing yet to roll back.
    pub fn end(&self, gid: &Gid) {
        let mut book = self.0.book.lock();
        book.notes.remove(gid);
        book.over.insert(gid.batch, OVER_MAX);
    }

    /// Forgets a branch that is not prepared any more.
    pub fn forget(&self, gid: &Gid) {
        self.0.book.lock().notes.remove(gid);
    }

    /// How many drivers attend.
    pub(crate) fn attending(&self) -> usize {
        self.0.book.lock().attending.len()
    }

    /// What is known of the driver of `gid`.
    pub fn driver_of(&self, gid: &Gid) -> DriverSeen {
        let book = self.0.book.lock();
        if book.over.contains(&gid.batch) {
            return DriverSeen::Closed;
        }
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
        self.closed.insert(driver, CLOSED_MAX);
        true
    }
}

impl<T: Copy + Eq + Hash> Recent<T> {
    fn contains(&self, entry: &T) -> bool {
        self.entries.contains(entry)
    }

    fn insert(&mut self, entry: T, max: usize) {
        if self.entries.insert(entry) {
            self.in_order.push_back(entry);
        }
        if self.in_order.len() > max
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self {
            entries: HashSet::new(),
            in_order: VecDeque::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use gavel_protocol::{Incarnation, ShardTag};
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
        drivers.begin(gid(1, 1), driver(1)).expect("new");
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

    /// A zombie: the message is late, or it is in time and its PREPARE is late.
    #[test]
    fn r15_nobody_attends_to_a_branch_that_is_over() {
        let drivers = Drivers::default();
        let _attends = drivers.attend(driver(1));
        drivers.begin(gid(1, 1), driver(1)).expect("new");
        assert_eq!(drivers.driver_of(&gid(1, 1)), DriverSeen::Attending);
        drivers.end(&gid(1, 1));
        assert_eq!(drivers.driver_of(&gid(1, 1)), DriverSeen::Closed);
        let late = drivers.begin(gid(1, 1), driver(1)).expect_err("over");
        assert_eq!(late.code, RefusalCode::OutOfSequence);
        assert_eq!(drivers.driver_of(&gid(1, 1)), DriverSeen::Closed);
        drivers.begin(gid(1, 2), driver(1)).expect("another");
        assert_eq!(drivers.driver_of(&gid(1, 2)), DriverSeen::Attending);
    }

    #[test]
    fn what_is_over_does_not_pile_up() {
        let drivers = Drivers::default();
        for number in 0..(CLOSED_MAX as u128 + 10) {
            drop(drivers.attend(driver(number)));
        }
        let mut branch = gid(1, 1);
        for unix_ms in 0..(OVER_MAX as u64 + 10) {
            branch.batch = BatchId::mint(unix_ms, [1; 16]);
            drivers.end(&branch);
        }
        let book = drivers.0.book.lock();
        assert_eq!(book.closed.entries.len(), CLOSED_MAX);
        assert_eq!(book.over.entries.len(), OVER_MAX);
        assert_eq!(book.over.in_order.len(), OVER_MAX);
    }
}
