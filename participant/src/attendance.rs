//! Which drivers attend, and which branches are theirs (R15).
//!
//! Purpose: tell the scanner *when* a branch is in doubt, and admission how many prepared slots
//! a home uses (R12).
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
use gavel_protocol::{DriverId, Gid, ShardTag};
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
    /// What the last scan found prepared.
    scanned: HashSet<Gid>,
    /// What was finished while a scan was under way, whose answer may be older than that.
    finished_during_scan: Option<HashSet<Gid>>,
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
        let mut book = self.0.book.lock();
        book.notes.remove(gid);
        book.scanned.remove(gid);
        if let Some(finished) = &mut book.finished_during_scan {
            finished.insert(gid.clone());
        }
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

    /// Branches of `home` that are prepared here or being prepared: the last scan of
    /// `pg_prepared_xacts`, corrected by what this process did since (R12).
    pub fn slots_used(&self, home: ShardTag) -> usize {
        let book = self.0.book.lock();
        let noted = book.notes.keys().filter(|gid| gid.home == home).count();
        let only_scanned = book
            .scanned
            .iter()
            .filter(|gid| gid.home == home && !book.notes.contains_key(*gid))
            .count();
        noted + only_scanned
    }

    /// Resolves when a driver's stream has closed since the last call.
    pub async fn driver_closed(&self) {
        self.0.closed.notified().await;
    }

    /// A scan begins. One at a time.
    pub(crate) fn scan_begins(&self) {
        self.0.book.lock().finished_during_scan = Some(HashSet::new());
    }

    /// A scan has found these gids, or failed.
    pub(crate) fn scan_ends(&self, found: Option<HashSet<Gid>>) {
        let mut book = self.0.book.lock();
        let finished = book.finished_during_scan.take().unwrap_or_default();
        let Some(mut found) = found else { return };
        book.notes
            .retain(|gid, note| found.contains(gid) || note.since.elapsed() < NOTE_KEPT);
        found.retain(|gid| !finished.contains(gid));
        book.scanned = found;
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
    use gavel_protocol::{BatchId, Incarnation};
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
    fn r12_slots_are_what_the_scan_saw_and_what_happened_since() {
        let drivers = Drivers::default();
        drivers.note_prepared(gid(1, 1), driver(1));
        drivers.scan_begins();
        drivers.forget(&gid(1, 1));
        drivers.note_prepared(gid(1, 2), driver(1));
        // The scan looked before the first one was finished, and after the second was prepared.
        let found = HashSet::from([gid(1, 1), gid(1, 2), gid(1, 3), gid(9, 4)]);
        drivers.scan_ends(Some(found));
        assert_eq!(drivers.slots_used(ShardTag(1)), 2);
        assert_eq!(drivers.slots_used(ShardTag(9)), 1);
        drivers.scan_begins();
        drivers.scan_ends(None);
        assert_eq!(drivers.slots_used(ShardTag(1)), 2);
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
