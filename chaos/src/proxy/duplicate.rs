//! A late duplicate: the statements of a transaction, run once more on another connection.

use tokio_postgres::NoTls;

use super::session::Call;

/// How long a duplicate may wait for the rows that the original holds.
const LOCK_TIMEOUT_MS: u32 = 5_000;

/// Runs the statements as the participant's role. Gives what PostgreSQL refused them with: a
/// duplicate that succeeds is not wrong by itself, if the original then fails.
///
/// # Errors
/// The server's refusal.
pub async fn run_again(database_url: &str, calls: &[Call]) -> Result<(), tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(database_url, NoTls).await?;
    let connection = tokio::spawn(connection);
    let ended = run_all(&client, calls).await;
    drop(client);
    // The goodbye has been sent or the connection is gone: either way the session ends.
    let _closed = connection.await;
    ended
}

async fn run_all(
    client: &tokio_postgres::Client,
    calls: &[Call],
) -> Result<(), tokio_postgres::Error> {
    let timeout = format!("SET lock_timeout = {LOCK_TIMEOUT_MS}");
    client.batch_execute(&timeout).await?;
    for (number, call) in calls.iter().enumerate() {
        for text in texts(number, call) {
            client.batch_execute(&text).await?;
        }
    }
    Ok(())
}

/// Parameters become literals, which have no type either until the statement gives them one.
fn texts(number: usize, Call { sql, params }: &Call) -> Vec<String> {
    if params.is_empty() {
        return vec![sql.clone()];
    }
    let literals: Vec<String> = params
        .iter()
        .map(|param| literal(param.as_deref()))
        .collect();
    vec![
        format!("PREPARE again_{number} AS {sql}"),
        format!("EXECUTE again_{number}({})", literals.join(", ")),
    ]
}

fn literal(param: Option<&str>) -> String {
    match param {
        None => "NULL".to_owned(),
        // E'…' does not depend on standard_conforming_strings.
        Some(text) => format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_become_literals() {
        let call = Call {
            sql: "SELECT f($1, $2)".to_owned(),
            params: vec![Some("it's \\x07".to_owned()), None],
        };
        assert_eq!(
            texts(3, &call),
            [
                "PREPARE again_3 AS SELECT f($1, $2)",
                "EXECUTE again_3(E'it''s \\\\x07', NULL)"
            ]
        );
    }
}
