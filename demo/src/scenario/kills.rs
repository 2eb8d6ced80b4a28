//! The three kills, each at a bad moment.
//!
//! A bad moment lasts milliseconds. To hit it, a process is frozen (SIGSTOP), the databases are
//! looked at, and only if the moment is right the blow falls; otherwise the process goes on and
//! is frozen again a little later. What was really hit is looked up and printed.

use std::sync::Arc;
use std::time::Duration;

use gavel_devkit::Role;
use rand::Rng as _;
use serde::Serialize;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::direct::Branch;
use super::show::Show;
use super::stage::Stage;
use super::watch::Watch;

const AIM_LIMIT: Duration = Duration::from_secs(10);
/// What was sent to a server before the freeze is carried out by then.
const SETTLE: Duration = Duration::from_millis(25);
/// How long what was killed stays away.
const DOWN: Duration = Duration::from_millis(1_500);
/// Later than any resolution is promised.
const RESOLVE_LIMIT: Duration = Duration::from_secs(15);
const LISTED_MAX: usize = 5;

/// A shard that is home of few transfers, and therefore mostly prepares.
const PREPARING_SHARD: usize = 2;
const DATABASE_SHARD: usize = 1;

/// What a kill did.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Blow {
    pub(super) victim: String,
    /// Branches that it left prepared.
    pub(super) branches_left: usize,
    /// From the kill until the last of them was resolved, in seconds.
    pub(super) resolved_after_s: f64,
    /// From the kill until the victim was running again, in seconds; none if everything was
    /// resolved without it.
    pub(super) back_after_s: Option<f64>,
    /// What went wrong, if something did.
    pub(super) problems: Vec<String>,
}

pub(super) struct Kills<'a> {
    stage: &'a Stage,
    watch: &'a Watch,
    show: &'a Show,
}

impl<'a> Kills<'a> {
    pub(super) fn new(stage: &'a Stage, watch: &'a Watch, show: &'a Show) -> Self {
        Self { stage, watch, show }
    }

    /// Kills a participant while its shard prepares.
    pub(super) async fn participant(&self) -> anyhow::Result<Blow> {
        let (shard, role) = (PREPARING_SHARD, Role::Participant(PREPARING_SHARD));
        let victim = format!("the participant of {}", self.name(shard));
        self.show.step(
            &format!("Kill 1: {victim}, in the middle of prepares"),
            "A participant stands between Gavel and one database. It dies while it makes halves \
             of transfers ready. Safe, because nothing is done yet: what was not prepared is \
             undone by PostgreSQL itself, and what was prepared waits for its home's decision.",
        );
        let wanted = |branches: &[Branch]| branches.iter().any(|branch| !branch.is_decided());
        let hit = self.aim(role, &[shard], wanted).await?;
        let unprepared = self.stage.direct.open_transactions(shard).await?;
        let killed = Instant::now();
        self.stage.dev.kill(role)?;
        self.describe(&victim, &hit);
        if unprepared > 0 {
            self.show
                .fact(&format!("{unprepared} more were still being worked on."));
        }
        sleep(DOWN).await;
        self.stage.dev.spawn(role, &[])?;
        let back = Some(Instant::now());
        self.show
            .fact("The participant is started again. It looks for what it left behind.");
        self.aftermath(victim, hit, killed, back).await
    }

    /// Kills a PostgreSQL server that holds prepared branches.
    pub(super) async fn database(&self) -> anyhow::Result<Blow> {
        let (shard, role) = (DATABASE_SHARD, Role::Participant(DATABASE_SHARD));
        let victim = format!("the PostgreSQL server of {}", self.name(shard));
        self.show.step(
            &format!("Kill 2: {victim}"),
            "SIGKILL, as if the power had failed. Safe, because a prepared half is on disk \
             before the database promises it: after the restart it is still there, with its locks.",
        );
        let hit = self
            .aim(role, &[shard], |branches| !branches.is_empty())
            .await?;
        let killed = Instant::now();
        let dev = Arc::clone(&self.stage.dev);
        spawn_blocking(move || dev.servers()[shard].kill9()).await??;
        self.stage.dev.resume(role)?;
        self.describe(&victim, &hit);
        sleep(DOWN).await;
        let dev = Arc::clone(&self.stage.dev);
        spawn_blocking(move || dev.servers()[shard].start()).await??;
        let back = Instant::now();
        self.show.fact(&format!(
            "The server is up again {:.1} s after the kill; PostgreSQL has recovered what was on \
             disk.",
            (back - killed).as_secs_f64()
        ));
        self.aftermath(victim, hit, killed, Some(back)).await
    }

