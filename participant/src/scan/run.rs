//! The scanner's loop: scans, feeds what it saw to one state machine per branch, and carries the
//! effects out as tasks that report back. The loop itself never waits for anybody.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gavel_protocol::branch::{Alarm, Branch, DriverSeen, Effect, Event, State, Step};
use gavel_protocol::message::{Finish, FinishKind, Finished, RegisterAnswer};
use gavel_protocol::recovery::DamageKind;
use gavel_protocol::{Gid, ShardTag};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::{Inner, Prepared, backoff, prepared};
use crate::crash_point;
use crate::damage::{self, Damage};
use crate::service_pool::ServiceError;

/// Questions under way to one home. Few, because each may hold one of its connections while it
/// waits for a decide in flight.
const QUESTIONS_PER_HOME: usize = 4;

/// Branches finished in one go.
const FINISHED_TOGETHER: usize = 64;

/// By the database's clock a branch is in doubt when it is this many times `in_doubt_after` old.
const OLD_BY_DATABASE: u32 = 10;

/// What a task reports.
enum Report {
    Scan(Result<Vec<Prepared>, ServiceError>),
    Branch(Gid, Event),
    Finished(Vec<(Gid, Finished)>),
    Nothing,
}

struct Tracked {
    branch: Branch,
    first_seen: Instant,
    /// Why it was resolved, for people.
    cause: &'static str,
    /// The last answer that did not help.
    detail: String,
}

struct Run {
    inner: Arc<Inner>,
    branches: HashMap<Gid, Tracked>,
    tasks: JoinSet<Report>,
    questions: HashMap<ShardTag, Arc<Semaphore>>,
    to_finish: Vec<Finish>,
    finishing: bool,
    scanning: bool,
    /// Something happened during the scan that it may have missed.
    scan_again: bool,
    /// gids that were complained about already.
    complained: HashSet<String>,
    database_down: bool,
}

/// Scans until the task is aborted.
pub(super) async fn run(inner: Arc<Inner>) {
    let period = Duration::from_millis(inner.limits.scan_interval_ms);
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut run = Run::new(inner.clone());
    loop {
        tokio::select! {
            _ = interval.tick() => run.scan(),
            () = inner.parts.drivers.driver_closed() => run.scan(),
            () = inner.wake.notified() => run.scan(),
            Some(report) = run.tasks.join_next(), if !run.tasks.is_empty() => match report {
                Ok(report) => run.on_report(report),
                Err(error) => tracing::error!(%error, "a task of the scan failed"),
            },
        }
    }
}

impl Run {
    fn new(inner: Arc<Inner>) -> Self {
        Self {
            inner,
            branches: HashMap::new(),
            tasks: JoinSet::new(),
            questions: HashMap::new(),
            to_finish: Vec::new(),
            finishing: false,
            scanning: false,
            scan_again: false,
            complained: HashSet::new(),
            database_down: false,
        }
    }

    fn scan(&mut self) {
        if self.scanning {
            self.scan_again = true;
            return;
        }
        self.scanning = true;
        let pool = self.inner.parts.pool.clone();
        self.tasks
            .spawn(async move { Report::Scan(prepared(&pool).await) });
    }

    fn on_report(&mut self, report: Report) {
        match report {
            Report::Scan(found) => self.on_scan(found),
            Report::Branch(gid, event) => self.feed(&gid, event),
            Report::Finished(answers) => {
                self.finishing = false;
                for (gid, finished) in answers {
                    self.feed(&gid, Event::Finished(finished));
                }
                self.finish_some();
            }
            Report::Nothing => {}
        }
    }

    fn on_scan(&mut self, found: Result<Vec<Prepared>, ServiceError>) {
        self.scanning = false;
        match found {
            Ok(found) => {
                self.database_down = false;
                self.take_over(found);
            }
            Err(error) if self.database_down => {
                tracing::debug!(detail = error.detail(), "the scan failed again");
            }
            Err(error) => {
                self.database_down = true;
                tracing::warn!(
                    detail = error.detail(),
                    "the scan failed; it will be repeated"
                );
            }
        }
        if std::mem::take(&mut self.scan_again) {
            self.scan();
        }
    }

    fn take_over(&mut self, found: Vec<Prepared>) {
        let found: HashMap<Gid, Duration> = found
            .into_iter()
            .filter_map(|each| Some((self.ours(&each.gid)?, each.age)))
            .collect();
        let names: HashSet<Gid> = found.keys().cloned().collect();
        let mut per_home: HashMap<ShardTag, usize> = HashMap::new();
        for gid in &names {
            *per_home.entry(gid.home).or_default() += 1;
        }
        self.inner.parts.slots.note_scan(per_home);
        self.inner.parts.drivers.prune(&names);
        let gone: Vec<Gid> = self
            .branches
            .keys()
            .filter(|gid| !names.contains(*gid))
            .cloned()
            .collect();
        for gid in gone {
            self.feed(&gid, Event::Gone);
        }
        let oldest = found.values().max().copied();
        for (gid, age) in found {
            self.see(gid, age);
        }
        self.measure(names.len(), oldest);
    }

