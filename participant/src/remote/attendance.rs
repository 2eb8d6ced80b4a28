//! A driver's presence at a remote participant (R15).

use gavel_protocol::DriverId;
use gavel_wire::addressed::Addressed;
use gavel_wire::convert;
use gavel_wire::participant as wire;
use gavel_wire::participant::attend_event::Event;
use tokio::task::AbortHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Streaming;

use super::RemoteParticipant;
use super::call::NoAnswer;
use crate::api::Attendance;

/// Holds the stream open. Dropping it resets the stream, which the participant hears at once.
pub(super) struct RemoteAttendance {
    lost: CancellationToken,
    watcher: AbortHandle,
}

impl Attendance for RemoteAttendance {
    fn lost(&self) -> WaitForCancellationFutureOwned {
        self.lost.clone().cancelled_owned()
    }
}

impl Drop for RemoteAttendance {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl RemoteParticipant {
    /// Opens the stream and waits until the participant says that it knows the driver.
    pub(super) async fn open_attendance(
        &self,
        driver: DriverId,
    ) -> Result<RemoteAttendance, NoAnswer> {
        let deadline = self.deadlines.service;
        let stream = tokio::time::timeout(deadline, self.announced(driver))
            .await
            .map_err(|_| self.late(deadline))??;
        let lost = CancellationToken::new();
        // The guard goes with the task, however it ends: by the stream's end or by abort.
        let guard = lost.clone().drop_guard();
        let watcher = tokio::spawn(async move {
            let _guard = guard;
            wait_for_end(stream).await;
        })
        .abort_handle();
        Ok(RemoteAttendance { lost, watcher })
    }

    async fn announced(&self, driver: DriverId) -> Result<Streaming<wire::AttendEvent>, NoAnswer> {
        let mut request = wire::AttendRequest {
            shard: None,
            driver: convert::id_bytes(driver.0),
        };
        request.stamp(self.tag);
        let mut stream = self
            .client
            .clone()
            .attend(request)
            .await
            .map_err(|status| self.classify(&status))?
            .into_inner();
        let first = stream
            .message()
            .await
            .map_err(|status| self.classify(&status))?;
        match first {
            Some(event) if event.is_of(self.tag) && is_attending(&event) => Ok(stream),
            Some(_) | None => Err(self.misplaced("the stream did not begin with `attending`")),
        }
    }
}

fn is_attending(event: &wire::AttendEvent) -> bool {
    matches!(event.event, Some(Event::Attending(wire::Empty {})))
}

/// Later events, of a newer participant, change nothing: only the end matters.
async fn wait_for_end(mut stream: Streaming<wire::AttendEvent>) {
    while let Ok(Some(_)) = stream.message().await {}
}
