//! The types that both services share.

use std::sync::Arc;

use gavel_protocol::outcome::{Column, StatementResult};
use gavel_protocol::{Access, Guard, Isolation, Refusal, RefusalCode};

use super::{Checked, MalformedMessage, Problem, all, each, required};
use crate::{api, participant as wire};

impl From<Isolation> for api::Isolation {
    fn from(isolation: Isolation) -> Self {
        match isolation {
            Isolation::ReadCommitted => Self::ReadCommitted,
            Isolation::RepeatableRead => Self::RepeatableRead,
            Isolation::Serializable => Self::Serializable,
        }
    }
}

/// Reads an isolation level that must be there.
pub(super) fn isolation(number: i32, field: &'static str) -> Checked<Isolation> {
    let unknown = MalformedMessage::new(field, Problem::UnknownValue(number));
    match api::Isolation::try_from(number).map_err(|_| unknown)? {
        api::Isolation::Unspecified => Err(MalformedMessage::new(field, Problem::Missing)),
        api::Isolation::ReadCommitted => Ok(Isolation::ReadCommitted),
        api::Isolation::RepeatableRead => Ok(Isolation::RepeatableRead),
        api::Isolation::Serializable => Ok(Isolation::Serializable),
    }
}

impl From<Access> for wire::Access {
    fn from(access: Access) -> Self {
        match access {
            Access::ReadWrite => Self::ReadWrite,
            Access::ReadOnly => Self::ReadOnly,
        }
    }
}

/// Reads an access mode that must be there.
pub(super) fn access(number: i32, field: &'static str) -> Checked<Access> {
    let unknown = MalformedMessage::new(field, Problem::UnknownValue(number));
    match wire::Access::try_from(number).map_err(|_| unknown)? {
        wire::Access::Unspecified => Err(MalformedMessage::new(field, Problem::Missing)),
        wire::Access::ReadWrite => Ok(Access::ReadWrite),
        wire::Access::ReadOnly => Ok(Access::ReadOnly),
    }
}

impl From<Guard> for api::Guard {
    fn from(guard: Guard) -> Self {
        let rows = match guard {
            Guard::RowsExactly(rows) => api::guard::Rows::Exactly(rows),
            Guard::RowsAtLeast(rows) => api::guard::Rows::AtLeast(rows),
        };
        Self { rows: Some(rows) }
    }
}

impl TryFrom<api::Guard> for Guard {
    type Error = MalformedMessage;
    fn try_from(guard: api::Guard) -> Checked<Self> {
        Ok(match required(guard.rows, "Guard.rows")? {
            api::guard::Rows::Exactly(rows) => Self::RowsExactly(rows),
            api::guard::Rows::AtLeast(rows) => Self::RowsAtLeast(rows),
        })
    }
}

/// Values in PostgreSQL's text format as messages.
pub(super) fn values_to_wire(values: Vec<Option<String>>) -> Vec<api::Value> {
    values.into_iter().map(|text| api::Value { text }).collect()
}

/// And back.
pub(super) fn values_from_wire(values: Vec<api::Value>) -> Vec<Option<String>> {
    values.into_iter().map(|value| value.text).collect()
}

impl From<StatementResult> for api::StatementResult {
    fn from(result: StatementResult) -> Self {
        Self {
            row_count: result.row_count,
            columns: each(result.columns),
            rows: result
                .rows
                .into_iter()
                .map(|row| api::Row {
                    values: values_to_wire(row),
                })
                .collect(),
        }
    }
}

impl TryFrom<api::StatementResult> for StatementResult {
    type Error = MalformedMessage;
    fn try_from(result: api::StatementResult) -> Checked<Self> {
        let width = result.columns.len();
        let columns = all(result.columns)?;
        let rows: Vec<_> = result
            .rows
            .into_iter()
            .map(|row| values_from_wire(row.values))
            .collect();
        // Readers index rows by column.
        if rows.iter().any(|row| row.len() != width) {
            return Err(MalformedMessage::new(
                "StatementResult.rows",
                Problem::OutOfRange,
            ));
        }
        Ok(Self {
            row_count: result.row_count,
            columns,
            rows,
        })
    }
}

impl From<Column> for api::Column {
    fn from(column: Column) -> Self {
        Self {
            name: column.name,
            type_oid: column.type_oid,
        }
    }
}

impl TryFrom<api::Column> for Column {
    type Error = MalformedMessage;
    fn try_from(column: api::Column) -> Checked<Self> {
        Ok(Self {
            name: column.name,
            type_oid: column.type_oid,
        })
    }
}

impl From<Refusal> for api::Refusal {
    fn from(refusal: Refusal) -> Self {
        Self {
            code: refusal.code.as_str().to_owned(),
            message: refusal.message,
        }
    }
}

impl TryFrom<api::Refusal> for Refusal {
    type Error = MalformedMessage;
    fn try_from(refusal: api::Refusal) -> Checked<Self> {
        let code = RefusalCode::from_str_exact(&refusal.code).ok_or_else(|| {
            MalformedMessage::new("Refusal.code", Problem::UnknownCode(short(&refusal.code)))
        })?;
        Ok(Self {
            code,
            message: refusal.message,
        })
    }
}

/// The beginning of a text from a peer, for an error message.
pub(super) fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

/// The texts of one message's statements, each once.
#[derive(Default)]
pub(super) struct SqlTexts<'a> {
    texts: Vec<String>,
    index: std::collections::HashMap<&'a str, u32>,
}

impl<'a> SqlTexts<'a> {
    /// The index of a text.
    pub(super) fn index_of(&mut self, sql: &'a Arc<str>) -> u32 {
        let next = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        *self.index.entry(sql).or_insert_with(|| {
            self.texts.push(sql.to_string());
            next
        })
    }

    /// All texts, in the order of their indexes.
    pub(super) fn into_texts(self) -> Vec<String> {
        self.texts
    }
}
