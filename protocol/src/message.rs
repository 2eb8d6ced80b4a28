//! What coordinator and participants say to each other, in the protocol's own types. The wire
//! format is `gavel-wire`'s business.

use crate::digest::{MembersDigest, RequestHash};
use crate::gid::Gid;
use crate::id::{BatchId, DriverId, Txid};
use crate::names::{DeploymentName, Incarnation, Principal, ShardName, ShardTag};
use crate::outcome::{AbortReason, Refusal, StatementResult};
use crate::transaction::{Access, Isolation, Statement};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Who a shard is (R13), as it says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardIdentity {
    /// The installation it belongs to.
    pub deployment: DeploymentName,
    /// Its name.
    pub name: ShardName,
    /// Its number.
    pub tag: ShardTag,
    /// Its life.
    pub incarnation: Incarnation,
}

/// One member's part of a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The transaction.
    pub txid: Txid,
    /// Its content's hash (R8), recorded at home.
    pub request_hash: RequestHash,
    /// Its work on this shard; empty at a home that only decides.
    pub statements: Arc<[Statement]>,
}

/// Prepare a branch: run the members' work, then `PREPARE TRANSACTION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepare {
    /// The branch's name: batch, home and the shard that it is meant for.
    pub gid: Gid,
    /// The shard's life that the coordinator knows (R13).
    pub incarnation: Incarnation,
    /// Whose branch this is, for R15.
    pub driver: DriverId,
    /// Read-only branches end at the vote (R18).
    pub access: Access,
    /// The isolation level.
    pub isolation: Isolation,
    /// Whether the work is plain queries only (R11).
    pub batch_safe: bool,
    /// Members are likely to fail: they are run in chunks at once, instead of all together
    /// first. Only a matter of speed.
    pub in_chunks: bool,
    /// The members, in the batch's order.
    pub members: Vec<Member>,
}

/// What became of one member in one branch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MemberReport {
    /// Its work is part of the branch.
    Executed,
    /// Its own work failed, having seen only the members before it that were executed; it is
    /// not part of the branch.
    Failed(AbortReason),
    /// It ran into a lock, deadlock or the like; it is not part of the branch.
    Refused(Refusal),
    /// It was not run; it is not part of the branch.
    NotRun,
}

/// A participant's answer to [`Prepare`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Vote {
    /// PostgreSQL answered with the tag `PREPARE TRANSACTION`, without warning 01000.
    Yes {
        /// The txids that were executed, in order (R2).
        digest: MembersDigest,
        /// The branch's transaction id on its shard. Only a hint (R1).
        xid: u64,
        /// One entry per member.
        reports: Vec<MemberReport>,
    },
    /// A read-only branch has done its reading and is over (R18).
    ReadOnly {
        /// One entry per member.
        reports: Vec<MemberReport>,
    },
    /// Nothing is prepared, and nothing will be.
    No(NoVote),
    /// No answer, or one that proves nothing: the branch may be prepared, now or later.
    Unknown {
        /// For people.
        detail: String,
    },
}

/// Why nothing is prepared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NoVote {
    /// No member's work could be executed.
    NoneExecuted {
        /// One entry per member, none of them `Executed`.
        reports: Vec<MemberReport>,
    },
    /// The branch failed as a whole, and no member can be blamed: a deferred constraint or a
    /// serialization check at PREPARE (facts 3). With a single member it is that one's failure.
    NoCulprit(MemberFailure),
    /// The shard cannot take the branch now.
    Refused(Refusal),
}

/// How a member failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MemberFailure {
    /// By its own doing: final if it is told.
    Failed(AbortReason),
    /// By circumstance: it may be submitted again.
    Refused(Refusal),
}

/// A vote with what the statements returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrepareAnswer {
    /// The vote.
    pub vote: Vote,
    /// Per member, per statement; empty for members that were not executed.
    pub results: Vec<Vec<StatementResult>>,
}

/// Decide a batch at home: decision row, transaction rows, home's own work, COMMIT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decide {
    /// The key of the decision.
    pub batch: BatchId,
    /// The home's life that is named in the gids; home checks it inside the deciding
    /// transaction (R13).
    pub incarnation: Incarnation,
    /// The shards that prepared a branch.
    pub prepared: Vec<ShardTag>,
    /// Whose transactions these are (R8).
    pub principal: Principal,
    /// The isolation level.
    pub isolation: Isolation,
    /// Whether the work is plain queries only (R11).
    pub batch_safe: bool,
    /// The members that every branch executed, in the batch's order. Home runs exactly these.
    pub members: Vec<Member>,
    /// Members that a branch left out, whose aborts ride with this commit.
    pub failed: Vec<FailedMember>,
}

