//! What statements return: rows in PostgreSQL's text format, with typed access.

use std::sync::Arc;

use gavel_protocol::outcome::{Column, StatementResult};
use serde_json::Value;
use uuid::Uuid;

/// Why a column's value could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The result has no column of that name.
    #[error("the result has no column `{0}`")]
    NoColumn(String),
    /// The value is NULL: read it as an `Option`.
    #[error("column `{0}` is NULL")]
    Null(String),
    /// The value is not of the wanted type.
    #[error("column `{column}` holds `{value}`, which is not {wanted}")]
    Mistyped {
        /// Which column.
        column: String,
        /// Its value, cut to 64 characters.
        value: String,
        /// The Rust type that was asked for.
        wanted: &'static str,
    },
}

/// What one statement returned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rows {
    row_count: u64,
    columns: Arc<[Column]>,
    rows: Vec<Row>,
}

impl Rows {
    /// Rows affected or returned.
    pub fn row_count(&self) -> u64 {
        self.row_count
    }

    /// The columns, if the statement returns rows.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The first row, if there is one.
    pub fn first(&self) -> Option<&Row> {
        self.rows.first()
    }

    /// How many rows were returned.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no row was returned.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// All rows.
    pub fn iter(&self) -> std::slice::Iter<'_, Row> {
        self.rows.iter()
    }
}

impl<'a> IntoIterator for &'a Rows {
    type Item = &'a Row;
    type IntoIter = std::slice::Iter<'a, Row>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<StatementResult> for Rows {
    fn from(result: StatementResult) -> Self {
        let columns: Arc<[Column]> = result.columns.into();
        let rows = result.rows.into_iter().map(|values| Row {
            columns: Arc::clone(&columns),
            values,
        });
        Self {
            row_count: result.row_count,
            rows: rows.collect(),
            columns,
        }
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    columns: Arc<[Column]>,
    values: Vec<Option<String>>,
}

impl Row {
    /// The value of a column. NULL can be read as an `Option` only.
    ///
    /// # Errors
    /// No such column, NULL, or a value of another type.
    pub fn get<T: FromColumn>(&self, column: &str) -> Result<T, RowError> {
        let at = self.columns.iter().position(|one| one.name == column);
        let at = at.ok_or_else(|| RowError::NoColumn(column.to_owned()))?;
        self.read(at, column)
    }

    /// The value of the column at a position, counted from 0.
    ///
    /// # Errors
    /// No such column, NULL, or a value of another type.
    pub fn get_at<T: FromColumn>(&self, position: usize) -> Result<T, RowError> {
        let column = self.columns.get(position);
        let column = column.ok_or_else(|| RowError::NoColumn(position.to_string()))?;
        self.read(position, &column.name)
    }

    /// The value of the column at a position as PostgreSQL wrote it; `None` is NULL, or no such
    /// column.
    pub fn text(&self, position: usize) -> Option<&str> {
        self.values.get(position)?.as_deref()
    }

    fn read<T: FromColumn>(&self, position: usize, column: &str) -> Result<T, RowError> {
        let text = self.text(position);
        T::from_column(text).ok_or_else(|| match text {
            None => RowError::Null(column.to_owned()),
            Some(value) => RowError::Mistyped {
                column: column.to_owned(),
                value: value.chars().take(64).collect(),
                wanted: std::any::type_name::<T>(),
            },
        })
    }
}

/// A type that a column can be read as.
pub trait FromColumn: Sized {
    /// The value, if the text (`None` is NULL) is one.
    fn from_column(text: Option<&str>) -> Option<Self>;
}

impl<T: FromColumn> FromColumn for Option<T> {
    fn from_column(text: Option<&str>) -> Option<Self> {
        match text {
            None => Some(None),
            Some(_) => T::from_column(text).map(Some),
        }
    }
}

macro_rules! parsed_columns {
    ($($type:ty),+) => {$(
        impl FromColumn for $type {
            fn from_column(text: Option<&str>) -> Option<Self> {
                text?.parse().ok()
            }
        }
    )+};
}

parsed_columns!(i16, i32, i64, i128, u32, u64, f32, f64, String, Uuid);

impl FromColumn for bool {
    fn from_column(text: Option<&str>) -> Option<Self> {
        match text? {
            "t" | "true" => Some(true),
            "f" | "false" => Some(false),
            _ => None,
        }
    }
}

impl FromColumn for Value {
    fn from_column(text: Option<&str>) -> Option<Self> {
        serde_json::from_str(text?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_row(values: &[(&str, Option<&str>)]) -> Rows {
        let column = |name: &str| Column {
            name: name.to_owned(),
            type_oid: 25,
        };
        Rows::from(StatementResult {
            row_count: 1,
            columns: values.iter().map(|(name, _)| column(name)).collect(),
            rows: vec![
                values
                    .iter()
                    .map(|(_, value)| value.map(str::to_owned))
                    .collect(),
            ],
        })
    }

    #[test]
    fn columns_are_read_by_name_and_type() {
        let rows = one_row(&[
            ("balance", Some("900")),
            ("open", Some("t")),
            ("note", None),
            ("doc", Some(r#"{"a":1}"#)),
            ("weird", Some("-Infinity")),
        ]);
        let row = rows.first().unwrap();
        assert_eq!(row.get("balance"), Ok(900i64));
        assert_eq!(row.get_at(0), Ok(900i32));
        assert_eq!(row.get("open"), Ok(true));
        assert_eq!(row.get("note"), Ok(None::<String>));
        assert_eq!(row.get("doc"), Ok(serde_json::json!({"a": 1})));
        assert_eq!(row.get("weird"), Ok(f64::NEG_INFINITY));
        assert_eq!(
            row.get::<i64>("nothing"),
            Err(RowError::NoColumn("nothing".into()))
        );
        assert_eq!(row.get::<i64>("note"), Err(RowError::Null("note".into())));
        assert!(matches!(
            row.get::<Option<bool>>("balance"),
            Err(RowError::Mistyped { .. })
        ));
    }
}
