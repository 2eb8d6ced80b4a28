//! Every limit that Gavel has, with its reason. One type, used by every service; the
//! configuration file's `[limits]` table is this struct.

use serde::{Deserialize, Serialize};

/// All limits. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    // ---- one transaction ----
    /// Shards in one transaction. Every shard adds a chance to be unavailable. Default 16.
    pub shards_per_transaction_max: usize,
    /// Statements in one transaction, over all shards. Default 1000.
    pub statements_per_transaction_max: usize,
    /// Parameters of one statement. PostgreSQL's Bind message counts them in 16 bits. Default 1000.
    pub params_per_statement_max: usize,
    /// Text and parameters of one statement, in bytes. Default 1 MiB.
    pub statement_bytes_max: usize,
    /// Rows that one statement may return: results are held in memory until the outcome is
    /// known. Default 10,000.
    pub rows_per_statement_max: usize,
    /// Bytes that one statement may return. Default 4 MiB.
    pub result_bytes_max: usize,
    /// A request body, before and after decoding. Default 8 MiB.
    pub request_bytes_max: usize,

    // ---- admission ----
    /// Transactions that one coordinator holds at a time; above it, `overloaded`. Default 20,000.
    pub in_flight_max: usize,
    /// Transactions waiting in one lane; above it, `overloaded`. Default 5,000.
    pub lane_depth_max: usize,
    /// Open interactive transactions per coordinator; each holds a connection on every shard it
    /// touched. Default 32.
    pub interactive_max: usize,
    /// How long a client's submission may take before it is answered with what is known then.
    /// Default 10,000.
    pub submit_timeout_ms: u64,
    /// How long an interactive transaction may be idle between two statements. Default 10,000.
    pub interactive_idle_ms: u64,
    /// A txid older than this is refused as too old: the outcome of whatever carried it is
    /// unknown to admission. Must be shorter than `retention_ms` (R14). Default 1 day.
    pub txid_age_ms_max: u64,
    /// A txid from further in the future than this is refused (R14). Default 5 minutes.
    pub txid_ahead_ms_max: u64,

    // ---- batches ----
    /// Transactions in one batch. Default 256.
    pub batch_members_max: usize,
    /// Tries behind savepoints in one branch that has failing members. More than 64
    /// subtransactions overflow a cache in PostgreSQL and slow every snapshot (facts 19).
    /// Default 60, and 60 at most.
    pub savepoints_max: usize,
    /// How often one transaction may be run again because of its neighbours or of failures
    /// that were not its own before it is refused as `contended`. Default 12.
    pub runs_max: u32,

    // ---- work on a shard ----
    /// How long a statement waits for a row lock before its transaction is refused as
    /// `lock_timeout`. A cross-shard deadlock is seen by no server and ends here (facts 22).
    /// Default 1,000.
    pub lock_timeout_ms: u64,
    /// How long one statement of a client may run. Default 5,000.
    pub statement_timeout_ms: u64,
    /// How long a coordinator waits for a vote before it counts it as unknown. Default 8,000.
    pub prepare_timeout_ms: u64,
    /// How long a coordinator waits for the answer to a decide before it asks the register.
    /// Default 8,000.
    pub decide_timeout_ms: u64,
    /// How long a participant's server keeps an idle open transaction whose participant has
    /// vanished (R3). Above `prepare_timeout_ms`, as a head start waits for votes. Default 15,000.
    pub idle_in_transaction_ms: u64,
    /// Connections per shard for branch work. Few busy connections beat a large pool.
    /// Default 8.
    pub work_connections: usize,
    /// Connections per shard reserved for deciding: work that waits on a prepared branch's rows
    /// must never hold the last connection that could finish it. Head starts hold all but two at
    /// most. Default 8.
    pub decide_connections: usize,
    /// Connections per shard reserved for COMMIT PREPARED and ROLLBACK PREPARED. Default 2.
    pub finish_connections: usize,
    /// Connections per shard reserved for resolution, status and scans. Default 3.
    pub service_connections: usize,
    /// Connections per shard for interactive transactions. Default 16.
    pub interactive_connections: usize,
    /// How long to wait for a connection of a pool before the shard counts as busy.
    /// Default 2,000.
    pub connection_wait_ms: u64,
    /// How long to try to connect to a shard. Default 2,000.
    pub connect_timeout_ms: u64,
    /// The share of a shard's `max_prepared_transactions` that one home may fill, in percent
    /// (R12): a dead home must not fill them all. Default 50.
    pub slots_per_home_percent: u32,

    // ---- shards that do not answer ----
    /// How many failures of a shard in a row open its circuit: whoever needs it is refused at once,
    /// until it answers again. Default 5.
    pub circuit_failures: u32,
    /// The first pause before such a shard is asked for a sign of life. Default 250.
    pub circuit_pause_ms: u64,
    /// The longest, after doubling. Default 5,000.
    pub circuit_pause_ms_max: u64,
    /// After so long without any answer a shard with work under way is asked for a sign of life,
    /// which it must give within the same time. Default 1,500.
    pub circuit_silence_ms: u64,

    // ---- recovery ----
    /// How often a participant scans its shard for in-doubt branches. Default 1,000.
    pub scan_interval_ms: u64,
    /// How long a participant watches a prepared branch before it resolves it, if it did not
    /// see the driver's stream close (R15). Default 3,000.
    pub in_doubt_after_ms: u64,
    /// How long one resolution waits for a deciding home before it tries again (facts 17).
    /// Default 2,000.
    pub resolve_lock_timeout_ms: u64,
    /// How long one call to another service may take in recovery. Default 5,000.
    pub resolve_timeout_ms: u64,
    /// First pause before phase two is tried again. Default 20.
    pub retry_first_ms: u64,
    /// Longest pause before phase two or a resolution is tried again. Default 500.
    pub retry_max_ms: u64,

    /// How long a participant rests between two audits of its shard (R16). Default 1 minute.
    pub audit_interval_ms: u64,

    // ---- retention ----
    /// How long decisions, outcomes and branch rows are kept at least (R14). Default 7 days.
    pub retention_ms: u64,
    /// Days of partitions that exist ahead of time. Default 7.
    pub partition_days_ahead: u32,
}

