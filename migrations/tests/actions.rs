//! What operators did is on record, with who and why, and stays so.

mod common;

use common::{PARTICIPANT, Shard, run, sqlstate, text};
use sqlx::Row as _;

#[tokio::test]
async fn what_operators_do_says_who_and_why() {
    let shard = Shard::start().await;
    let mut admin = shard.admin().await;
    let mut participant = shard.participant().await;
    for nothing in ["''", "' '", "NULL"] {
        for call in ["new_incarnation", "retire"] {
            let called = run(&mut admin, &format!("SELECT gavel.{call}({nothing})")).await;
            assert_eq!(sqlstate(called), "22023", "{call}({nothing})");
        }
        let note = format!("SELECT gavel.note_action('x', {nothing})");
        assert_eq!(sqlstate(run(&mut participant, &note).await), "22023");
    }
    let damaged = "SELECT gavel.record_damage(gen_random_uuid(), NULL, 'undecided_applied', 'x')";
    run(&mut participant, damaged).await.expect("damage");
    let born = text(&mut admin, "gavel.new_incarnation('restored')").await;
    assert_eq!(born.as_deref(), Some("2"), "none began without a reason");
    let acknowledge = "SELECT gavel.acknowledge_damage(1, 'booked again')";
    run(&mut admin, acknowledge).await.expect("acknowledged");
    for call in [
        "note_action('retention run', 'disk')",
        "remove_peer(3, 'merged')",
        "retire('moved')",
    ] {
        let called = run(&mut participant, &format!("SELECT gavel.{call}")).await;
        called.expect(call);
    }
    let rows = sqlx::query("SELECT by, what, because FROM gavel.list_actions()");
    let rows = rows.fetch_all(&mut participant).await.expect("a list");
    let found: Vec<[String; 3]> = rows
        .iter()
        .map(|row| [0, 1, 2].map(|column| row.get(column)))
        .collect();
    let administrator = text(&mut admin, "session_user").await.expect("a name");
    let by_admin = |what: &str, why: &str| [administrator.as_str(), what, why].map(str::to_owned);
    let by_participant = |what: &str, why: &str| [PARTICIPANT, what, why].map(str::to_owned);
    assert_eq!(
        found,
        [
            by_admin("new incarnation: 2", "restored"),
            by_admin("damage acknowledged: 1", "booked again"),
            by_participant("retention run", "disk"),
            by_participant("shard removed: 3", "merged"),
            by_participant("retired", "moved"),
        ]
    );
    for change in [
        "UPDATE gavel.action SET because = 'another'",
        "DELETE FROM gavel.action",
        "TRUNCATE gavel.action",
    ] {
        assert_eq!(sqlstate(run(&mut admin, change).await), "55000", "{change}");
    }
}
