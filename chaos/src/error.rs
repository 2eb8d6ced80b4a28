//! Why a run could not be carried out. What it found is no error: that is in its report.

use std::io;

/// The run did not happen, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ChaosError {
    /// The deployment.
    #[error("the deployment failed")]
    Dev(#[from] gavel_devkit::Error),
    /// A server.
    #[error("a PostgreSQL server failed")]
    Server(#[from] local_postgres::Error),
    /// A proxy.
    #[error("a proxy could not be opened")]
    Proxy(#[source] io::Error),
    /// The history's file.
    #[error("the history could not be written")]
    History(#[source] io::Error),
    /// A file or folder.
    #[error("cannot write {what}")]
    Write {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A client.
    #[error("no coordinator could be reached")]
    Client(#[source] gavel_client::ConnectError),
    /// A statement of a nemesis.
    #[error("a statement failed")]
    Sql(#[from] tokio_postgres::Error),
    /// A thread.
    #[error("a part of the run panicked")]
    Panicked(#[source] tokio::task::JoinError),
    /// The deployment never worked.
    #[error("{0}")]
    NeverWorked(String),
}
