//! Rows as JSON.
//!
//! A column is a JSON number only where every reader can take it exactly: `int2`, `int4`, `oid`,
//! and finite floats. `int8` and `numeric` are strings, as JavaScript and others would silently
//! round them; a column must not change its JSON type with its value.

use gavel_protocol::outcome::{Column, StatementResult};
use serde_json::{Value, json};

const BOOL: u32 = 16;
const INT2: u32 = 21;
const INT4: u32 = 23;
const OID: u32 = 26;
const JSON: u32 = 114;
const FLOAT4: u32 = 700;
const FLOAT8: u32 = 701;
const JSONB: u32 = 3802;

/// What one statement returned.
pub(super) fn statement(result: &StatementResult) -> Value {
    let columns: Vec<_> = result
        .columns
        .iter()
        .map(|column| json!({ "name": column.name, "type_oid": column.type_oid }))
        .collect();
    let rows: Vec<_> = result
        .rows
        .iter()
        .map(|values| row(&result.columns, values))
        .collect();
    json!({ "row_count": result.row_count, "columns": columns, "rows": rows })
}

fn row(columns: &[Column], values: &[Option<String>]) -> Value {
    let typed = columns.iter().zip(values);
    typed
        .map(|(column, text)| value(column.type_oid, text.as_deref()))
        .collect()
}

fn value(type_oid: u32, text: Option<&str>) -> Value {
    let Some(text) = text else {
        return Value::Null;
    };
    let as_json = || serde_json::from_str::<Value>(text).ok();
    let typed = match type_oid {
        BOOL => match text {
            "t" => Some(Value::Bool(true)),
            "f" => Some(Value::Bool(false)),
            _ => None,
        },
        // `NaN` and `Infinity` are not JSON, and stay strings.
        INT2 | INT4 | OID | FLOAT4 | FLOAT8 => as_json().filter(Value::is_number),
        JSON | JSONB => as_json(),
        _ => None,
    };
    typed.unwrap_or_else(|| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_type_and_their_digits() {
        const INT8: u32 = 20;
        const NUMERIC: u32 = 1700;
        for (oid, text, expected) in [
            (BOOL, "t", "true"),
            (BOOL, "f", "false"),
            (INT4, "-7", "-7"),
            (INT8, "9223372036854775807", r#""9223372036854775807""#),
            (INT8, "1", r#""1""#),
            (NUMERIC, "0.10", r#""0.10""#),
            (FLOAT8, "1e+300", "1e+300"),
            (FLOAT8, "NaN", r#""NaN""#),
            (
                JSONB,
                r#"{"a": [1, 12345678901234567890]}"#,
                r#"{"a":[1,12345678901234567890]}"#,
            ),
            (JSON, "broken", r#""broken""#),
            (25, "123", r#""123""#),
        ] {
            assert_eq!(value(oid, Some(text)).to_string(), expected, "{oid} {text}");
        }
        assert_eq!(value(INT4, None), Value::Null);
    }
}