/// Do a batch's work at home before or while its branches are prepared: everything that
/// [`Decide`] asks for but the COMMIT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadStart {
    /// What will be decided if every branch executes everybody.
    pub decide: Decide,
    /// Whose work it is: when this driver is gone, it is undone.
    pub driver: DriverId,
    /// Members that fail may be left out: no branch has been asked for anything yet, and none
    /// will be before home has answered.
    pub leave_out: bool,
}

/// Home's answer to [`HeadStart`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadStarted {
    /// The work is done and holds its rows; only COMMIT is missing.
    Ready {
        /// The members that are not part of it, by their place; their failures are recorded with
        /// it. If everybody is here, nothing is left of it.
        left_out: BTreeMap<usize, MemberReport>,
        /// Results per statement, for each of the others.
        results: Vec<Vec<StatementResult>>,
    },
    /// Nothing is left of it: decide as if it had never been asked for.
    Not {
        /// For people.
        detail: String,
    },
}

/// A transaction that is to be recorded as aborted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FailedMember {
    /// The transaction.
    pub txid: Txid,
    /// Its content's hash.
    pub request_hash: RequestHash,
    /// Why.
    pub reason: AbortReason,
}

/// Home's answer to [`Decide`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Decided {
    /// The COMMIT answered with the tag `COMMIT`, without warning 01000.
    Committed,
    /// An abort row for this batch has been committed and read back (R5).
    Aborted(WhyAborted),
    /// Only the register knows.
    Unknown {
        /// For people.
        detail: String,
    },
}

/// Why home aborted a batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WhyAborted {
    /// One member failed at home.
    Member {
        /// Which, counted in [`Decide::members`].
        index: usize,
        /// How.
        failure: MemberFailure,
        /// Whether the failure is recorded already: done when it was the only member.
        recorded: bool,
        /// Members that a rehearsal at home has found to fail as well. Nothing of it is told;
        /// they run again alone, so that one batch finds all its failures at once (R2).
        also: Vec<usize>,
    },
    /// Some txids have a recorded outcome already (R8).
    Known(Vec<KnownTxid>),
    /// It failed as a whole (deferred constraint or serialization at COMMIT).
    NoCulprit {
        /// How.
        failure: MemberFailure,
        /// Whether the failure is recorded already: done when there was one member.
        recorded: bool,
    },
    /// The batch cannot be decided now: below the floor, other incarnation, shard busy, or
    /// somebody resolved it first.
    Refused(Refusal),
}

/// A txid that is recorded already.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KnownTxid {
    /// The transaction.
    pub txid: Txid,
    /// What a submit of it hears.
    pub record: Recorded,
}

/// What a repeated submit hears.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Recorded {
    /// The same content of the same principal committed before.
    Committed,
    /// The same content of the same principal was aborted before.
    Aborted(AbortReason),
    /// The txid was used with other content.
    OtherContent,
    /// The txid belongs to somebody else.
    OtherPrincipal,
}

/// Home's answer, with what the statements returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecideAnswer {
    /// The answer.
    pub decided: Decided,
    /// Per member of [`Decide::members`], per statement; empty unless committed.
    pub results: Vec<Vec<StatementResult>>,
}

/// A decision as the register holds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Commit, with the shards that prepared.
    Commit {
        /// [`Decide::prepared`].
        prepared: Vec<ShardTag>,
    },
    /// Abort.
    Abort,
}

/// What home's register says of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RegisterAnswer {
    /// Recorded, and behind a barrier (R6).
    Decision(Decision),
    /// No row, from a question that does not force one.
    NoRow,
    /// Rows of that age have been dropped; nothing can be concluded.
    BelowFloor,
    /// Home was asked, and is in another life than the batch (R13): it will never answer for the
    /// one in which the batch was prepared. Nothing can be concluded, now or later, unless people
    /// bring that life back.
    OtherIncarnation {
        /// For people.
        detail: String,
    },
    /// Home could not be asked: ask again.
    Unreachable {
        /// For people.
        detail: String,
    },
}

/// Which way a prepared branch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FinishKind {
    /// `COMMIT PREPARED`.
    Commit,
    /// `ROLLBACK PREPARED`.
    Rollback,
}

