//! One connection to PostgreSQL.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use gavel_protocol::outcome::Column;
use postgres_protocol::message::backend::{DataRowBody, Message, RowDescriptionBody};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::inbound::{Inbound, Received};
use super::pipeline::{Columns, Pipeline, ResultLimit, Step};
use super::reply::{Reply, Segment, ServerError, TransactionStatus};

/// Statements prepared per connection before they are forgotten together. A client that sends
/// ever new texts must not grow the server's memory.
const CACHED_STATEMENTS_MAX: usize = 512;

/// `DISCARD ALL` without forgetting the prepared statements: settings, role, session locks,
/// temporary tables (a later query would take one for the real table) and cursors (R11).
const RESET: &str = "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; \
     SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES";

/// The connection is gone; what was under way on it is unknown.
#[derive(Debug, thiserror::Error)]
#[error("the connection to PostgreSQL was lost")]
pub struct Lost(#[source] pub io::Error);

pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + Sync> Stream for S {}

/// The statements that this connection has prepared, by text.
#[derive(Debug, Default)]
pub(super) struct StatementCache {
    statements: HashMap<String, Prepared>,
    minted: AtomicU64,
}

#[derive(Debug)]
struct Prepared {
    name: String,
    columns: Option<Arc<[Column]>>,
}

impl StatementCache {
    pub(super) fn name(&self, sql: &str) -> Option<&str> {
        let prepared = self.statements.get(sql)?;
        Some(&prepared.name)
    }

    /// Its columns, once they have been described; none if it returns no rows.
    pub(super) fn columns(&self, sql: &str) -> Option<Arc<[Column]>> {
        self.statements.get(sql)?.columns.clone()
    }

    fn note_columns(&mut self, sql: &str, columns: &[Column]) {
        if let Some(prepared) = self.statements.get_mut(sql) {
            prepared.columns = Some(columns.into());
        }
    }

    pub(super) fn fresh_name(&self) -> String {
        format!("g{}", self.minted.fetch_add(1, Ordering::Relaxed))
    }
}

/// One connection. Whoever holds it has it to itself: no statement shares it with others' work,
/// so a statement that waits for a lock delays nobody else.
pub struct Connection {
    stream: Box<dyn Stream>,
    inbound: Inbound,
    cache: StatementCache,
    status: TransactionStatus,
    usable: bool,
    /// What was sent behind the last exchange, and is answered by nothing that anybody waits for.
    owed: Vec<Step>,
    /// A prepared statement went stale: the next user gets a new connection.
    stale: bool,
}

impl Connection {
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        Self {
            stream,
            inbound: Inbound::new(),
            cache: StatementCache::default(),
            status: TransactionStatus::Idle,
            usable: true,
            owed: Vec::new(),
            stale: false,
        }
    }

    /// A new pipeline for this connection.
    pub fn pipeline(&self) -> Pipeline<'_> {
        Pipeline::new(&self.cache)
    }

    /// Whether the connection can be handed to the next user: it is alive, nothing is under way
    /// on it, and no transaction is open.
    pub fn is_reusable(&self) -> bool {
        self.usable && !self.stale && self.status == TransactionStatus::Idle
    }

    /// Builds a pipeline and exchanges it.
    pub async fn run(
        &mut self,
        build: impl FnOnce(&mut Pipeline<'_>),
    ) -> Result<Vec<Segment>, Lost> {
        self.settle().await?;
        let mut pipeline = self.pipeline();
        build(&mut pipeline);
        let messages = pipeline.finish();
        self.exchange(messages, Wanted::AllSegments).await
    }

    /// Sends the messages and reads up to the last Sync's answer. If the future is dropped half
    /// way, the connection is not used again.
    async fn exchange(
        &mut self,
        messages: io::Result<(BytesMut, Vec<Step>)>,
        wanted: Wanted,
    ) -> Result<Vec<Segment>, Lost> {
        if !self.usable {
            return Err(Lost(io::Error::other("the connection was lost before")));
        }
        let (buffer, steps) = messages.map_err(Lost)?;
        self.usable = false;
        let (mut reading, mut writing) = tokio::io::split(&mut self.stream);
        let write = async {
            writing.write_all(&buffer).await?;
            writing.flush().await
        };
        let mut reader = Reader {
            stream: &mut reading,
            inbound: &mut self.inbound,
            cache: &mut self.cache,
            steps: steps.into_iter().peekable(),
        };
        // Written and read at once: a server that cannot get rid of its answers stops reading.
        let (_, segments) = tokio::try_join!(write, reader.segments(wanted)).map_err(Lost)?;
        self.owed = reader.steps.collect();
        self.status = segments
            .last()
            .map_or(self.status, |segment| segment.status);
        let mut errors = segments.iter().filter_map(|segment| segment.error.as_ref());
        self.usable = !errors.clone().any(ServerError::ends_session);
        self.stale |= errors.any(ServerError::is_stale_statement);
        Ok(segments)
    }

    /// Sees to it that the connection is closed instead of being used again.
    pub fn discard(&mut self) {
        self.usable = false;
    }

    /// Runs the last segment of plain work and sends the reset of the session behind it (R11).
    /// The reset stands behind a Sync, so it cannot touch what the segment has done; nobody waits
    /// for it but the next user, in [`Self::settle`].
    pub async fn run_last(
        &mut self,
        build: impl FnOnce(&mut Pipeline<'_>),
    ) -> Result<Segment, Lost> {
        self.settle().await?;
        let mut pipeline = self.pipeline();
        build(&mut pipeline);
        pipeline.simple(RESET);
        let messages = pipeline.finish();
        let segments = self.exchange(messages, Wanted::FirstSegment).await?;
        let last = segments.into_iter().next();
        last.ok_or_else(|| Lost(io::ErrorKind::UnexpectedEof.into()))
    }

    /// Reads what the last user has left to be read: whether the session was reset. The
    /// connection is lost if it was not. Nothing is sent before this is known.
    pub async fn settle(&mut self) -> Result<(), Lost> {
        if self.owed.is_empty() || !self.usable {
            return Ok(());
        }
        self.usable = false;
        let mut reader = Reader {
            stream: &mut self.stream,
            inbound: &mut self.inbound,
            cache: &mut self.cache,
            steps: std::mem::take(&mut self.owed).into_iter().peekable(),
        };
        let segments = reader.segments(Wanted::AllSegments).await.map_err(Lost)?;
        if let Some(error) = segments.into_iter().find_map(|segment| segment.error) {
            return Err(Lost(io::Error::other(error)));
        }
        self.usable = true;
        if self.cache.statements.len() > CACHED_STATEMENTS_MAX {
            self.forget_statements().await?;
        }
        Ok(())
    }

    async fn forget_statements(&mut self) -> Result<(), Lost> {
        let mut pipeline = self.pipeline();
        pipeline.simple("DISCARD ALL");
        let messages = pipeline.finish();
        let segments = self.exchange(messages, Wanted::AllSegments).await?;
        self.cache.statements.clear();
        self.usable &= segments.iter().all(|segment| segment.error.is_none());
        Ok(())
    }

    /// Prepares the connection for its next user: settings are reset (R11), and the statement
    /// cache is emptied when it has grown too large.
    pub async fn reset(&mut self) -> Result<(), Lost> {
        if self.cache.statements.len() > CACHED_STATEMENTS_MAX {
            self.settle().await?;
            return self.forget_statements().await;
        }
        let segments = self
            .run(|pipeline| {
                pipeline.simple(RESET);
            })
            .await?;
        self.usable &= segments.iter().all(|segment| segment.error.is_none());
        Ok(())
    }
}

/// How much of what was sent somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    FirstSegment,
    AllSegments,
}

