//! The stream that stands for a driver's presence (R15).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use gavel_protocol::ShardTag;
use gavel_wire::participant as wire;
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

use crate::api::Attendance;

/// Says `attending` once and then nothing. Owning the attendance, it ends it when it is
/// dropped, which is when the client is gone.
pub struct AttendStream {
    announce: Option<wire::AttendEvent>,
    lost: Pin<Box<WaitForCancellationFutureOwned>>,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
    _attendance: Arc<dyn Attendance>,
}

impl AttendStream {
    /// The stream of a driver that the participant knows of now.
    pub(super) fn new(
        shard: ShardTag,
        attendance: Arc<dyn Attendance>,
        shutdown: &CancellationToken,
    ) -> Self {
        let attending = wire::attend_event::Event::Attending(wire::Empty {});
        Self {
            announce: Some(wire::AttendEvent {
                shard: Some(u32::from(shard.0)),
                event: Some(attending),
            }),
            lost: Box::pin(attendance.lost()),
            shutdown: Box::pin(shutdown.clone().cancelled_owned()),
            _attendance: attendance,
        }
    }
}

impl Stream for AttendStream {
    type Item = Result<wire::AttendEvent, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(event) = self.announce.take() {
            return Poll::Ready(Some(Ok(event)));
        }
        let is_over =
            self.lost.as_mut().poll(cx).is_ready() || self.shutdown.as_mut().poll(cx).is_ready();
        if is_over {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }
}
