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

/// A step of a history: one of the transactions begins, or ends.
enum Step {
    Begin(usize),
    Commit(usize),
    Abort(usize),
    Lose(usize),
}
use Step::{Abort, Begin, Commit, Lose};

/// What was found in a history of `transactions`, by the promise for `workload`.
fn found(workload: Workload, transactions: &[Vec<MicroOp>], steps: &[Step]) -> Vec<String> {
    let recorder = Recorder::create(None).expect("no file");
    let mut begun: Vec<_> = transactions.iter().map(|_| None).collect();
    for step in steps {
        let (index, told) = match step {
            Begin(index) => {
                let ops = transactions[*index].iter().map(unread).collect();
                let txid = Txid::mint(1, ShardTag(1), [u8::try_from(*index).expect("few"); 16]);
                let process = recorder.new_process();
                begun[*index] = Some(recorder.invoke(process, workload, txid, Action::Txn(ops)));
                continue;
            }
            Commit(index) => (index, Told::Committed),
            Abort(index) => (index, Told::Aborted("guard_failed".to_owned())),
            Lose(index) => (index, Told::InDoubt("lost".to_owned())),
        };
        let operation = begun[*index].take().expect("it has begun");
        recorder.complete(operation, Action::Txn(transactions[*index].clone()), told);
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

fn locked(transactions: &[Vec<MicroOp>], steps: &[Step]) -> String {
    found(Workload::ListsLocked, transactions, steps).join("\n")
}

fn plain(transactions: &[Vec<MicroOp>], steps: &[Step]) -> String {
    found(Workload::ListsPlain, transactions, steps).join("\n")
}

#[test]
fn a_serial_history_passes_both() {
    let transactions = [
        vec![append(X, 1), append(Y, 2)],
        vec![read(X, &[1]), read(Y, &[2]), append(X, 3)],
        vec![read(X, &[1, 3]), read(Y, &[2])],
    ];
    let steps = [
        Begin(0),
        Commit(0),
        Begin(1),
        Commit(1),
        Begin(2),
        Commit(2),
    ];
    assert_eq!(locked(&transactions, &steps), "");
    assert_eq!(plain(&transactions, &steps), "");
}

#[test]
fn an_unknown_append_may_or_may_not_be_there() {
    for seen in [vec![1], vec![1, 2]] {
        let transactions = [
            vec![append(X, 1)],
            vec![append(X, 2)],
            vec![read(X, &seen), append(X, 3)],
        ];
        let steps = [Begin(0), Commit(0), Begin(1), Lose(1), Begin(2), Commit(2)];
        assert_eq!(locked(&transactions, &steps), "");
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
    let steps = [Begin(0), Begin(1), Commit(1), Lose(0), Begin(2), Commit(2)];
    assert_eq!(locked(&transactions, &steps), "");
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
    let steps = [
        Begin(0),
        Commit(0),
        Begin(1),
        Begin(2),
        Commit(1),
        Commit(2),
        Begin(3),
        Commit(3),
    ];
    assert_ne!(locked(&transactions, &steps), "");
}

#[test]
fn circular_information_flow_is_rejected() {
    // G1c: each has seen what the other wrote, on different shards.
    let transactions = [
        vec![append(X, 1), read(Y, &[2])],
        vec![append(Y, 2), read(X, &[1])],
    ];
    let steps = [Begin(0), Begin(1), Commit(0), Commit(1)];
    assert!(locked(&transactions, &steps).contains("G1c"));
    assert!(plain(&transactions, &steps).contains("G1c"));
}

#[test]
fn a_stale_read_is_rejected_where_real_time_counts() {
    let transactions = [
        vec![append(X, 1)],
        vec![append(X, 2)],
        vec![read(X, &[1])],
        vec![read(X, &[1, 2])],
    ];
    let steps = [
        Begin(0),
        Commit(0),
        Begin(1),
        Commit(1),
        Begin(2),
        Commit(2),
        Begin(3),
        Commit(3),
    ];
    assert!(locked(&transactions, &steps).contains("realtime"));
    let at_once = [
        Begin(0),
        Commit(0),
        Begin(1),
        Begin(2),
        Commit(2),
        Commit(1),
        Begin(3),
        Commit(3),
    ];
    assert_eq!(locked(&transactions, &at_once), "");
}

#[test]
fn a_dirty_read_is_rejected() {
    // G1a: what an aborted transaction wrote was seen.
    let transactions = [vec![append(X, 1)], vec![read(X, &[1])]];
    let steps = [Begin(0), Begin(1), Commit(1), Abort(0)];
    assert!(locked(&transactions, &steps).contains("G1a"));
    assert!(plain(&transactions, &steps).contains("G1a"));
}

#[test]
fn an_intermediate_read_is_rejected() {
    // G1b: half of what one transaction wrote to one list was seen.
    let transactions = [vec![append(X, 1), append(X, 2)], vec![read(X, &[1])]];
    let steps = [Begin(0), Begin(1), Commit(1), Commit(0)];
    assert!(locked(&transactions, &steps).contains("G1b"));
    assert!(plain(&transactions, &steps).contains("G1b"));
}

#[test]
fn a_fractured_read_is_rejected_only_where_reads_lock() {
    // The promise for plain readers: one shard's half may be seen before the other's.
    let transactions = [
        vec![append(X, 1), append(Y, 2)],
        vec![read(X, &[1]), read(Y, &[])],
        vec![read(X, &[1]), read(Y, &[2])],
    ];
    let steps = [
        Begin(0),
        Begin(1),
        Commit(1),
        Commit(0),
        Begin(2),
        Commit(2),
    ];
    assert!(locked(&transactions, &steps).contains("G-single"));
    assert_eq!(plain(&transactions, &steps), "");
}

#[test]
fn interleaved_writes_are_rejected() {
    // G0: on one shard the first wrote first, on the other one the second.
    let transactions = [
        vec![append(X, 1), append(Y, 1)],
        vec![append(X, 2), append(Y, 2)],
        vec![read(X, &[1, 2]), read(Y, &[2, 1])],
    ];
    let steps = [
        Begin(0),
        Begin(1),
        Commit(0),
        Commit(1),
        Begin(2),
        Commit(2),
    ];
    assert!(locked(&transactions, &steps).contains("G0"));
    assert!(plain(&transactions, &steps).contains("G0"));
}

#[test]
fn an_element_that_was_applied_twice_is_rejected() {
    let transactions = [vec![append(X, 1)], vec![read(X, &[1, 1])]];
    let steps = [Begin(0), Commit(0), Begin(1), Commit(1)];
    assert_ne!(locked(&transactions, &steps), "");
    assert_ne!(plain(&transactions, &steps), "");
}

#[test]
fn write_skew_is_rejected_only_where_reads_lock() {
    let transactions = [
        vec![read(X, &[]), append(Y, 1)],
        vec![read(Y, &[]), append(X, 2)],
        vec![read(X, &[2]), read(Y, &[1])],
    ];
    let steps = [
        Begin(0),
        Begin(1),
        Commit(0),
        Commit(1),
        Begin(2),
        Commit(2),
    ];
    assert!(locked(&transactions, &steps).contains("G2"));
    assert_eq!(plain(&transactions, &steps), "");
}