/// Reads the answers to one pipeline.
struct Reader<'c, R, I: Iterator<Item = Step>> {
    stream: &'c mut R,
    inbound: &'c mut Inbound,
    cache: &'c mut StatementCache,
    steps: std::iter::Peekable<I>,
}

impl<R: AsyncRead + Unpin, I: Iterator<Item = Step>> Reader<'_, R, I> {
    async fn segments(&mut self, wanted: Wanted) -> io::Result<Vec<Segment>> {
        let mut segments = Vec::new();
        while self.steps.peek().is_some() {
            segments.push(self.segment().await?);
            if wanted == Wanted::FirstSegment {
                break;
            }
        }
        Ok(segments)
    }

    /// Reads up to the next ReadyForQuery.
    async fn segment(&mut self) -> io::Result<Segment> {
        let mut segment = Segment {
            replies: Vec::new(),
            error: None,
            notices: Vec::new(),
            status: TransactionStatus::Idle,
        };
        let mut reply = Reply::default();
        let mut bytes_left = self.limit().bytes;
        loop {
            let message = match self.inbound.next(self.stream, bytes_left).await? {
                Received::Message(message) => message,
                Received::RowTooLarge => {
                    reply.too_large = true;
                    continue;
                }
            };
            match message {
                Message::ParseComplete => self.note_parsed(),
                Message::RowDescription(body) => {
                    reply.columns = columns(&body)?;
                    self.note_described(&reply.columns);
                }
                Message::NoData => self.note_described(&[]),
                Message::DataRow(body) => keep_row(&mut reply, &body, &mut bytes_left)?,
                Message::CommandComplete(body) => {
                    reply.tag = body.tag()?.to_owned();
                    self.end_statement(&mut reply, &mut segment);
                    bytes_left = self.limit().bytes;
                }
                Message::PortalSuspended => {
                    reply.too_large = true;
                    self.end_statement(&mut reply, &mut segment);
                    bytes_left = self.limit().bytes;
                }
                Message::EmptyQueryResponse => self.end_statement(&mut reply, &mut segment),
                Message::ErrorResponse(body) => {
                    let error = ServerError::parse(body.fields())?;
                    let ends_session = error.ends_session();
                    segment.error = Some(error);
                    if ends_session {
                        // No ReadyForQuery follows: the server closes the connection.
                        self.steps_to_end();
                        return Ok(segment);
                    }
                }
                Message::NoticeResponse(body) => {
                    segment.notices.push(ServerError::parse(body.fields())?);
                }
                Message::ReadyForQuery(body) => {
                    segment.status = status(body.status())?;
                    self.skip_to_next_segment();
                    return Ok(segment);
                }
                Message::CopyInResponse(_) | Message::CopyOutResponse(_) => {
                    return Err(io::Error::other("unexpected COPY"));
                }
                _ => {}
            }
        }
    }

    fn limit(&mut self) -> ResultLimit {
        match self.steps.peek() {
            Some(Step::Run { limit, .. }) => *limit,
            Some(Step::Simple | Step::Sync) | None => ResultLimit {
                rows: 0,
                bytes: usize::MAX,
            },
        }
    }

    fn note_parsed(&mut self) {
        if let Some(Step::Run { parsed, .. }) = self.steps.peek_mut()
            && let Some((sql, name)) = parsed.take()
        {
            let columns = None;
            self.cache
                .statements
                .insert(sql, Prepared { name, columns });
        }
    }

    fn note_described(&mut self, columns: &[Column]) {
        if let Some(Step::Run {
            columns: Columns::Described(sql),
            ..
        }) = self.steps.peek()
        {
            self.cache.note_columns(sql, columns);
        }
    }

    /// A simple query's step stays until its ReadyForQuery.
    fn end_statement(&mut self, reply: &mut Reply, segment: &mut Segment) {
        let step = self.steps.next_if(|step| matches!(step, Step::Run { .. }));
        if let Some(Step::Run {
            columns: Columns::Known(columns),
            ..
        }) = step
        {
            reply.columns = columns.to_vec();
        }
        segment.replies.push(std::mem::take(reply));
    }

    fn skip_to_next_segment(&mut self) {
        for step in self.steps.by_ref() {
            if matches!(step, Step::Sync | Step::Simple) {
                return;
            }
        }
    }

    fn steps_to_end(&mut self) {
        for _ in self.steps.by_ref() {}
    }
}