/// Finish a prepared branch. The sender has the decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish {
    /// The branch.
    pub gid: Gid,
    /// Which way.
    pub kind: FinishKind,
}

/// A participant's answer to [`Finish`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Finished {
    /// Commit: the branch is applied (by the tag, or by its branch row, R1).
    /// Rollback: the branch is gone, or there is none now (a late one is the scan's).
    Done,
    /// Somebody else is finishing it, or it waits for replication (55000): look again.
    Busy,
    /// The shard contradicts the decision (R1, R16): recorded as damage.
    Damaged {
        /// For people.
        detail: String,
    },
    /// No answer.
    Unknown {
        /// For people.
        detail: String,
    },
}

/// Record aborts at home, outside any batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordAborts {
    /// The batch in which they failed, if any.
    pub batch: Option<BatchId>,
    /// Home's life.
    pub incarnation: Incarnation,
    /// Whose transactions these are.
    pub principal: Principal,
    /// What to record.
    pub aborts: Vec<FailedMember>,
}

/// Home's answer to [`RecordAborts`]: what is recorded now, which may be an earlier outcome.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RecordAnswer {
    /// One entry per abort.
    Recorded(Vec<Recorded>),
    /// Nothing is known to be recorded.
    Refused(Refusal),
    /// No answer.
    Unknown {
        /// For people.
        detail: String,
    },
}

/// An in-doubt branch, for people and operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InDoubtBranch {
    /// The branch.
    pub gid: Gid,
    /// How long it has been prepared, by its own database's clock, in milliseconds.
    pub age_ms: u64,
    /// What it waits for.
    pub waits_for: String,
}

/// Open an interactive branch on one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionOpen {
    /// The branch's name. An interactive transaction is a batch of one.
    pub gid: Gid,
    /// The shard's life that the coordinator knows.
    pub incarnation: Incarnation,
    /// Whose branch this is.
    pub driver: DriverId,
    /// The isolation level.
    pub isolation: Isolation,
}

impl SessionOpen {
    /// Whether this is home's own branch: it has no branch row, since the decision's rows come
    /// with its commit.
    pub fn is_home(&self) -> bool {
        self.gid.shard == self.gid.home
    }
}

/// Run one statement in an interactive branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionExecute {
    /// The transaction's batch, which names the session on every shard.
    pub batch: BatchId,
    /// Counts the statements on this shard from 0. A gap is refused, a repeat of the last one
    /// gets the stored answer.
    pub sequence: u64,
    /// What to run.
    pub statement: Statement,
    /// With the first statement on a shard: opens the branch in the same exchange.
    pub open: Option<SessionOpen>,
}

/// What a statement of an interactive branch came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Executed {
    /// It ran, and its guard held.
    Done(StatementResult),
    /// It failed; the transaction can only be rolled back now.
    Failed(MemberFailure),
    /// The session is unknown here, or lost: it never continues in a new one.
    Lost(Refusal),
}

/// The answer to a step of an interactive branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionStep {
    /// It is done.
    Done,
    /// It is not, and the branch is over.
    Failed(MemberFailure),
    /// The session is unknown here, or lost.
    Lost(Refusal),
}

/// What home says about a txid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatusAnswer {
    /// What is recorded, behind a barrier (R6).
    Status(crate::outcome::Status),
    /// It belongs to another principal.
    OtherPrincipal,
    /// Home could not be asked.
    Unreachable {
        /// For people.
        detail: String,
    },
}

/// A branch row, for the auditor (R16).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchRow {
    /// The batch.
    pub batch: BatchId,
    /// Where its decision is.
    pub home: ShardTag,
    /// In which life of that home.
    pub home_incarnation: Incarnation,
}

/// A decision row, for the auditor (R16).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionRow {
    /// The batch.
    pub batch: BatchId,
    /// What was decided.
    pub decision: Decision,
}

/// How far retention has gone on a shard (R14). Each value is the lowest time, in Unix
/// milliseconds, that still counts; 0 means never moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Decide, submit and abort are refused below this.
    pub floor_ms: u64,
    /// Everything decided below this is known to be applied everywhere.
    pub verified_floor_ms: u64,
    /// Branch rows below this have been dropped.
    pub branch_floor_ms: u64,
    /// Decisions below this have been dropped.
    pub dropped_floor_ms: u64,
}