    fn measure(&self, prepared: usize, oldest: Option<Duration>) {
        let states = || self.branches.values().map(|each| each.branch.state());
        let in_doubt = states().filter(|state| {
            let is_watched = matches!(
                state,
                State::New | State::Watched(DriverSeen::Attending) | State::Over
            );
            !is_watched
        });
        let stuck = states().filter(|state| *state == State::Stuck);
        let meters = &self.inner.parts.meters;
        meters.scanned.prepared.set(prepared as f64);
        meters.scanned.in_doubt.set(in_doubt.count() as f64);
        meters.scanned.stuck.set(stuck.count() as f64);
        meters.scanned.oldest(oldest);
        meters.scan_succeeded.now();
    }

    /// Parses a gid that has our prefix. What is not ours after all is left alone.
    fn ours(&mut self, name: &str) -> Option<Gid> {
        match name.parse::<Gid>() {
            Ok(gid) if self.inner.is_ours(&gid) => return Some(gid),
            Ok(_) | Err(_) => {}
        }
        if self.complained.insert(name.to_owned()) {
            let gid = name;
            tracing::error!(
                gid,
                "a prepared transaction has our prefix, but is not this shard's: Gavel does not touch it"
            );
        }
        None
    }

    fn see(&mut self, gid: Gid, age: Duration) {
        let shard = self.inner.parts.identity.tag;
        let tracked = self.branches.entry(gid.clone()).or_insert_with(|| Tracked {
            branch: Branch::new(shard),
            first_seen: Instant::now(),
            cause: "",
            detail: String::new(),
        });
        let seen_for = tracked.first_seen.elapsed();
        let in_doubt_after = Duration::from_millis(self.inner.limits.in_doubt_after_ms);
        let driver = self.inner.parts.drivers.driver_of(&gid);
        self.feed(&gid, Event::Seen(driver));
        if seen_for >= in_doubt_after {
            self.feed(&gid, Event::PassedInDoubtAfter);
        }
        if age >= in_doubt_after * OLD_BY_DATABASE {
            self.feed(&gid, Event::OldByDatabaseClock);
        }
    }

    fn feed(&mut self, gid: &Gid, event: Event) {
        let Some(tracked) = self.branches.get_mut(gid) else {
            return;
        };
        if matches!(tracked.branch.state(), State::New | State::Watched(_)) {
            tracked.cause = cause(&event);
        }
        if let Some(detail) = detail(&event) {
            tracked.detail = detail;
        }
        let before = tracked.branch.state();
        let is_done = event == Event::Finished(Finished::Done);
        let effects = tracked.branch.on_event(event);
        let text = waits_for(gid, tracked);
        self.inner.waits_for.lock().insert(gid.clone(), text);
        if let State::Applying { kind, .. } = before
            && is_done
        {
            if kind == FinishKind::Rollback {
                self.inner.parts.drivers.end(gid);
            }
            tracing::info!(%gid, cause = tracked.cause, action = ?kind, "resolved");
            self.inner.parts.meters.resolved(tracked.cause, kind);
        }
        for effect in effects {
            self.carry_out(gid, effect);
        }
    }

    fn carry_out(&mut self, gid: &Gid, effect: Effect) {
        match effect {
            Effect::AskHome => self.ask(gid.clone()),
            Effect::Apply(kind) => {
                self.to_finish.push(Finish {
                    gid: gid.clone(),
                    kind,
                });
                self.finish_some();
            }
            Effect::Alarm(alarm) => raise(gid, alarm),
            Effect::Damage(kind) => self.record_damage(gid, kind),
            Effect::RetryAfter { attempt } => {
                let pause = backoff::pause(&self.inner.limits, attempt);
                let gid = gid.clone();
                self.tasks.spawn(async move {
                    tokio::time::sleep(pause).await;
                    Report::Branch(gid, Event::RetryDue)
                });
            }
            Effect::Forget => {
                self.branches.remove(gid);
                self.inner.waits_for.lock().remove(gid);
                self.inner.parts.drivers.forget(gid);
            }
        }
    }

    fn ask(&mut self, gid: Gid) {
        let limit = self
            .questions
            .entry(gid.home)
            .or_insert_with(|| Arc::new(Semaphore::new(QUESTIONS_PER_HOME)))
            .clone();
        let inner = self.inner.clone();
        self.tasks.spawn(async move {
            let _turn = limit.acquire_owned().await;
            crash_point!("participant.scan.asking");
            let answer = inner.ask_home(&gid).await;
            crash_point!("participant.scan.answered");
            Report::Branch(gid, Event::Register(answer))
        });
    }