fn status(byte: u8) -> io::Result<TransactionStatus> {
    match byte {
        b'I' => Ok(TransactionStatus::Idle),
        b'T' => Ok(TransactionStatus::Open),
        b'E' => Ok(TransactionStatus::Failed),
        other => Err(io::Error::other(format!(
            "unknown transaction status {other}"
        ))),
    }
}

fn columns(body: &RowDescriptionBody) -> io::Result<Vec<Column>> {
    body.fields()
        .map(|field| {
            Ok(Column {
                name: field.name().to_owned(),
                type_oid: field.type_oid(),
            })
        })
        .collect()
}

fn keep_row(reply: &mut Reply, body: &DataRowBody, bytes_left: &mut usize) -> io::Result<()> {
    if body.buffer().len() > *bytes_left {
        reply.too_large = true;
    }
    if reply.too_large {
        return Ok(());
    }
    *bytes_left -= body.buffer().len();
    let text = |range: std::ops::Range<usize>| {
        let bytes = body.buffer().get(range).ok_or(io::ErrorKind::InvalidData)?;
        Ok::<_, io::Error>(String::from_utf8_lossy(bytes).into_owned())
    };
    let row = body
        .ranges()
        .map(|range| range.map(text).transpose())
        .collect()?;
    reply.rows.push(row);
    Ok(())
}
