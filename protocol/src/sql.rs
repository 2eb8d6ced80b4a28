//! What a client's statement is, as far as the protocol must know.
//!
//! This is a check against accidents, not a sandbox: whoever may send raw SQL to a shard is
//! trusted with that shard (design §5). The extended query protocol already refuses several
//! statements in one text, and PL/pgSQL cannot end a transaction inside a block.

/// What a statement may do to the transaction and session that it runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementKind {
    /// A plain query: may share a batch (R11).
    BatchSafe,
    /// Anything else that is not transaction control (settings, locks, DDL, `DO`, `CALL`): its
    /// transaction travels in a batch of its own, on a connection that is reset afterwards.
    Alone,
}

/// Why a statement was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefusedSql {
    /// There is no statement in the text.
    #[error("the statement is empty")]
    Empty,
    /// Transaction control belongs to Gavel.
    #[error("`{0}` controls transactions; Gavel does that: send only the work")]
    TransactionControl(String),
    /// `COPY … FROM STDIN` and the like speak a protocol of their own.
    #[error("`{0}` is not supported inside a Gavel transaction")]
    Unsupported(String),
}

const TRANSACTION_CONTROL: [&str; 9] = [
    "begin",
    "start",
    "commit",
    "end",
    "rollback",
    "abort",
    "savepoint",
    "release",
    "prepare",
];
const UNSUPPORTED: [&str; 8] = [
    "copy",
    "listen",
    "unlisten",
    "notify",
    "execute",
    "deallocate",
    "discard",
    "declare",
];
const PLAIN_QUERY: [&str; 7] = [
    "select", "insert", "update", "delete", "merge", "with", "values",
];

/// Calls that reach beyond the transaction's own rows: settings would leak into a neighbour,
/// session locks would outlive the batch.
const NOT_BATCH_SAFE: [&str; 4] = ["set_config", "pg_advisory", "pg_try_advisory", "dblink"];

/// Classifies a statement by its first keyword and by the names it mentions.
pub fn classify(sql: &str) -> Result<StatementKind, RefusedSql> {
    let keyword = first_keyword(sql).ok_or(RefusedSql::Empty)?;
    if keyword.is_empty() {
        // No statement starts otherwise; what this lexer does not know, a server's might.
        return Err(RefusedSql::Unsupported(
            skip_blank(sql).chars().take(8).collect(),
        ));
    }
    if TRANSACTION_CONTROL.contains(&keyword.as_str()) {
        return Err(RefusedSql::TransactionControl(keyword));
    }
    if keyword == "set" && sets_transaction(sql) {
        return Err(RefusedSql::TransactionControl("set transaction".to_owned()));
    }
    if UNSUPPORTED.contains(&keyword.as_str()) {
        return Err(RefusedSql::Unsupported(keyword));
    }
    let lowered = sql.to_ascii_lowercase();
    let is_plain = PLAIN_QUERY.contains(&keyword.as_str());
    if is_plain && !NOT_BATCH_SAFE.iter().any(|name| lowered.contains(name)) {
        Ok(StatementKind::BatchSafe)
    } else {
        Ok(StatementKind::Alone)
    }
}

fn first_keyword(sql: &str) -> Option<String> {
    let rest = skip_blank(sql);
    (!rest.is_empty()).then(|| word(rest).to_ascii_lowercase())
}

/// The letters that `sql` starts with.
fn word(sql: &str) -> &str {
    let end = sql.find(|c: char| !c.is_ascii_alphabetic() && c != '_');
    &sql[..end.unwrap_or(sql.len())]
}

/// Whether a SET statement is about transactions: `SET [LOCAL | SESSION] TRANSACTION …`, or
/// `SET [LOCAL | SESSION] SESSION CHARACTERISTICS …`.
fn sets_transaction(sql: &str) -> bool {
    let mut words = [""; 4];
    let mut rest = sql;
    for found in &mut words {
        rest = skip_blank(rest);
        *found = word(rest);
        rest = &rest[found.len()..];
    }
    let is = |at: usize, keyword: &str| words[at].eq_ignore_ascii_case(keyword);
    let about = |at| is(at, "transaction") || (is(at, "session") && is(at + 1, "characteristics"));
    about(1) || ((is(1, "local") || is(1, "session")) && about(2))
}

/// Skips white space, semicolons, opening parentheses and comments (block comments nest).
fn skip_blank(mut sql: &str) -> &str {
    loop {
        sql = sql.trim_start_matches(|c: char| {
            // The vertical tab is white space to newer servers.
            c.is_ascii_whitespace() || c == '\x0B' || c == ';' || c == '('
        });
        if let Some(comment) = sql.strip_prefix("--") {
            sql = comment.find(['\n', '\r']).map_or("", |end| &comment[end..]);
        } else if sql.starts_with("/*") {
            sql = skip_block_comment(sql);
        } else {
            return sql;
        }
    }
}

fn skip_block_comment(sql: &str) -> &str {
    let bytes = sql.as_bytes();
    let (mut depth, mut at) = (0, 0);
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return &sql[at..];
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn transaction_control_is_refused_however_it_is_dressed() {
        for sql in [
            "COMMIT",
            "  /* a /* nested */ comment */ rollback",
            "-- line\nbegin",
            ";;end",
            "PREPARE TRANSACTION 'x'",
            "commit prepared 'x'",
            "savepoint a",
            "set transaction isolation level serializable",
            "SET /* x */ TRANSACTION read only",
            "set session characteristics as transaction read only",
            "set local transaction read only",
            "SET SESSION TRANSACTION READ ONLY",
            "set local session characteristics as transaction read only",
            "start transaction",
            "\x0BROLLBACK",
            "set\x0Btransaction read only",
        ] {
            assert!(
                matches!(classify(sql), Err(RefusedSql::TransactionControl(_))),
                "{sql}"
            );
        }
    }

    #[test]
    fn r11_only_plain_queries_share_a_batch() {
        use StatementKind::{Alone, BatchSafe};
        for (sql, kind) in [
            ("select 1", BatchSafe),
            ("(select 1)", BatchSafe),
            ("with x as (select 1) update t set a = 1", BatchSafe),
            ("INSERT INTO t VALUES ($1)", BatchSafe),
            ("select set_config('role', 'x', false)", Alone),
            ("select pg_advisory_xact_lock(1)", Alone),
            ("set local work_mem = '1MB'", Alone),
            ("lock table t", Alone),
            ("create table t ()", Alone),
            ("do $$ begin end $$", Alone),
        ] {
            assert_eq!(classify(sql), Ok(kind), "{sql}");
        }
        for sql in ["copy t from stdin", "listen x", "discard all"] {
            assert!(
                matches!(classify(sql), Err(RefusedSql::Unsupported(_))),
                "{sql}"
            );
        }
        for sql in ["", "  ", "-- only a comment", "/* open", ";"] {
            assert_eq!(classify(sql), Err(RefusedSql::Empty), "{sql}");
        }
    }

    proptest! {
        #[test]
        fn classifying_never_panics(sql in "[-/* ;(a-zé\n]{0,60}") {
            let _ = classify(&sql);
            let _ = classify(&format!("set {sql}"));
            let _ = classify(&format!("set session {sql}"));
        }
    }
}
