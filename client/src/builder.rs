//! Declared transactions: everything a transaction does, said in one request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gavel_protocol::{
    Access, Ack, BranchWork, Guard, Isolation, ShardTag, Statement, Transaction, Txid,
};

use crate::error::{BuildError, UnknownShard};
use crate::gavel::Gavel;
use crate::outcome::Outcome;
use crate::param::Param;
use crate::retry::Submission;

/// A transaction in the making; see [`Gavel::transaction`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens before `submit`"]
pub struct TransactionBuilder {
    gavel: Gavel,
    branches: BTreeMap<String, Branch>,
    current: Option<String>,
    home: Option<String>,
    txid: Option<Txid>,
    was_sent_before: bool,
    traceparent: Option<Arc<str>>,
    isolation: Isolation,
    ack: Ack,
    deadline: Option<Duration>,
    /// The first mistake; told at the end, so that the chain stays a chain.
    mistake: Option<BuildError>,
}

#[derive(Debug, Clone)]
struct Branch {
    access: Access,
    statements: Vec<Statement>,
}

impl TransactionBuilder {
    pub(crate) fn new(gavel: Gavel) -> Self {
        Self {
            gavel,
            branches: BTreeMap::new(),
            current: None,
            home: None,
            txid: None,
            was_sent_before: false,
            traceparent: None,
            isolation: Isolation::default(),
            ack: Ack::default(),
            deadline: None,
            mistake: None,
        }
    }

    /// The statements that follow run on this shard. May be called again for the same shard.
    pub fn on(self, shard: &str) -> Self {
        self.switch_to(shard, Access::ReadWrite)
    }

    /// The statements that follow run on this shard and only read: the branch is never
    /// prepared, and costs no flush (R18).
    pub fn read_only(self, shard: &str) -> Self {
        self.switch_to(shard, Access::ReadOnly)
    }

    fn switch_to(mut self, shard: &str, access: Access) -> Self {
        let branch = self.branches.entry(shard.to_owned()).or_insert(Branch {
            access,
            statements: Vec::new(),
        });
        if branch.access != access {
            self.remember(BuildError::MixedAccess(shard.to_owned()));
        }
        self.current = Some(shard.to_owned());
        self
    }

    /// Adds a statement, with parameters for `$1`, `$2`, …; see [`crate::params!`].
    pub fn execute(mut self, sql: &str, params: Vec<Param>) -> Self {
        let statement = Statement {
            sql: sql.into(),
            params: params.into_iter().map(|param| param.0).collect(),
            guard: None,
        };
        match self.current_branch() {
            Some(branch) => branch.statements.push(statement),
            None => self.remember(BuildError::NoShard),
        }
        self
    }

    /// Adds a statement that returns rows; the same as [`Self::execute`], for the reader.
    pub fn query(self, sql: &str, params: Vec<Param>) -> Self {
        self.execute(sql, params)
    }

    /// Guards the last statement: unless it affects or returns exactly this many rows, the
    /// whole transaction aborts.
    pub fn expect_rows(self, rows: u64) -> Self {
        self.guarded(Guard::RowsExactly(rows))
    }

    /// Guards the last statement: with fewer rows than this, the whole transaction aborts.
    pub fn expect_rows_at_least(self, rows: u64) -> Self {
        self.guarded(Guard::RowsAtLeast(rows))
    }

    fn guarded(mut self, guard: Guard) -> Self {
        let last = self.current_branch().and_then(|b| b.statements.last_mut());
        match last {
            Some(statement) => statement.guard = Some(guard),
            None => self.remember(BuildError::NoStatement),
        }
        self
    }

    /// When to be answered. Default [`Ack::Applied`].
    pub fn ack(mut self, ack: Ack) -> Self {
        self.ack = ack;
        self
    }

