//! A pipeline under construction.

use std::io;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use gavel_protocol::outcome::Column;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;

use super::connection::StatementCache;

/// How much a statement may return; 0 rows means no limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct ResultLimit {
    pub(super) rows: i32,
    pub(super) bytes: usize,
}

/// What the reader must expect for each statement of the pipeline.
#[derive(Debug)]
pub(super) enum Step {
    /// A statement.
    Run {
        /// The text and name that a ParseComplete adds to the cache.
        parsed: Option<(String, String)>,
        columns: Columns,
        limit: ResultLimit,
    },
    /// A simple query, which brings its own Sync.
    Simple,
    /// A Sync.
    Sync,
}

/// What a statement's columns are known from.
#[derive(Debug)]
pub(super) enum Columns {
    /// Nobody asked.
    Unasked,
    /// A Describe was sent; the answer goes into the cache under the statement's text.
    Described(String),
    /// An earlier Describe. PostgreSQL refuses a prepared statement whose columns have changed
    /// since ("cached plan must not change result type", `plancache.c`).
    Known(Arc<[Column]>),
}

/// Messages to be sent together. The caller places the Syncs: a step of the protocol that must
/// read before it goes on ends its pipeline there (R3).
#[derive(Debug)]
pub struct Pipeline<'a> {
    cache: &'a StatementCache,
    pending: Vec<(String, String)>,
    pub(super) buffer: BytesMut,
    pub(super) steps: Vec<Step>,
    broken: Option<io::Error>,
}

const BINARY_NEVER: [i16; 0] = [];

impl<'a> Pipeline<'a> {
    pub(super) fn new(cache: &'a StatementCache) -> Self {
        Self {
            cache,
            pending: Vec::new(),
            buffer: BytesMut::with_capacity(4096),
            steps: Vec::new(),
            broken: None,
        }
    }

    /// Runs one of Gavel's own statements, prepared once per connection.
    pub fn run(&mut self, sql: &str, params: &[Option<String>]) -> &mut Self {
        self.execute(
            sql,
            params,
            ResultLimit {
                rows: 0,
                bytes: usize::MAX,
            },
            false,
        )
    }

    /// Runs a client's statement: its columns are described, and its result is limited to
    /// `rows_max` rows and `bytes_max` bytes.
    pub fn run_limited(
        &mut self,
        sql: &str,
        params: &[Option<String>],
        rows_max: usize,
        bytes_max: usize,
    ) -> &mut Self {
        // One more than allowed: PostgreSQL suspends a portal at exactly its limit.
        let rows = i32::try_from(rows_max.saturating_add(1)).unwrap_or(i32::MAX);
        self.execute(
            sql,
            params,
            ResultLimit {
                rows,
                bytes: bytes_max,
            },
            true,
        )
    }

    /// Runs a statement whose text is never repeated (a gid is a literal, facts 8), so that it
    /// does not fill the cache.
    pub fn run_once(&mut self, sql: &str) -> &mut Self {
        let limit = ResultLimit {
            rows: 0,
            bytes: usize::MAX,
        };
        self.write(|buffer| frontend::parse("", sql, [], buffer));
        self.bind_and_execute("", &[], limit, false);
        self.steps.push(Step::Run {
            parsed: None,
            columns: Columns::Unasked,
            limit,
        });
        self
    }

    /// Runs a text as a simple query, with a Sync of its own. COMMIT PREPARED and ROLLBACK
    /// PREPARED must stand alone (facts 8).
    pub fn simple(&mut self, sql: &str) -> &mut Self {
        self.write(|buffer| frontend::query(sql, buffer));
        self.steps.push(Step::Simple);
        self
    }

    /// Ends a segment.
    pub fn sync(&mut self) -> &mut Self {
        frontend::sync(&mut self.buffer);
        self.steps.push(Step::Sync);
        self
    }

    pub(super) fn finish(self) -> io::Result<(BytesMut, Vec<Step>)> {
        match self.broken {
            None => Ok((self.buffer, self.steps)),
            Some(error) => Err(error),
        }
    }

    fn execute(
        &mut self,
        sql: &str,
        params: &[Option<String>],
        limit: ResultLimit,
        describe: bool,
    ) -> &mut Self {
        let (name, parsed) = self.statement(sql);
        let columns = match self.cache.columns(sql) {
            _ if !describe => Columns::Unasked,
            Some(columns) => Columns::Known(columns),
            None => Columns::Described(sql.to_owned()),
        };
        let asks = matches!(columns, Columns::Described(_));
        self.bind_and_execute(&name, params, limit, asks);
        self.steps.push(Step::Run {
            parsed,
            columns,
            limit,
        });
        self
    }

    /// The name of a prepared statement for `sql`, parsing it if this connection has not.
    fn statement(&mut self, sql: &str) -> (String, Option<(String, String)>) {
        if let Some(name) = self.cache.name(sql) {
            return (name.to_owned(), None);
        }
        if let Some((_, name)) = self.pending.iter().find(|(text, _)| text == sql) {
            return (name.clone(), None);
        }
        let name = self.cache.fresh_name();
        self.write(|buffer| frontend::parse(&name, sql, [], buffer));
        let entry = (sql.to_owned(), name.clone());
        self.pending.push(entry.clone());
        (name, Some(entry))
    }

    fn bind_and_execute(
        &mut self,
        name: &str,
        params: &[Option<String>],
        limit: ResultLimit,
        describe: bool,
    ) {
        self.write(|buffer| {
            let serialize = |param: &Option<String>, buffer: &mut BytesMut| match param {
                None => Ok(IsNull::Yes),
                Some(text) => {
                    buffer.put_slice(text.as_bytes());
                    Ok(IsNull::No)
                }
            };
            frontend::bind(
                "",
                name,
                BINARY_NEVER,
                params,
                serialize,
                BINARY_NEVER,
                buffer,
            )
            .map_err(|error| match error {
                frontend::BindError::Conversion(error) => io::Error::other(error),
                frontend::BindError::Serialization(error) => error,
            })?;
            if describe {
                frontend::describe(b'P', "", buffer)?;
            }
            frontend::execute("", limit.rows, buffer)
        });
    }

    fn write(&mut self, write: impl FnOnce(&mut BytesMut) -> io::Result<()>) {
        if self.broken.is_none() {
            self.broken = write(&mut self.buffer).err();
        }
    }
}