    fn finish_some(&mut self) {
        if self.finishing || self.to_finish.is_empty() {
            return;
        }
        self.finishing = true;
        let count = self.to_finish.len().min(FINISHED_TOGETHER);
        let branches: Vec<Finish> = self.to_finish.drain(..count).collect();
        let inner = self.inner.clone();
        self.tasks.spawn(async move {
            let gids: Vec<Gid> = branches.iter().map(|branch| branch.gid.clone()).collect();
            crash_point!("participant.scan.finishing");
            // Dying here: some are finished; the next scan finds the others.
            let answers = inner.finish(branches).await;
            crash_point!("participant.scan.finished");
            Report::Finished(gids.into_iter().zip(answers).collect())
        });
    }

    fn record_damage(&mut self, gid: &Gid, kind: DamageKind) {
        let detail = self.branches.get(gid).map(|tracked| tracked.detail.clone());
        let damage = Damage {
            batch: gid.batch,
            gid: Some(gid.clone()),
            kind,
            detail: detail.unwrap_or_default(),
        };
        let (pool, meters) = (
            self.inner.parts.pool.clone(),
            self.inner.parts.meters.clone(),
        );
        self.tasks.spawn(async move {
            match damage::record(&pool, &damage).await {
                Ok(true) => meters.damaged(damage.kind),
                Ok(false) => {}
                Err(error) => tracing::error!(
                    ?damage,
                    detail = error.detail(),
                    "damage could not be recorded"
                ),
            }
            Report::Nothing
        });
    }
}

fn raise(gid: &Gid, alarm: Alarm) {
    match alarm {
        Alarm::CommitOmitsShard => tracing::error!(
            %gid,
            "home committed the batch without this shard, whose branch is rolled back"
        ),
        Alarm::BelowFloor => tracing::error!(
            %gid,
            "the decision of this branch is not kept any more: an operator must end it"
        ),
    }
}

fn cause(event: &Event) -> &'static str {
    match event {
        Event::Seen(DriverSeen::Closed) | Event::DriverClosed => "its driver's stream closed",
        Event::PassedInDoubtAfter => "seen for longer than in_doubt_after",
        Event::OldByDatabaseClock => "old by the database's clock",
        Event::OperatorAsks => "an operator asked",
        Event::Seen(DriverSeen::Attending | DriverSeen::Unknown)
        | Event::Register(_)
        | Event::Finished(_)
        | Event::RetryDue
        | Event::Gone => "",
    }
}

fn detail(event: &Event) -> Option<String> {
    match event {
        Event::Register(
            RegisterAnswer::OtherIncarnation { detail } | RegisterAnswer::Unreachable { detail },
        )
        | Event::Finished(Finished::Unknown { detail } | Finished::Damaged { detail }) => {
            Some(detail.clone())
        }
        Event::Finished(Finished::Busy) => Some("being finished or replicated".to_owned()),
        Event::Register(RegisterAnswer::NoRow) => Some("no decision yet".to_owned()),
        Event::Register(RegisterAnswer::Decision(_) | RegisterAnswer::BelowFloor)
        | Event::Finished(Finished::Done)
        | Event::Seen(_)
        | Event::DriverClosed
        | Event::PassedInDoubtAfter
        | Event::OldByDatabaseClock
        | Event::OperatorAsks
        | Event::RetryDue
        | Event::Gone => None,
    }
}

fn waits_for(gid: &Gid, tracked: &Tracked) -> String {
    let (home, detail) = (gid.home, &tracked.detail);
    match tracked.branch.state() {
        State::New | State::Watched(DriverSeen::Attending) => "its driver".to_owned(),
        State::Watched(DriverSeen::Unknown | DriverSeen::Closed) => {
            "a driver that is not known here, for a while".to_owned()
        }
        State::Asking { .. } if detail.is_empty() => format!("the decision of home {home}"),
        State::Asking { .. }
        | State::Pausing {
            next: Step::Ask, ..
        } => format!("the decision of home {home}: {detail}"),
        State::Applying { kind, .. }
        | State::Pausing {
            next: Step::Apply(kind),
            ..
        } => {
            let verb = match kind {
                FinishKind::Commit => "committed",
                FinishKind::Rollback => "rolled back",
            };
            format!("this shard, to be {verb} {detail}")
                .trim_end()
                .to_owned()
        }
        State::Stuck => "an operator: its decision is not kept any more".to_owned(),
        State::Over => "nothing".to_owned(),
    }
}
