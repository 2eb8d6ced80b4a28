//! Runs small pieces of SQL as the superuser.
//!
//! On a thread of its own: the caller may or may not be inside an async runtime, and a runtime
//! cannot be started inside another.

use std::thread;

use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::options::check_name;
use crate::{Error, Server, data};

/// One row: the columns as text, `None` for NULL.
type Row = Vec<Option<String>>;

impl Server {
    /// Creates a database, unless it exists.
    ///
    /// # Errors
    /// [`Error::BadName`] unless `^[a-z][a-z0-9_]{0,62}$`, or the server's refusal.
    pub fn create_database(&self, name: &str) -> Result<(), Error> {
        check_name(name)?;
        let known = self.sql(
            "postgres",
            &format!("SELECT 1 FROM pg_database WHERE datname = '{name}'"),
        )?;
        if known.is_empty() {
            self.sql("postgres", &format!("CREATE DATABASE {name}"))?;
        }
        Ok(())
    }

    /// Creates a role that can log in, or gives an existing one a new password; gives the password.
    ///
    /// # Errors
    /// As [`Server::create_database`].
    pub fn create_login_role(&self, name: &str) -> Result<String, Error> {
        check_name(name)?;
        let password = data::random_password();
        let known = self.sql(
            "postgres",
            &format!("SELECT 1 FROM pg_roles WHERE rolname = '{name}'"),
        )?;
        let verb = if known.is_empty() { "CREATE" } else { "ALTER" };
        self.sql(
            "postgres",
            &format!("{verb} ROLE {name} LOGIN PASSWORD '{password}'"),
        )?;
        Ok(password)
    }

    /// Runs statements as the superuser and gives their rows, columns as text, NULL as `None`.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub fn sql(&self, database: &str, statements: &str) -> Result<Vec<Vec<Option<String>>>, Error> {
        run(&self.url(database), statements).map_err(|source| Error::Sql {
            name: self.name().to_owned(),
            source,
        })
    }
}

/// Runs statements separated by semicolons and gives all their rows.
fn run(url: &str, statements: &str) -> Result<Vec<Row>, Box<tokio_postgres::Error>> {
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
