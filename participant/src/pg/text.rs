//! PostgreSQL's text format for the parameters of Gavel's own statements.

use std::fmt::Display;

/// An array literal, such as `{"a","b"}`. Every element is quoted, so no element can end it.
pub fn array<T: Display>(elements: impl IntoIterator<Item = T>) -> Option<String> {
    optional_array(elements.into_iter().map(Some))
}

/// An array literal with NULLs.
pub fn optional_array<T: Display>(elements: impl IntoIterator<Item = Option<T>>) -> Option<String> {
    let mut literal = String::from("{");
    for (index, element) in elements.into_iter().enumerate() {
        if index > 0 {
            literal.push(',');
        }
        match element {
            None => literal.push_str("NULL"),
            Some(element) => push_quoted(&mut literal, &element.to_string()),
        }
    }
    literal.push('}');
    Some(literal)
}

/// A `bytea` in hex format.
pub fn bytea(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::from("\\x"), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Reads a `bytea` in hex format.
pub fn parse_bytea(text: &str) -> Option<Vec<u8>> {
    let hex = text.strip_prefix("\\x")?;
    let pairs = (0..hex.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok())
        .collect()
}

/// A statement that says in which span it runs, if it is traced, as
/// [sqlcommenter](https://google.github.io/sqlcommenter/spec/) does: seen in the server's log and
/// in `pg_stat_activity`.
pub fn traced(statement: String) -> String {
    match gavel_spans::current() {
        None => statement,
        Some(span) => format!("{statement} /*traceparent='{span}'*/"),
    }
}

/// A scalar parameter.
pub fn scalar(value: impl Display) -> Option<String> {
    Some(value.to_string())
}

fn push_quoted(literal: &mut String, element: &str) {
    literal.push('"');
    for c in element.chars() {
        if c == '"' || c == '\\' {
            literal.push('\\');
        }
        literal.push(c);
    }
    literal.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_cannot_escape() {
        assert_eq!(array(["a\",\"b", "c\\"]).unwrap(), r#"{"a\",\"b","c\\"}"#);
        assert_eq!(optional_array([None, Some(1)]).unwrap(), r#"{NULL,"1"}"#);
        assert_eq!(array::<u8>([]).unwrap(), "{}");
        assert_eq!(bytea(&[0, 255]), "\\x00ff");
        assert_eq!(parse_bytea("\\x00ff"), Some(vec![0, 255]));
        assert_eq!(parse_bytea("\\x0"), None);
    }
}
