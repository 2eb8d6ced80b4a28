//! The whole path in one process, over real servers.

use gavel_coordinator::{Engine, Submission};
use gavel_protocol::outcome::Status;
use gavel_protocol::{
    AbortCode, BranchWork, Guard, Outcome, Principal, RefusalCode, ShardTag, Statement,
    Transaction, Txid,
};
use gavel_tests::bank;
use gavel_tests::embedded::{Embedded, Home, is_committed, submission};
use rstest::rstest;

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_is_on_both_shards(#[values(Home::OnAShard, Home::Dedicated)] home: Home) {
    let gavel = Embedded::start(home, 2).await;
    let answer = gavel.transfer((1, 3), (2, 4), 100).await;
    assert_eq!(answer.outcome, Outcome::Committed { applied: true });
    let books = gavel.sound_books().await;
    assert!(books.has(answer.txid));
    let status = gavel
        .coordinator
        .status(answer.txid, Some(Principal::local()))
        .await;
    assert_eq!(status, Ok(Status::Committed));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_guard_aborts_everywhere_and_is_recorded(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 2).await;
    for (from, to) in [((1, 9999), (2, 4)), ((2, 4), (1, 9999))] {
        let answer = gavel.transfer(from, to, 100).await;
        let Outcome::Aborted(reason) = &answer.outcome else {
            panic!("expected an abort, got {answer:?}");
        };
        assert_eq!(reason.code, AbortCode::GuardFailed);
        let status = gavel.coordinator.status(answer.txid, None).await;
        assert_eq!(status, Ok(Status::Aborted(reason.clone())));
    }
    let overdrawn = gavel.transfer((1, 1), (2, 1), 5_000).await;
    assert!(
        matches!(overdrawn.outcome, Outcome::Aborted(_)),
        "{overdrawn:?}"
    );
    let books = gavel.sound_books().await;
    assert!(books.marks.is_empty());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn r8_a_repeated_submit_gets_the_recorded_answer(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 2).await;
    let other = gavel.another_coordinator().await;
    let txid = gavel.mint(1);
    let transfer = bank::transfer(txid, (ShardTag(1), 1), (ShardTag(2), 1), 10);
    let (a, b) = tokio::join!(
        gavel.submit(txid, transfer.clone()),
        other.submit(submission(txid, transfer.clone())),
    );
    // Through two coordinators at once: who loses, loses whole, and may repeat it. With a
    // dedicated home the two may hold each other up until both run into the lock timeout.
    for answer in [&a, &b] {
        match &answer.outcome {
            Outcome::Committed { .. } => {}
            Outcome::Refused(why) => assert!(why.is_retryable(), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    for coordinator in [&gavel.coordinator, &other] {
        let again = coordinator.submit(submission(txid, transfer.clone())).await;
        assert!(is_committed(&again.outcome), "{again:?}");
    }
    let different = bank::transfer(txid, (ShardTag(1), 1), (ShardTag(2), 1), 11);
    let refused = gavel.submit(txid, different).await;
    let Outcome::Refused(refusal) = refused.outcome else {
        panic!("{refused:?}")
    };
    assert_eq!(refusal.code, RefusalCode::TxidReused);
    let stolen = Submission {
        principal: "mallory".parse().expect("a name"),
        ..submission(txid, transfer)
    };
    let refused = gavel.coordinator.submit(stolen).await;
    let Outcome::Refused(refusal) = refused.outcome else {
        panic!("somebody else's outcome was told: {refused:?}")
    };
    assert_eq!(refusal.code, RefusalCode::NotYours);
    let books = gavel.sound_books().await;
    assert_eq!(books.marks.len(), 1, "I5: applied once");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn r8_abort_for_good_gives_certainty(#[values(Home::OnAShard, Home::Dedicated)] home: Home) {
    let gavel = Embedded::start(home, 2).await;
    let txid = gavel.mint(1);
    assert_eq!(
        gavel.coordinator.status(txid, None).await,
        Ok(Status::NoneYet)
    );
    let aborted = gavel.coordinator.abort(txid, Principal::local()).await;
    assert!(matches!(aborted, Outcome::Aborted(_)), "{aborted:?}");
    let late = gavel
        .submit(
            txid,
            bank::transfer(txid, (ShardTag(1), 1), (ShardTag(2), 1), 1),
        )
        .await;
    assert!(matches!(late.outcome, Outcome::Aborted(_)), "{late:?}");
    let done = gavel.transfer((1, 1), (2, 1), 1).await;
    let too_late = gavel.coordinator.abort(done.txid, Principal::local()).await;
    assert!(is_committed(&too_late), "{too_late:?}");
    gavel.sound_books().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dedicated_home_holds_only_decisions() {
    let gavel = Embedded::start(Home::Dedicated, 2).await;
    let answer = gavel.transfer((1, 1), (2, 1), 10).await;
    assert_eq!(answer.outcome, Outcome::Committed { applied: true });
    gavel.sound_books().await;
    let ask = |sql: &str| gavel.home_server(1).sql(bank::DATABASE, sql).unwrap();
    let decisions = ask("SELECT outcome FROM gavel.decision");
    assert_eq!(decisions, vec![vec![Some("commit".to_owned())]]);
    assert_eq!(ask("SELECT 1 FROM mark").len(), 0);
    let prepared = ask("SELECT 1 FROM gavel.branch");
    assert_eq!(prepared.len(), 0, "home never prepares");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_shard_alone_is_one_local_transaction() {
    let gavel = Embedded::start(Home::OnAShard, 1).await;
    let txid = gavel.mint(1);
    let mut work = bank::entry(txid, 1, -5);
    work.extend(bank::entry(txid, 2, 5));
    let answer = gavel
        .submit(
            txid,
            Transaction::new(vec![BranchWork::write(ShardTag(1), work)]),
        )
        .await;
    assert_eq!(answer.outcome, Outcome::Committed { applied: true });
    let branches = gavel
        .server(ShardTag(1))
        .sql(bank::DATABASE, "SELECT 1 FROM gavel.branch");
    assert_eq!(branches.unwrap().len(), 0, "nothing was prepared");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn r18_read_only_branches_are_not_prepared_and_return_rows(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 2).await;
    let txid = gavel.mint(1);
    let read = Statement::new("SELECT balance FROM account WHERE id = $1", ["7"])
        .expecting(Guard::RowsExactly(1));
    let transaction = Transaction::new(vec![
        BranchWork::write(
            ShardTag(1),
            vec![Statement::new("DELETE FROM late", [""; 0])],
        ),
        BranchWork::read(ShardTag(2), vec![read]),
    ]);
    let answer = gavel.submit(txid, transaction).await;
    assert_eq!(answer.outcome, Outcome::Committed { applied: true });
    let (shard, results) = &answer.results[1];
    assert_eq!(*shard, ShardTag(2));
    assert_eq!(results[0].rows, vec![vec![Some("1000".to_owned())]]);
    let branches = gavel
        .server(ShardTag(2))
        .sql(bank::DATABASE, "SELECT 1 FROM gavel.branch");
    assert_eq!(branches.unwrap().len(), 0);
    let writing = Transaction::new(vec![
        BranchWork::write(
            ShardTag(1),
            vec![Statement::new("DELETE FROM late", [""; 0])],
        ),
        BranchWork::read(
            ShardTag(2),
            vec![Statement::new("DELETE FROM late", [""; 0])],
        ),
    ]);
    let refused = gavel.submit(gavel.mint(1), writing).await;
    assert!(
        matches!(refused.outcome, Outcome::Aborted(_)),
        "{refused:?}"
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn many_clients_share_batches_and_every_one_gets_its_own_answer(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 2).await;
    let transfers = (0..400).map(|i: i64| {
        let gavel = &gavel;
        async move {
            // Every tenth lacks its payee; every tenth after that overdraws.
            let (payee, amount) = match i % 10 {
                0 => (9999, 1),
                5 => (i % bank::ACCOUNTS, 100_000),
                _ => (i % bank::ACCOUNTS, 1),
            };
            let (from, to) = if i % 2 == 0 { (1, 2) } else { (2, 1) };
            (
                i,
                gavel
                    .transfer((from, (i * 7) % bank::ACCOUNTS), (to, payee), amount)
                    .await,
            )
        }
    });
    let answers = futures::future::join_all(transfers).await;
    let books = gavel.sound_books().await;
    for (i, answer) in answers {
        match (i % 10, &answer.outcome) {
            (0 | 5, Outcome::Aborted(_)) => assert!(!books.has(answer.txid), "I4"),
            (0 | 5, other) => panic!("{i}: I10: expected its own abort, got {other:?}"),
            (_, Outcome::Committed { applied: true }) => assert!(books.has(answer.txid), "I4"),
            (_, Outcome::Refused(why)) => {
                assert!(why.is_retryable(), "{i}: {why}");
                assert!(!books.has(answer.txid), "I4");
            }
            (_, other) => panic!("{i}: I10: failed by a neighbour: {other:?}"),
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn r10_a_deferred_failure_finds_its_culprit(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 2).await;
    let good = |i: i64| (i, "INSERT INTO late VALUES ($1, 1)");
    let bad = |i: i64| (i, "INSERT INTO late VALUES ($1, 4711)");
    let submits = (0..24).map(|i| {
        let (id, sql) = if i % 8 == 3 { bad(i) } else { good(i) };
        let gavel = &gavel;
        async move {
            let insert = |sql| vec![Statement::new(sql, [id.to_string()])];
            let fine = "INSERT INTO late VALUES ($1, 1)";
            // The culprit sits at home for even, on the prepared shard for odd rounds.
            let (first, second) = if id < 12 { (fine, sql) } else { (sql, fine) };
            let transaction = Transaction::new(vec![
                BranchWork::write(ShardTag(1), insert(first)),
                BranchWork::write(ShardTag(2), insert(second)),
            ]);
            (id, gavel.submit(gavel.mint(1), transaction).await)
        }
    });
    for (id, answer) in futures::future::join_all(submits).await {
        match (id % 8 == 3, &answer.outcome) {
            (true, Outcome::Aborted(reason)) => {
                assert_eq!(reason.sqlstate.as_deref(), Some("23503"));
            }
            (false, Outcome::Committed { .. }) => {}
            (_, other) => panic!("{id}: {other:?}"),
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn bad_statements_are_told_apart_and_the_service_goes_on(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let limits = gavel_protocol::Limits {
        rows_per_statement_max: 20,
        ..Default::default()
    };
    let gavel = Embedded::start_with(home, 2, limits, |options| options).await;
    let run = |sql: &'static str, params: Vec<&'static str>| {
        let gavel = &gavel;
        async move {
            let bad = vec![Statement::new(sql, params)];
            let fine = vec![Statement::new("SELECT 1", [""; 0])];
            let transaction = Transaction::new(vec![
                BranchWork::write(ShardTag(1), fine),
                BranchWork::write(ShardTag(2), bad),
            ]);
            gavel.submit(gavel.mint(1), transaction).await.outcome
        }
    };
    let balance = "SELECT balance FROM account WHERE id = $1";
    for (sql, params, sqlstate) in [
        (balance, vec![], "08P01"),
        (balance, vec!["1", "2"], "08P01"),
        (balance, vec!["one"], "22P02"),
        ("SELEC 1", vec![], "42601"),
        ("SELECT * FROM nowhere", vec![], "42P01"),
        ("SELECT 1; SELECT 2", vec![], "42601"),
        ("INSERT INTO account VALUES (1, 1)", vec![], "23505"),
        ("SELECT * FROM gavel.decision", vec![], "42501"),
    ] {
        let outcome = run(sql, params).await;
        let Outcome::Aborted(reason) = &outcome else {
            panic!("{sql}: {outcome:?}")
        };
        assert_eq!(
            reason.sqlstate.as_deref(),
            Some(sqlstate),
            "{sql}: {reason}"
        );
        assert_eq!(reason.shard, Some(ShardTag(2)), "{sql}");
    }
    let at_the_limit = run("SELECT * FROM account LIMIT 20", vec![]).await;
    assert!(is_committed(&at_the_limit), "{at_the_limit:?}");
    let too_much = run("SELECT * FROM account LIMIT 21", vec![]).await;
    let Outcome::Aborted(reason) = &too_much else {
        panic!("{too_much:?}")
    };
    assert_eq!(reason.code, AbortCode::ResultTooLarge);
    let control = run("/* x */ COMMIT", vec![]).await;
    let Outcome::Refused(why) = &control else {
        panic!("{control:?}")
    };
    assert_eq!(why.code, RefusalCode::InvalidRequest);
    assert!(is_committed(
        &gavel.transfer((1, 1), (2, 1), 1).await.outcome
    ));
    gavel.sound_books().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn batches_stay_within_what_one_request_may_hold(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    // Room for two members with their parameters, not for three.
    let limits = gavel_protocol::Limits {
        request_bytes_max: 10_000,
        ..Default::default()
    };
    let gavel = Embedded::start_with(home, 2, limits, |options| options).await;
    let padding = "x".repeat(4_000);
    let submits = (0..40).map(|i: i64| {
        let padded = Statement::new("SELECT length($1)", [padding.as_str()]);
        let txid = gavel.mint(1);
        let mut transaction = bank::transfer(txid, (ShardTag(1), i), (ShardTag(2), i), 1);
        let branch = &mut transaction.branches[1];
        branch.statements = branch.statements.iter().cloned().chain([padded]).collect();
        gavel.submit(txid, transaction)
    });
    for answer in futures::future::join_all(submits).await {
        assert!(is_committed(&answer.outcome), "{answer:?}");
    }
    gavel.sound_books().await;
    let members = "SELECT count(*) FROM gavel.transaction GROUP BY batch ORDER BY 1 DESC";
    let sizes = gavel.home_server(1).sql(bank::DATABASE, members).unwrap();
    let fit = gavel.limits.batch_members_max.min(2).to_string();
    assert_eq!(sizes[0], [Some(fit)], "two fit, three do not");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn r9_a_txid_names_its_home_and_an_unknown_one_is_refused(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 2).await;
    let known = gavel.mint(1);
    assert_eq!(known.home(), gavel.home(1));
    let unknown = Txid::mint(known.unix_ms(), ShardTag(4711), [7; 16]);
    let transfer = bank::transfer(unknown, (ShardTag(1), 1), (ShardTag(2), 1), 1);
    let submitted = gavel.submit(unknown, transfer).await.outcome;
    let me = Principal::local();
    let aborted = gavel.coordinator.abort(unknown, me.clone()).await;
    for outcome in [submitted, aborted] {
        let Outcome::Refused(why) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(why.code, RefusalCode::UnknownHome);
    }
    let status = gavel.coordinator.status(unknown, Some(me)).await;
    assert_eq!(
        status.expect_err("nobody can know").code,
        RefusalCode::UnknownHome
    );
}
