//! One connection through a [`PgProxy`](super::PgProxy).
//!
//! Messages to the server are gathered up to the end of their segment (a Sync or a simple query),
//! which is what can be caught before it is executed. The answer to a segment that is a step is
//! gathered up to its ReadyForQuery, which is what can be caught before the participant hears it.

use std::collections::VecDeque;
use std::io;

use bytes::BytesMut;
use parking_lot::Mutex;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::frames::{Fields, Frame, Frames};
use super::gate::Direction;
use super::postgres::Shared;
use super::session::Session;
use super::step::Passage;
use super::trap::Order;

/// Codes in place of a protocol version: encryption is offered, or a query cancelled.
const SSL_REQUEST: i32 = 80_877_103;
const GSS_REQUEST: i32 = 80_877_104;
const CANCEL_REQUEST: i32 = 80_877_102;
/// What ends nothing is answered with this warning.
const NO_TRANSACTION: &str = "25P01";
/// PostgreSQL's own limit.
const START_UP_BYTES_MAX: usize = 10_000;

/// What both directions know of each other.
#[derive(Debug, Default)]
struct Both {
    /// One entry per segment whose ReadyForQuery has not come; the first is the start-up's.
    awaited: Mutex<VecDeque<Awaited>>,
    /// Both ends are to be closed.
    over: CancellationToken,
    /// The participant's end is closed; the server's is still in use.
    sender_severed: CancellationToken,
}

/// A segment that the server has not answered.
#[derive(Debug)]
enum Awaited {
    Step(Passage),
    /// Nothing that can be caught.
    Other,
    /// What the proxy itself has sent. The participant never hears the answer.
    Ours,
}

/// Carries one connection until either end closes it, or somebody cuts it.
pub(super) async fn serve(client: TcpStream, shared: &Shared) {
    // A connection that breaks is what this is for.
    let _broken = carry(client, shared).await;
}

async fn carry(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    let Some(start_up) = read_start_up(&mut client).await? else {
        return Ok(());
    };
    let mut server = TcpStream::connect(shared.target()).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    server.write_all(&start_up).await?;
    if code(&start_up) == Some(CANCEL_REQUEST) {
        return Ok(());
    }
    let both = Both::default();
    both.awaited.lock().push_back(Awaited::Other);
    let ((client_read, client_write), (server_read, server_write)) =
        (client.into_split(), server.into_split());
    let forth = async {
        // The server's end stays open until its answers are in.
        let keep = forth(client_read, server_write, shared, &both).await;
        if !matches!(keep, Ok(Some(_))) {
            return;
        }
        both.over.cancelled().await;
    };
    let back = async {
        let _broken = back(server_read, client_write, shared, &both).await;
        both.over.cancel();
    };
    tokio::join!(forth, back);
    Ok(())
}

/// Reads the packet that opens a session; offers of encryption are declined.
async fn read_start_up(client: &mut TcpStream) -> io::Result<Option<BytesMut>> {
    loop {
        let length = client.read_i32().await?;
        let size = usize::try_from(length).unwrap_or(0);
        if !(8..=START_UP_BYTES_MAX).contains(&size) {
            return Ok(None);
        }
        let mut packet = BytesMut::zeroed(size);
        packet[..4].copy_from_slice(&length.to_be_bytes());
        client.read_exact(&mut packet[4..]).await?;
        match code(&packet) {
            Some(SSL_REQUEST | GSS_REQUEST) => client.write_all(b"N").await?,
            _ => return Ok(Some(packet)),
        }
    }
}

fn code(packet: &[u8]) -> Option<i32> {
    let bytes = packet.get(4..8)?;
    Some(i32::from_be_bytes(bytes.try_into().ok()?))
}

/// From the participant to the server. Gives the server's end back if it must stay open.
async fn forth(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    both: &Both,
) -> io::Result<Option<OwnedWriteHalf>> {
    let mut frames = Frames::default();
    let mut session = Session::new(shared.shard, to.local_addr()?.port());
    let mut segment = BytesMut::new();
    loop {
        let frame = tokio::select! {
            frame = frames.next(&mut from) => frame,
            () = both.over.cancelled() => return Ok(None),
        };
        let Ok(Some(frame)) = frame else {
            to.shutdown().await?;
            return Ok(None);
        };
        segment.extend_from_slice(&frame.bytes);
        let passage = session.note(&frame);
        let is_end = matches!(frame.tag, b'S' | b'Q');
        // Passwords and the goodbye belong to no segment; a Flush wants its answers now.
        if !is_end && !matches!(frame.tag, b'p' | b'X' | b'H') {
            continue;
        }
        shared.gate.pass(Direction::Forth).await;
        let mut severed = false;
        if let Some(passage) = &passage {
            match hold_before(passage, shared, both).await {
                Order::Release => {}
                Order::Cut => {
                    both.over.cancel();
                    return Ok(None);
                }
                Order::SeverSender => severed = true,
                Order::LoseTransaction => {
                    both.awaited.lock().push_back(Awaited::Ours);
                    let mut rollback = BytesMut::new();
                    frontend::query("ROLLBACK", &mut rollback)?;
                    to.write_all(&rollback).await?;
                }
            }
            shared.witness.forwarded(passage);
        }
        if is_end {
            let awaited = passage.map_or(Awaited::Other, Awaited::Step);
            both.awaited.lock().push_back(awaited);
        }
        to.write_all(&segment).await?;
        segment.clear();
        if severed {
            return Ok(Some(to));
        }
    }
}