impl Default for Limits {
    fn default() -> Self {
        const DAY_MS: u64 = 24 * 60 * 60 * 1000;
        Self {
            shards_per_transaction_max: 16,
            statements_per_transaction_max: 1000,
            params_per_statement_max: 1000,
            statement_bytes_max: 1 << 20,
            rows_per_statement_max: 10_000,
            result_bytes_max: 4 << 20,
            request_bytes_max: 8 << 20,
            in_flight_max: 20_000,
            lane_depth_max: 5_000,
            interactive_max: 32,
            submit_timeout_ms: 10_000,
            interactive_idle_ms: 10_000,
            txid_age_ms_max: DAY_MS,
            txid_ahead_ms_max: 5 * 60 * 1000,
            batch_members_max: 256,
            savepoints_max: 60,
            runs_max: 12,
            lock_timeout_ms: 1_000,
            statement_timeout_ms: 5_000,
            prepare_timeout_ms: 8_000,
            decide_timeout_ms: 8_000,
            idle_in_transaction_ms: 15_000,
            work_connections: 8,
            decide_connections: 8,
            finish_connections: 2,
            service_connections: 3,
            interactive_connections: 16,
            connection_wait_ms: 2_000,
            connect_timeout_ms: 2_000,
            slots_per_home_percent: 50,
            circuit_failures: 5,
            circuit_pause_ms: 250,
            circuit_pause_ms_max: 5_000,
            circuit_silence_ms: 1_500,
            scan_interval_ms: 1_000,
            in_doubt_after_ms: 3_000,
            resolve_lock_timeout_ms: 2_000,
            resolve_timeout_ms: 5_000,
            retry_first_ms: 20,
            retry_max_ms: 500,
            audit_interval_ms: 60_000,
            retention_ms: 7 * DAY_MS,
            partition_days_ahead: 7,
        }
    }
}

/// A limit that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("limits.{field}: {rule}")]
pub struct InvalidLimit {
    /// The field's name.
    pub field: &'static str,
    /// The rule that it breaks.
    pub rule: &'static str,
}

/// Whether a rule holds, whose it is, and what it says.
type Rule = (bool, &'static str, &'static str);

impl Limits {
    /// Checks the rules between limits.
    pub fn validate(&self) -> Result<(), InvalidLimit> {
        let of_transactions = self.rules_of_transactions();
        let of_work = self.rules_of_work();
        let of_recovery = self.rules_of_recovery();
        let mut rules = of_transactions.chain(of_work).chain(of_recovery);
        match rules.find(|(holds, ..)| !holds) {
            None => Ok(()),
            Some((_, field, rule)) => Err(InvalidLimit { field, rule }),
        }
    }

