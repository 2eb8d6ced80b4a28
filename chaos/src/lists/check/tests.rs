//! Histories that must be rejected, and near relatives of them that must not: a checker that
//! passes everything proves nothing.

use gavel_protocol::{ShardTag, Txid};

use super::*;
use crate::history::{Recorder, Told};

/// Two lists on shard 0 and two on shard 1.
const X: i64 = 0;
const Y: i64 = 1;

fn shard_of(key: i64) -> usize {
    usize::try_from(key % 2).expect("a shard")
}

fn append(key: i64, element: i64) -> MicroOp {
    MicroOp::Append { key, element }
}

fn read(key: i64, elements: &[i64]) -> MicroOp {
    MicroOp::Read {
        key,
        elements: Some(elements.to_vec()),
    }
}

/// Steps of a history, such as `b0 b1 c1 a0`: transaction 0 begins, 1 begins, 1 commits, 0 is aborted.
/// `l` is lost: nobody heard how it ended.
fn steps(text: &str) -> impl Iterator<Item = (char, usize)> {
    text.split(' ').map(|step| {
        let (what, index) = step.split_at(1);
        let index = index.parse().expect("a number");
        (what.chars().next().expect("a letter"), index)
    })
}

/// What was found in a history of `transactions`, by the promise for `workload`.
fn found(workload: Workload, transactions: &[Vec<MicroOp>], story: &str) -> Vec<String> {
    let recorder = Recorder::create(None).expect("no file");
    let mut begun: Vec<_> = transactions.iter().map(|_| None).collect();
    for (what, index) in steps(story) {
        let told = match what {
            'b' => {
                let ops = transactions[index].iter().map(unread).collect();
                let txid = Txid::mint(1, ShardTag(1), [u8::try_from(index).expect("few"); 16]);
                let process = recorder.new_process();
                begun[index] = Some(recorder.invoke(process, workload, txid, Action::Txn(ops)));
                continue;
            }
            'c' => Told::Committed,
            'a' => Told::Aborted("guard_failed".to_owned()),
            'l' => Told::InDoubt("lost".to_owned()),
            other => panic!("no such step: {other}"),
        };
        let operation = begun[index].take().expect("it has begun");
        recorder.complete(operation, Action::Txn(transactions[index].clone()), told);
    }
    let events = recorder.events();
    let promises = promises(2);
    let of_workload = promises.iter().filter(|each| each.workload == workload);
    of_workload
        .flat_map(|promise| check(&events, *promise, shard_of).violations)
        .map(|violation| violation.what)
        .collect()
}

fn unread(op: &MicroOp) -> MicroOp {
    match op {
        MicroOp::Read { key, .. } => MicroOp::Read {
            key: *key,
            elements: None,
        },
        append @ MicroOp::Append { .. } => append.clone(),
    }
}

fn locked(transactions: &[Vec<MicroOp>], story: &str) -> String {
    found(Workload::ListsLocked, transactions, story).join("\n")
}

fn plain(transactions: &[Vec<MicroOp>], story: &str) -> String {
    found(Workload::ListsPlain, transactions, story).join("\n")
}

#[test]
fn a_serial_history_passes_both() {
    let transactions = [
        vec![append(X, 1), append(Y, 2)],
        vec![read(X, &[1]), read(Y, &[2]), append(X, 3)],
        vec![read(X, &[1, 3]), read(Y, &[2])],
    ];
    let story = "b0 c0 b1 c1 b2 c2";
    assert_eq!(locked(&transactions, story), "");
    assert_eq!(plain(&transactions, story), "");
}

#[test]
fn an_unknown_append_may_or_may_not_be_there() {
    for seen in [vec![1], vec![1, 2]] {
        let transactions = [
            vec![append(X, 1)],
            vec![append(X, 2)],
            vec![read(X, &seen), append(X, 3)],
        ];
        let story = "b0 c0 b1 l1 b2 c2";
        assert_eq!(locked(&transactions, story), "");
    }
}

#[test]
fn what_an_unknown_transaction_has_read_proves_nothing() {
    // It was aborted: its reads were overtaken, and its append never came.
    let transactions = [
        vec![read(X, &[]), append(X, 9)],
        vec![append(X, 1)],
        vec![read(X, &[1])],
    ];
    let story = "b0 b1 c1 l0 b2 c2";
    assert_eq!(locked(&transactions, story), "");
}

