//! Holes: rules switched off, and the classic bugs of two-phase commit, one at a time.
//!
//! A hole is made in the world, around the core or in what shards and participants do; nothing of
//! it can be compiled into a service. Each must be found by the checks: a checker is worth what it
//! has been seen to find.

/// Defines the holes with their spelling on the command line.
macro_rules! holes {
    ($($(#[doc = $doc:literal])+ $hole:ident = $text:literal,)+) => {
        /// A rule that is switched off, or a bug that is planted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Hole {
            $($(#[doc = $doc])+ $hole,)+
        }

        impl Hole {
            /// Every hole.
            pub const ALL: &[Self] = &[$(Self::$hole,)+];

            /// The spelling on the command line.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$hole => $text,)+ }
            }

            /// What it does.
            pub fn description(self) -> &'static str {
                match self { $(Self::$hole => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

holes! {
    /// R1: a branch does not insert its row first, so a late duplicate runs again.
    NoBranchRow = "r1-no-branch-row",
    /// R2: votes are not compared; home runs the set of the first vote.
    UnequalSets = "r2-unequal-sets",
    /// R2: what home did with everybody is committed although a branch has left somebody out.
    HeadStartForSome = "r2-head-start-for-some",
    /// R3: PREPARE is sent in one pipeline with the work; guards are not looked at.
    BlindPipeline = "r3-blind-pipeline",
    /// R4: home inserts its rows after its work, with ON CONFLICT DO NOTHING.
    RowsLast = "r4-rows-last",
    /// R5: an unanswered decide counts as aborted.
    UnknownIsAborted = "r5-unknown-is-aborted",
    /// R6: what can be read is acted on without a barrier.
    NoBarrier = "r6-no-barrier",
    /// R7: the resolver inserts and reads in one statement, with the snapshot of before.
    OldSnapshot = "r7-old-snapshot",
    /// R8: nobody looks whether a txid has an outcome already.
    NoTransactionRow = "r8-no-transaction-row",
    /// R8: a txid without a row is told as aborted.
    NoneYetIsAborted = "r8-none-yet-is-aborted",
    /// R9: each coordinator's configuration chooses the home, not the txid.
    HomeByConfiguration = "r9-home-by-configuration",
    /// R10: a member's failure is told although it saw work that did not commit.
    TellsInCompany = "r10-tells-in-company",
    /// R11: members that change settings share batches.
    SharedSettings = "r11-shared-settings",
    /// R11: `synchronous_commit` is not pinned before COMMIT.
    Unpinned = "r11-unpinned",
    /// R12: a home may fill every prepared slot of a shard.
    NoQuota = "r12-no-quota",
    /// R12: a lane prepares the next batch behind an unresolved one.
    Overtaking = "r12-overtaking",
    /// R13: incarnations are not compared.
    AnyIncarnation = "r13-any-incarnation",
    /// R14: decisions are dropped without looking whether they are applied.
    DropUnverified = "r14-drop-unverified",
    /// R14: there is no floor under submissions: a txid whose row was dropped runs again.
    NoFloor = "r14-no-floor",
    /// R15: a driver that attends is not left alone.
    NobodyAttends = "r15-nobody-attends",
    /// R16: nobody compares branch rows with decisions.
    NoAuditor = "r16-no-auditor",
    /// R17: nobody scans.
    NobodyScans = "r17-nobody-scans",
    /// R18: branches that only read are prepared like others.
    ReadersPrepare = "r18-readers-prepare",
    /// 42704, "does not exist", counts as success.
    MissingIsDone = "missing-is-done",
    /// The tag of PREPARE is ignored: ROLLBACK passes for a yes.
    TagIgnored = "tag-ignored",
    /// COMMIT PREPARED is sent together with the decide.
    CommitBeforeDecision = "commit-before-decision",
    /// A resolver reads, and does not write before.
    ReadsWithoutWriting = "reads-without-writing",
    /// A client retries under a new txid.
    NewTxid = "new-txid",
    /// An answer that did not come is told as aborted.
    UnknownIsToldAborted = "unknown-is-told-aborted",
    /// `committed` is told when all votes are in.
    ToldBeforeDecision = "told-before-decision",
    /// COMMIT with warning 01000 counts as committed.
    WarningIgnored = "warning-ignored",
    /// The scan finishes every transaction that is prepared, whoever made it.
    TouchesForeign = "touches-foreign",
    /// A vote that did not come counts as a yes.
    SilenceIsYes = "silence-is-yes",
}
