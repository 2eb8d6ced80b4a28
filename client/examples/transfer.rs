//! Moves 100 from one shard to another, against `gavel dev`:
//!
//! ```sh
//! gavel dev &
//! cargo run -p gavel-client --example transfer -- http://127.0.0.1:7400
//! ```

use gavel_client::{Gavel, Outcome, params};

const UP: &str = "create table if not exists example_account \
                  (id text primary key, balance bigint not null)";
const OPEN: &str = "insert into example_account values ($1, 1000) on conflict do nothing";
const TAKE: &str = "update example_account set balance = balance - $1 \
                    where id = $2 and balance >= $1 returning balance";
const GIVE: &str = "update example_account set balance = balance + $1 where id = $2";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let gavel = Gavel::connect([address.unwrap_or("http://127.0.0.1:7400".into())]).await?;
    let shards: Vec<String> = gavel
        .shards()
        .iter()
        .map(|(_, name)| name.to_string())
        .collect();
    let [payer, payee, ..] = shards.as_slice() else {
        return Err("this example needs two shards".into());
    };

    for (shard, id) in [(payer, "alice"), (payee, "bob")] {
        let table = gavel.transaction().on(shard).execute(UP, params![]);
        table.submit().await?.into_committed()?;
        let account = gavel.transaction().on(shard).execute(OPEN, params![id]);
        account.submit().await?.into_committed()?;
    }

    let outcome = gavel
        .transaction()
        .on(payer)
        .execute(TAKE, params![100, "alice"])
        .expect_rows(1)
        .on(payee)
        .execute(GIVE, params![100, "bob"])
        .expect_rows(1)
        .submit()
        .await?;
    match &outcome {
        Outcome::Committed(committed) => {
            println!("committed: {}", committed.txid);
            if let Some(row) = committed.rows(payer, 0).and_then(|rows| rows.first()) {
                println!("alice has {} left", row.get::<i64>("balance")?);
            }
        }
        Outcome::Aborted { reason, .. } if reason.is_at(payer, 0) => {
            println!("alice has not enough: nothing happened on either shard");
        }
        other => println!("{other}"),
    }
    println!("recorded: {:?}", gavel.status(outcome.txid()).await?);
    Ok(())
}
