//! What callers may send as JSON. Fields that are not listed here are errors: a misspelt guard
//! must not be a guard that is missing.

use gavel_protocol::{Access, Ack, BranchWork, Guard, Isolation, Statement, Transaction};
use serde::Deserialize;
use serde_json::Value;

use super::error::ApiError;
use super::face::{Face, Terms};

/// `POST /v1/transactions`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Submit {
    txid: Option<String>,
    ack: Option<Ack>,
    timeout_ms: Option<u64>,
    isolation: Option<Isolation>,
    #[serde(default)]
    retry: bool,
    branches: Vec<Branch>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Branch {
    shard: String,
    #[serde(default)]
    read_only: bool,
    statements: Vec<StatementBody>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatementBody {
    sql: String,
    #[serde(default)]
    params: Vec<Value>,
    expect: Option<Guard>,
}

impl Submit {
    /// The transaction in the protocol's types.
    pub(super) fn into_parts(self, face: &Face) -> Result<(Transaction, Terms), ApiError> {
        let terms = Terms {
            txid: self.txid.map(|text| face.txid(&text)).transpose()?,
            ack: self.ack.unwrap_or_default(),
            timeout_ms: self.timeout_ms,
            is_retry: self.retry,
        };
        let branches = self.branches.into_iter().map(|branch| branch.work(face));
        let mut transaction = Transaction::new(branches.collect::<Result<_, _>>()?);
        transaction.isolation = self.isolation.unwrap_or_default();
        Ok((transaction, terms))
    }
}

impl Branch {
    fn work(self, face: &Face) -> Result<BranchWork, ApiError> {
        let access = match self.read_only {
            true => Access::ReadOnly,
            false => Access::ReadWrite,
        };
        let statements = self.statements.into_iter().map(StatementBody::statement);
        Ok(BranchWork {
            shard: face.shard(&self.shard)?,
            access,
            statements: statements.collect(),
        })
    }
}

impl StatementBody {
    fn statement(self) -> Statement {
        Statement {
            sql: self.sql.into(),
            params: self.params.into_iter().map(param).collect(),
            guard: self.expect,
        }
    }
}

/// A JSON value in PostgreSQL's text format. Numbers keep every digit that was sent.
fn param(value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

/// `POST /v1/txids`
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Mint {
    pub(super) home: Option<String>,
}

/// `POST /v1/sessions`
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Begin {
    pub(super) txid: Option<String>,
    pub(super) home: Option<String>,
    pub(super) isolation: Option<Isolation>,
}

/// `POST /v1/sessions/{txid}/statements`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Execute {
    pub(super) sequence: u64,
    pub(super) shard: String,
    sql: String,
    #[serde(default)]
    params: Vec<Value>,
    expect: Option<Guard>,
}

impl Execute {
    pub(super) fn into_statement(self) -> Statement {
        let Self {
            sql,
            params,
            expect,
            ..
        } = self;
        StatementBody {
            sql,
            params,
            expect,
        }
        .statement()
    }
}

/// `POST /v1/sessions/{txid}/commit`
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Commit {
    pub(super) ack: Option<Ack>,
}

/// `POST /v1/in-doubt/resolve`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Resolve {
    pub(super) gid: String,
    pub(super) because: String,
}

/// `POST /v1/shards/retry`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RetryShard {
    pub(super) shard: String,
    pub(super) because: String,
}

/// `POST /v1/draining`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetDraining {
    pub(super) draining: bool,
    pub(super) because: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_keep_every_digit() {
        let sent = r#"[12345678901234567890.123456789, 1e400, -0.10, true, null, "x", {"a":[1]}]"#;
        let values: Vec<Value> = serde_json::from_str(sent).unwrap();
        let texts: Vec<_> = values.into_iter().map(param).collect();
        let expected = [
            Some("12345678901234567890.123456789"),
            Some("1e+400"),
            Some("-0.10"),
            Some("true"),
            None,
            Some("x"),
            Some(r#"{"a":[1]}"#),
        ];
        assert_eq!(texts, expected.map(|text| text.map(str::to_owned)));
    }

    #[test]
    fn a_guard_is_one_of_two() {
        let parse = |expect| {
            serde_json::from_value::<StatementBody>(json!({ "sql": "x", "expect": expect }))
                .map(|body| body.expect)
        };
        let exactly = parse(json!({ "rows_exactly": 1 })).unwrap();
        assert_eq!(exactly, Some(Guard::RowsExactly(1)));
        let at_least = parse(json!({ "rows_at_least": 2 })).unwrap();
        assert_eq!(at_least, Some(Guard::RowsAtLeast(2)));
        for bad in [
            json!({}),
            json!({ "rows": 1 }),
            json!({ "rows_exactly": -1 }),
            json!({ "rows_exactly": 1, "rows_at_least": 1 }),
            json!(1),
        ] {
            assert!(parse(bad.clone()).is_err(), "{bad}");
        }
    }
}
