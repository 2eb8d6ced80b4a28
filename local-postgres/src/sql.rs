//! Runs small pieces of SQL as the superuser.
//!
//! On a thread of its own: the caller may or may not be inside an async runtime, and a runtime
//! cannot be started inside another.

use std::thread;

use tokio_postgres::{NoTls, SimpleQueryMessage};

/// One row: the columns as text, `None` for NULL.
pub(crate) type Row = Vec<Option<String>>;

/// Runs statements separated by semicolons and gives all their rows.
pub(crate) fn run(url: &str, statements: &str) -> Result<Vec<Row>, Box<tokio_postgres::Error>> {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime
                .expect("a current-thread runtime can be built")
                .block_on(query(url, statements))
        });
        worker.join().expect("the SQL thread does not panic")
    })
    .map_err(Box::new)
}

async fn query(url: &str, statements: &str) -> Result<Vec<Row>, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let connection = tokio::spawn(connection);
    let messages = client.simple_query(statements).await?;
    drop(client);
    // Waiting for the goodbye keeps DROP DATABASE right after this from meeting our own session.
    let _closed = connection.await;
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(
            (0..row.len())
                .map(|i| row.get(i).map(str::to_owned))
                .collect(),
        ),
        _ => None,
    });
    Ok(rows.collect())
}