    fn rules_of_transactions(&self) -> impl Iterator<Item = Rule> {
        [
            (
                self.shards_per_transaction_max >= 1,
                "shards_per_transaction_max",
                "at least 1",
            ),
            (
                self.statements_per_transaction_max >= 1,
                "statements_per_transaction_max",
                "at least 1",
            ),
            (
                self.params_per_statement_max <= 65_535,
                "params_per_statement_max",
                "at most 65535, the wire protocol's limit",
            ),
            (
                self.batch_members_max >= 1,
                "batch_members_max",
                "at least 1",
            ),
            (
                (1..=60).contains(&self.savepoints_max),
                "savepoints_max",
                "1 to 60: PostgreSQL caches 64 subtransactions",
            ),
            (self.runs_max >= 1, "runs_max", "at least 1"),
            (self.in_flight_max >= 1, "in_flight_max", "at least 1"),
            (self.lane_depth_max >= 1, "lane_depth_max", "at least 1"),
        ]
        .into_iter()
    }

    fn rules_of_work(&self) -> impl Iterator<Item = Rule> {
        [
            (
                self.lock_timeout_ms >= 1,
                "lock_timeout_ms",
                "at least 1: without it a cross-shard deadlock never ends",
            ),
            (
                self.statement_timeout_ms >= self.lock_timeout_ms,
                "statement_timeout_ms",
                "not below lock_timeout_ms",
            ),
            (
                self.idle_in_transaction_ms > self.statement_timeout_ms,
                "idle_in_transaction_ms",
                "above statement_timeout_ms",
            ),
            (
                self.idle_in_transaction_ms > self.prepare_timeout_ms,
                "idle_in_transaction_ms",
                "above prepare_timeout_ms: home waits for votes in an open transaction",
            ),
            (self.work_connections >= 1, "work_connections", "at least 1"),
            (self.circuit_failures >= 1, "circuit_failures", "at least 1"),
            (self.circuit_pause_ms >= 1, "circuit_pause_ms", "at least 1"),
            (
                self.circuit_pause_ms_max >= self.circuit_pause_ms,
                "circuit_pause_ms_max",
                "not below circuit_pause_ms",
            ),
            (
                self.circuit_silence_ms >= 100,
                "circuit_silence_ms",
                "at least 100: a busy machine needs a moment",
            ),
            (
                self.decide_connections >= 1,
                "decide_connections",
                "at least 1: deciding needs a connection of its own",
            ),
            (
                self.finish_connections >= 1,
                "finish_connections",
                "at least 1: finishing needs a connection of its own",
            ),
            (
                self.service_connections >= 2,
                "service_connections",
                "at least 2: a resolution that waits must not stop the scan",
            ),
            (
                (1..=100).contains(&self.slots_per_home_percent),
                "slots_per_home_percent",
                "1 to 100",
            ),
        ]
        .into_iter()
    }

    fn rules_of_recovery(&self) -> impl Iterator<Item = Rule> {
        [
            (
                self.scan_interval_ms >= 10,
                "scan_interval_ms",
                "at least 10",
            ),
            (
                self.resolve_lock_timeout_ms >= 1,
                "resolve_lock_timeout_ms",
                "at least 1",
            ),
            (
                self.retry_first_ms >= 1 && self.retry_first_ms <= self.retry_max_ms,
                "retry_first_ms",
                "from 1 to retry_max_ms",
            ),
            (
                self.audit_interval_ms >= 10,
                "audit_interval_ms",
                "at least 10",
            ),
            (
                self.txid_age_ms_max < self.retention_ms,
                "txid_age_ms_max",
                "shorter than retention_ms (R14)",
            ),
            (
                self.retention_ms >= 2 * 24 * 60 * 60 * 1000,
                "retention_ms",
                "at least two days: batch ids may be a day off",
            ),
            (
                self.partition_days_ahead >= 2,
                "partition_days_ahead",
                "at least 2",
            ),
        ]
        .into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_rules_bite() {
        assert_eq!(Limits::default().validate(), Ok(()));
        let no_reserve = Limits {
            finish_connections: 0,
            ..Limits::default()
        };
        assert_eq!(
            no_reserve.validate().unwrap_err().field,
            "finish_connections"
        );
        let too_many = Limits {
            savepoints_max: 61,
            ..Limits::default()
        };
        assert_eq!(too_many.validate().unwrap_err().field, "savepoints_max");
        let slow_votes = Limits {
            prepare_timeout_ms: 20_000,
            ..Limits::default()
        };
        let broken = slow_votes.validate().unwrap_err();
        assert_eq!(broken.field, "idle_in_transaction_ms");
        let r14 = Limits {
            txid_age_ms_max: 8 * 86_400_000,
            ..Limits::default()
        };
        assert_eq!(r14.validate().unwrap_err().field, "txid_age_ms_max");
    }
}
