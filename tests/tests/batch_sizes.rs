//! One load for every size of batches: some members fail, everybody gets its own answer, and the
//! books are right.

use futures::future::join_all;
use gavel_protocol::outcome::Status;
use gavel_protocol::{Limits, Outcome, Principal, ShardTag, Txid};
use gavel_tests::bank;
use gavel_tests::embedded::{Embedded, Home};
use gavel_tests::with_batches_of;
use rstest::rstest;

use gavel_coordinator::Engine;

/// Above all that an account holds.
const TOO_MUCH: i64 = 100_000;
/// No account has this id.
const NOBODY: i64 = 9_999;

#[rstest]
#[case(1, Home::OnAShard)]
#[case(2, Home::Dedicated)]
#[case(60, Home::OnAShard)]
#[case(500, Home::Dedicated)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_i5_i10_a_load_with_failing_members_is_sound(
    #[case] members_max: usize,
    #[case] home: Home,
) {
    let limits = Limits {
        // The last of a crowd waits for many batches of one.
        submit_timeout_ms: 60_000,
        ..with_batches_of(members_max)
    };
    let gavel = Embedded::start_with(home, 2, limits, |options| options).await;
    fill_a_batch(&gavel, members_max).await;
    let transfers = (0..300).map(|number: i64| one_of_many(&gavel, number));
    let answers = join_all(transfers).await;
    let books = gavel.sound_books().await;
    for (number, txid, outcome) in answers {
        let must_fail = fails(number);
        match (&outcome, must_fail) {
            (Outcome::Committed { .. }, false) => assert!(books.has(txid), "I4: {number}"),
            (Outcome::Aborted(_), true) => assert!(!books.has(txid), "I4: {number}"),
            other => panic!("I10: {number} of batches of {members_max}: {other:?}"),
        }
        let status = gavel
            .coordinator
            .status(txid, Some(Principal::local()))
            .await;
        let recorded = match outcome {
            Outcome::Aborted(reason) => Status::Aborted(reason),
            _ => Status::Committed,
        };
        assert_eq!(status, Ok(recorded), "I2: {number}");
    }
}

/// Without failures a crowd on one lane makes one batch that is as large as it may be.
async fn fill_a_batch(gavel: &Embedded, members_max: usize) {
    let crowd = i64::try_from(members_max * 2 + 20).expect("not that many");
    let transfers = (0..crowd).map(|number| {
        let account = number % bank::ACCOUNTS;
        gavel.transfer((1, account), (2, account), 1)
    });
    for answer in join_all(transfers).await {
        assert!(
            matches!(answer.outcome, Outcome::Committed { .. }),
            "{answer:?}"
        );
    }
    let largest = "SELECT count(*) FROM gavel.transaction GROUP BY batch ORDER BY 1 DESC LIMIT 1";
    let largest = gavel
        .home_server(1)
        .sql(bank::DATABASE, largest)
        .expect("SQL");
    assert_eq!(
        largest[0],
        [Some(members_max.to_string())],
        "a full batch, and no fuller one"
    );
}

/// Every tenth has no payee, every tenth after that overdraws.
fn fails(number: i64) -> bool {
    matches!(number % 10, 0 | 5)
}

/// Three quarters go one way, the others, between other accounts, the other way: two lanes that
/// do not wait for each other's rows.
async fn one_of_many(gavel: &Embedded, number: i64) -> (i64, Txid, Outcome) {
    const HALF: i64 = bank::ACCOUNTS / 2;
    let (from, to, first) = if number % 4 == 3 {
        (2, 1, HALF)
    } else {
        (1, 2, 0)
    };
    let payer = first + (number * 7) % HALF;
    let account = first + number % HALF;
    let (payee, amount) = match number % 10 {
        0 => (NOBODY, 1),
        5 => (account, TOO_MUCH),
        _ => (account, 1),
    };
    let txid = gavel.mint(from);
    let transfer = bank::transfer(txid, (ShardTag(from), payer), (ShardTag(to), payee), amount);
    let outcome = gavel.submit_until_final(&gavel.coordinator, txid, transfer);
    (number, txid, outcome.await)
}