    /// Kills the only coordinator between a decision and its being carried out.
    pub(super) async fn coordinator(&self) -> anyhow::Result<Blow> {
        let role = Role::Coordinator(0);
        let victim = "the coordinator".to_owned();
        self.show.step(
            "Kill 3: the coordinator, after a decision",
            "The home has written down \"commit\", but the other database has not been told, and \
             the one who would tell it dies. Safe, because the decision is in the home's \
             database, not in the coordinator: the participants ask there themselves.",
        );
        let wanted = |branches: &[Branch]| branches.iter().any(Branch::is_decided);
        let all: Vec<usize> = (0..self.stage.direct.shards().len()).collect();
        let hit = self.aim(role, &all, wanted).await?;
        let killed = Instant::now();
        self.stage.dev.kill(role)?;
        self.describe(&victim, &hit);
        self.show.fact("No coordinator is running now.");
        self.watch.wait_ended(&hit, RESOLVE_LIMIT).await;
        let blow = self.aftermath(victim, hit, killed, None).await?;
        self.stage.dev.spawn(role, &[])?;
        self.show
            .fact("A new coordinator is started. It has nothing to read: it keeps nothing.");
        Ok(blow)
    }

    /// Freezes a process at a moment that is wanted, and leaves it frozen.
    async fn aim(
        &self,
        role: Role,
        shards: &[usize],
        wanted: impl Fn(&[Branch]) -> bool,
    ) -> anyhow::Result<Vec<Branch>> {
        let deadline = Instant::now() + AIM_LIMIT;
        loop {
            self.stage.dev.pause(role)?;
            sleep(SETTLE).await;
            let branches = self.branches(shards).await?;
            let is_wanted = wanted(&branches);
            if !is_wanted && Instant::now() > deadline {
                self.show
                    .fact("The right moment did not come in 10 s; the blow falls now.");
            }
            if is_wanted || Instant::now() > deadline {
                self.watch.follow(&branches);
                return Ok(branches);
            }
            self.stage.dev.resume(role)?;
            let pause = rand::rng().random_range(5..60);
            sleep(Duration::from_millis(pause)).await;
        }
    }

    async fn branches(&self, shards: &[usize]) -> anyhow::Result<Vec<Branch>> {
        let mut all = Vec::new();
        for shard in shards {
            all.extend(self.stage.direct.branches(*shard).await?);
        }
        Ok(all)
    }

    /// Says what was hit, as it was found on the databases.
    fn describe(&self, victim: &str, hit: &[Branch]) {
        if hit.is_empty() {
            self.show.fact(&format!(
                "Killed {victim}. At that moment nothing was prepared, so nothing was in doubt."
            ));
            return;
        }
        self.show
            .fact(&format!("Killed {victim}. Left prepared: {}.", hit.len()));
        for branch in hit.iter().take(LISTED_MAX) {
            let decision = match branch.decision.as_deref() {
                Some(decision) => format!("has decided: {decision}"),
                None => "has not decided yet".to_owned(),
            };
            self.show.line(&format!(
                "      {}  batch ..{}  prepared; its home {} {decision}",
                self.name(branch.shard),
                branch.label(),
                self.home(branch)
            ));
        }
    }

    /// Waits for the resolution, says how it went, and checks it against the decisions.
    async fn aftermath(
        &self,
        victim: String,
        hit: Vec<Branch>,
        killed: Instant,
        back: Option<Instant>,
    ) -> anyhow::Result<Blow> {
        let all_ended = self.watch.wait_ended(&hit, RESOLVE_LIMIT).await;
        let mut blow = Blow {
            victim,
            branches_left: hit.len(),
            resolved_after_s: 0.0,
            back_after_s: back.map(|back| (back - killed).as_secs_f64()),
            problems: Vec::new(),
        };
        if !all_ended {
            blow.problems.push(format!(
                "branches still prepared after the death of {}",
                blow.victim
            ));
        }
        for (index, branch) in hit.iter().enumerate() {
            let Some(ended) = self.watch.ended(branch) else {
                continue;
            };
            let after = (ended - killed).as_secs_f64();
            blow.resolved_after_s = blow.resolved_after_s.max(after);
            let verdict = self.verdict(branch).await?;
            if index < LISTED_MAX {
                self.show.line(&format!(
                    "      {}  batch ..{}  {} {after:.1} s after the kill",
                    self.name(branch.shard),
                    branch.label(),
                    verdict.as_deref().unwrap_or("against its decision,")
                ));
            }
            if verdict.is_none() {
                blow.problems
                    .push(format!("{} does not follow its decision", branch.gid));
            }
        }
        Ok(blow)
    }

    /// How a branch ended, if it ended as its home decided.
    async fn verdict(&self, branch: &Branch) -> anyhow::Result<Option<String>> {
        let decision = self.stage.direct.decision(&branch.gid).await?;
        let applied = self.stage.direct.is_applied(branch).await?;
        Ok(match (decision.as_deref(), applied) {
            (Some("commit"), true) => Some("committed".to_owned()),
            (Some("abort") | None, false) => Some("rolled back".to_owned()),
            _ => None,
        })
    }

    fn name(&self, shard: usize) -> &str {
        &self.stage.direct.shards()[shard].name
    }

    fn home(&self, branch: &Branch) -> &str {
        let home = self.stage.direct.home(&branch.gid);
        home.map_or("(unknown)", |home| home.name.as_str())
    }
}
