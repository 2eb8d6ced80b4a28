//! Classifying never panics, and blanks in front of a statement never change what it is.
//!
//! The first byte chooses what is put in front; the rest is the statement.

#![no_main]

use gavel_protocol::sql::{RefusedSql, StatementKind, classify};
use libfuzzer_sys::fuzz_target;

const DISGUISES: [&str; 8] = [
    "",
    " \t\r\n\x0B\x0C",
    "/* a */",
    "/* a /* b */ 'c */",
    "-- a\n",
    "-- /* a\r",
    ";;",
    "/**//*/**/*/--*/\n",
];

const CONTROL: [&str; 9] = [
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

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    let Ok(sql) = std::str::from_utf8(rest) else {
        return;
    };
    let plain = classify(sql);
    let disguised = format!("{}{sql}", DISGUISES[usize::from(*choice) % DISGUISES.len()]);
    // The message of what was not understood quotes its beginning, which is the same.
    assert_eq!(classify(&disguised), plain, "{disguised:?}");
    assert_eq!(
        classify(&format!("{sql}\n/* a */ ;")).is_ok(),
        plain.is_ok()
    );

    let first = sql.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\x0B');
    let word: String = first
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
        .collect();
    if CONTROL.contains(&word.to_ascii_lowercase().as_str()) {
        assert!(
            matches!(plain, Err(RefusedSql::TransactionControl(_))),
            "{sql:?}"
        );
    }
    if plain == Ok(StatementKind::BatchSafe) {
        assert_eq!(classify(&sql.to_ascii_uppercase()), plain, "{sql:?}");
    }
});