/// Holds a segment that somebody wants before it is executed. [`Order::SeverSender`] means that
/// it is to be delivered without its sender.
async fn hold_before(passage: &Passage, shared: &Shared, both: &Both) -> Order {
    let Some(step) = passage.point.before() else {
        return Order::Release;
    };
    let Some(mut orders) = shared.catch(step, passage) else {
        return Order::Release;
    };
    let mut order = next(&mut orders).await;
    if order != Order::SeverSender {
        return order;
    }
    both.sender_severed.cancel();
    while order == Order::SeverSender {
        order = next(&mut orders).await;
    }
    if order == Order::Cut {
        return Order::Cut;
    }
    Order::SeverSender
}

/// Whoever drops what it caught releases it.
async fn next(orders: &mut mpsc::UnboundedReceiver<Order>) -> Order {
    orders.recv().await.unwrap_or(Order::Release)
}

/// From the server to the participant.
async fn back(
    mut from: OwnedReadHalf,
    to: OwnedWriteHalf,
    shared: &Shared,
    both: &Both,
) -> io::Result<()> {
    let mut to = Some(to);
    let mut frames = Frames::default();
    let mut answer = Answer::default();
    loop {
        let frame = tokio::select! {
            frame = frames.next(&mut from) => frame,
            () = both.over.cancelled() => return Ok(()),
            () = both.sender_severed.cancelled(), if to.is_some() => {
                to = None;
                continue;
            }
        };
        let Ok(Some(frame)) = frame else {
            break;
        };
        answer.add(&frame);
        if frame.tag == b'Z' {
            let awaited = both.awaited.lock().pop_front();
            match awaited {
                Some(Awaited::Step(passage)) => {
                    if hold_after(&passage, &answer, shared).await == Order::Cut {
                        both.over.cancel();
                        return Ok(());
                    }
                }
                Some(Awaited::Ours) => answer.bytes.clear(),
                Some(Awaited::Other) | None => {}
            }
            answer.end();
        } else if matches!(
            both.awaited.lock().front(),
            Some(Awaited::Step(_) | Awaited::Ours)
        ) {
            continue;
        }
        shared.gate.pass(Direction::Back).await;
        match &mut to {
            Some(to) => to.write_all(&answer.bytes).await?,
            // The sender is gone, and its message has been answered: nothing more will come.
            None if both.awaited.lock().is_empty() => return Ok(()),
            None => {}
        }
        answer.bytes.clear();
    }
    if let Some(mut to) = to {
        to.write_all(&answer.bytes).await?;
        to.shutdown().await?;
    }
    Ok(())
}

/// What the server has answered and the participant has not heard.
#[derive(Debug, Default)]
struct Answer {
    bytes: BytesMut,
    /// Of the last statement that succeeded.
    tag: String,
    /// PostgreSQL warned that there was no transaction to end: then the tag says nothing.
    nothing_was_open: bool,
}

impl Answer {
    fn add(&mut self, frame: &Frame) {
        self.bytes.extend_from_slice(&frame.bytes);
        match frame.tag {
            b'N' => self.nothing_was_open |= has_code(&frame.body(), NO_TRANSACTION),
            b'C' if self.nothing_was_open => self.tag.clear(),
            b'C' => self.tag = Fields(frame.body()).text().unwrap_or_default(),
            b'E' => self.tag.clear(),
            _ => {}
        }
    }

    /// Forgets what the segment has told, but not what the participant has yet to hear.
    fn end(&mut self) {
        self.tag.clear();
        self.nothing_was_open = false;
    }
}

/// Whether a notice has this SQLSTATE, which is a field of its own.
fn has_code(body: &[u8], code: &str) -> bool {
    let mut fields = body.split(|byte| *byte == 0);
    fields.any(|field| field.strip_prefix(b"C") == Some(code.as_bytes()))
}

/// Holds an answer that somebody wants before the participant hears it.
async fn hold_after(passage: &Passage, answer: &Answer, shared: &Shared) -> Order {
    let succeeded = passage.point.tag().is_none_or(|tag| tag == answer.tag);
    shared.witness.answered(passage, succeeded);
    let caught = succeeded
        .then(|| shared.catch(passage.point.after(), passage))
        .flatten();
    let order = match caught {
        Some(mut orders) => next(&mut orders).await,
        None => Order::Release,
    };
    match order {
        // It is too late to lose what has been answered.
        Order::Release | Order::LoseTransaction => {
            if succeeded {
                shared.witness.delivered(passage);
            }
            Order::Release
        }
        // The participant has nothing more to say on a connection that answers it.
        Order::Cut | Order::SeverSender => Order::Cut,
    }
}