    /// The isolation level on each shard. Levels other than the default never share a batch.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// The shard that records the outcome. Default: of the shards that are written, the one
    /// with the lowest tag. One home per set of shards means one lane per set of shards, so
    /// that transactions over the same shards share batches, and take locks in one order.
    pub fn home(mut self, shard: &str) -> Self {
        self.home = Some(shard.to_owned());
        self
    }

    /// The txid to use, from [`Gavel::mint`]. A caller who stores it first can ask or submit
    /// again after a crash. Without it, one is minted here.
    pub fn txid(mut self, txid: Txid) -> Self {
        self.txid = Some(txid);
        self
    }

    /// Says that this txid may have been submitted before, by this process or by one that
    /// crashed: it is looked up before it is run. Only a matter of speed.
    pub fn sent_before(mut self) -> Self {
        self.was_sent_before = true;
        self
    }

    /// The caller's span, as the W3C's Trace Context writes it in the header `traceparent`. If it
    /// is sampled, coordinators and participants that have a collector add theirs below it.
    pub fn traceparent(mut self, traceparent: &str) -> Self {
        self.traceparent = Some(traceparent.into());
        self
    }

    /// How long [`Self::submit`] may take in all, retries included.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Submits the transaction and waits for its outcome. Refusals that can pass and lost
    /// answers are tried again, always with the same txid, until the deadline.
    ///
    /// Dropping the future does not undo a transaction that is under way.
    ///
    /// # Errors
    /// The transaction cannot be sent as it stands. Whatever happens to one that was sent is an
    /// [`Outcome`].
    pub async fn submit(self) -> Result<Outcome, BuildError> {
        let gavel = self.gavel.clone();
        let named = self.branches.keys().chain(&self.home);
        gavel.look_for(named.map(String::as_str)).await;
        let submission = self.into_submission()?;
        Ok(gavel.run(submission).await)
    }

    fn into_submission(self) -> Result<Submission, BuildError> {
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        let branches = branches(&self.gavel, self.branches)?;
        let default_home = default_home(&branches).ok_or(BuildError::Empty)?;
        let wanted_home = self.home.map(|name| self.gavel.tag(&name)).transpose()?;
        let txid = match (self.txid, wanted_home) {
            (None, wanted) => self.gavel.mint_at(wanted.unwrap_or(default_home)),
            (Some(txid), Some(wanted)) if wanted != txid.home() => {
                let found = txid.home();
                return Err(BuildError::OtherHome {
                    txid,
                    found,
                    wanted,
                });
            }
            (Some(txid), _) => txid,
        };
        let mut transaction = Transaction::new(branches);
        transaction.isolation = self.isolation;
        Ok(Submission {
            txid,
            transaction: Arc::new(transaction),
            ack: self.ack,
            was_sent_before: self.was_sent_before,
            traceparent: self.traceparent,
            deadline: self.deadline,
        })
    }

    fn current_branch(&mut self) -> Option<&mut Branch> {
        self.branches.get_mut(self.current.as_ref()?)
    }

    fn remember(&mut self, mistake: BuildError) {
        self.mistake.get_or_insert(mistake);
    }
}

/// The work per shard. A shard that was named and then given nothing to do takes no part.
fn branches(
    gavel: &Gavel,
    named: BTreeMap<String, Branch>,
) -> Result<Vec<BranchWork>, UnknownShard> {
    let busy = named.into_iter().filter(|(_, b)| !b.statements.is_empty());
    let tagged = busy.map(|(name, branch)| {
        Ok(BranchWork {
            shard: gavel.tag(&name)?,
            access: branch.access,
            statements: branch.statements.into(),
        })
    });
    tagged.collect()
}

/// Of the shards that are written, the one with the lowest tag; without any, of all.
fn default_home(branches: &[BranchWork]) -> Option<ShardTag> {
    let writing = branches.iter().filter(|b| b.access == Access::ReadWrite);
    let lowest_writing = writing.map(|branch| branch.shard).min();
    lowest_writing.or_else(|| branches.iter().map(|branch| branch.shard).min())
}
