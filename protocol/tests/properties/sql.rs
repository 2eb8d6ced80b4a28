//! Transaction control is found however it is dressed, and only plain queries share a batch.

use gavel_protocol::sql::{RefusedSql, StatementKind, classify};
use proptest::collection::vec;
use proptest::prelude::*;

/// Statements that control transactions, in words.
const CONTROL: [&[&str]; 20] = [
    &["begin"],
    &["begin", "work"],
    &["start", "transaction"],
    &["commit"],
    &["commit", "and", "chain"],
    &["commit", "prepared", "'x'"],
    &["end"],
    &["rollback"],
    &["rollback", "prepared", "'x'"],
    &["rollback", "to", "a"],
    &["abort"],
    &["savepoint", "a"],
    &["release", "a"],
    &["prepare", "transaction", "'x'"],
    &["set", "transaction", "read", "only"],
    &["set", "local", "transaction", "read", "only"],
    &["set", "session", "transaction", "read", "only"],
    &["set", "session", "characteristics", "as", "transaction"],
    &["set", "local", "session", "characteristics", "as"],
    &["set", "session", "session", "characteristics", "as"],
];

/// What travels alone, or not at all.
const NOT_PLAIN: [&[&str]; 12] = [
    &["set", "local", "work_mem", "=", "'1MB'"],
    &["reset", "all"],
    &["lock", "table", "t"],
    &["create", "table", "t", "()"],
    &["do", "$$begin end$$"],
    &["call", "p", "()"],
    &["copy", "t", "from", "stdin"],
    &["listen", "x"],
    &["discard", "all"],
    &["execute", "p"],
    &["select", "set_config", "('role','x',false)"],
    &["select", "pg_advisory_lock", "(1)"],
];

fn block_comment() -> impl Strategy<Value = String> {
    let text = "[a-z '\";$\n-]{0,6}".prop_map(|text| format!("/*{text}*/"));
    text.prop_recursive(3, 8, 3, |inner| {
        vec(inner, 1..3).prop_map(|inner| format!("/* {} */", inner.join("'")))
    })
}

/// What may stand between two words.
fn gap() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ \t\n\r\x0B\x0C]{1,3}",
        block_comment(),
        "--[a-z '/*;]{0,6}[\n\r]",
    ]
}

/// The words in any case, with anything blank in front and between.
fn dressed(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    let front = vec(prop_oneof![gap(), Just(";".to_owned())], 0..4);
    let gaps = vec(gap(), words.len());
    let cases = vec(any::<bool>(), 8);
    (front, gaps, cases).prop_map(move |(front, gaps, cases)| {
        let mut text = front.concat();
        for (word, gap) in words.iter().zip(gaps) {
            let letters = word.chars().zip(cases.iter().cycle());
            text.extend(letters.map(|(letter, upper)| match upper {
                true => letter.to_ascii_uppercase(),
                false => letter,
            }));
            text.push_str(&gap);
        }
        text
    })
}

fn any_of(list: &'static [&'static [&'static str]]) -> impl Strategy<Value = String> {
    proptest::sample::select(list).prop_flat_map(dressed)
}

proptest! {
    #[test]
    fn transaction_control_is_refused(sql in any_of(&CONTROL)) {
        let is_refused = matches!(classify(&sql), Err(RefusedSql::TransactionControl(_)));
        prop_assert!(is_refused, "{sql:?}");
    }

    #[test]
    fn r11_what_is_not_plain_never_shares_a_batch(sql in any_of(&NOT_PLAIN)) {
        prop_assert_ne!(classify(&sql), Ok(StatementKind::BatchSafe));
    }

    #[test]
    fn what_stands_in_front_changes_nothing(front in vec(gap(), 0..4), sql in ".{0,40}") {
        let dressed = format!("{}{sql}", front.concat());
        prop_assert_eq!(classify(&dressed), classify(&sql));
    }

    #[test]
    fn nothing_panics(words in vec("set|local|session|é|_|/[*]|[*]/|--|[ -~\n]", 0..12)) {
        let _ = classify(&words.concat());
    }
}
