//! Looks at a balance before it decides what to write, against `gavel dev`. Run the `transfer`
//! example first: it makes the accounts.
//!
//! ```sh
//! cargo run -p gavel-client --example interactive -- http://127.0.0.1:7400
//! ```

use gavel_client::{Gavel, Isolation, params};

const LOOK: &str = "select balance from example_account where id = $1 for update";
const ADD: &str = "update example_account set balance = balance + $1 where id = $2";

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

    let mut tx = gavel.begin_at(payer, Isolation::ReadCommitted).await?;
    let rows = tx.query(payer, LOOK, params!["alice"]).await?;
    let balance: i64 = rows
        .first()
        .ok_or("run the transfer example first")?
        .get("balance")?;
    let half = balance / 2;
    tx.execute(payer, ADD, params![-half, "alice"]).await?;
    tx.execute(payee, ADD, params![half, "bob"]).await?;
    let committed = tx.commit().await.into_committed()?;
    println!("{} moved half of {balance}: {half}", committed.txid);
    Ok(())
}