#[test]
fn a_lost_update_is_rejected() {
    // Both saw the same list, and one of the appends was overwritten.
    let transactions = [
        vec![append(X, 1)],
        vec![read(X, &[1]), append(X, 2)],
        vec![read(X, &[1]), append(X, 3)],
        vec![read(X, &[1, 3])],
    ];
    let story = "b0 c0 b1 b2 c1 c2 b3 c3";
    assert_ne!(locked(&transactions, story), "");
}

#[test]
fn circular_information_flow_is_rejected() {
    // G1c: each has seen what the other wrote, on different shards.
    let transactions = [
        vec![append(X, 1), read(Y, &[2])],
        vec![append(Y, 2), read(X, &[1])],
    ];
    let story = "b0 b1 c0 c1";
    assert!(locked(&transactions, story).contains("G1c"));
    assert!(plain(&transactions, story).contains("G1c"));
}

#[test]
fn a_stale_read_is_rejected_where_real_time_counts() {
    let transactions = [
        vec![append(X, 1)],
        vec![append(X, 2)],
        vec![read(X, &[1])],
        vec![read(X, &[1, 2])],
    ];
    let story = "b0 c0 b1 c1 b2 c2 b3 c3";
    assert!(locked(&transactions, story).contains("realtime"));
    let at_once = "b0 c0 b1 b2 c2 c1 b3 c3";
    assert_eq!(locked(&transactions, at_once), "");
}

#[test]
fn a_dirty_read_is_rejected() {
    // G1a: what an aborted transaction wrote was seen.
    let transactions = [vec![append(X, 1)], vec![read(X, &[1])]];
    let story = "b0 b1 c1 a0";
    assert!(locked(&transactions, story).contains("G1a"));
    assert!(plain(&transactions, story).contains("G1a"));
}

#[test]
fn an_intermediate_read_is_rejected() {
    // G1b: half of what one transaction wrote to one list was seen.
    let transactions = [vec![append(X, 1), append(X, 2)], vec![read(X, &[1])]];
    let story = "b0 b1 c1 c0";
    assert!(locked(&transactions, story).contains("G1b"));
    assert!(plain(&transactions, story).contains("G1b"));
}

#[test]
fn a_fractured_read_is_rejected_only_where_reads_lock() {
    // The promise for plain readers: one shard's half may be seen before the other's.
    let transactions = [
        vec![append(X, 1), append(Y, 2)],
        vec![read(X, &[1]), read(Y, &[])],
        vec![read(X, &[1]), read(Y, &[2])],
    ];
    let story = "b0 b1 c1 c0 b2 c2";
    assert!(locked(&transactions, story).contains("G-single"));
    assert_eq!(plain(&transactions, story), "");
}

#[test]
fn interleaved_writes_are_rejected() {
    // G0: on one shard the first wrote first, on the other one the second.
    let transactions = [
        vec![append(X, 1), append(Y, 1)],
        vec![append(X, 2), append(Y, 2)],
        vec![read(X, &[1, 2]), read(Y, &[2, 1])],
    ];
    let story = "b0 b1 c0 c1 b2 c2";
    assert!(locked(&transactions, story).contains("G0"));
    assert!(plain(&transactions, story).contains("G0"));
}

#[test]
fn an_element_that_was_applied_twice_is_rejected() {
    let transactions = [vec![append(X, 1)], vec![read(X, &[1, 1])]];
    let story = "b0 c0 b1 c1";
    assert_ne!(locked(&transactions, story), "");
    assert_ne!(plain(&transactions, story), "");
}

#[test]
fn write_skew_is_rejected_only_where_reads_lock() {
    let transactions = [
        vec![read(X, &[]), append(Y, 1)],
        vec![read(Y, &[]), append(X, 2)],
        vec![read(X, &[2]), read(Y, &[1])],
    ];
    let story = "b0 b1 c0 c1 b2 c2";
    assert!(locked(&transactions, story).contains("G2"));
    assert_eq!(plain(&transactions, story), "");
}
