//! R15: a participant knows which drivers are there, and each side hears when the other goes.

use std::net::SocketAddr;
use std::sync::Arc;

use gavel_participant::api::{Attendance, Participant};
use gavel_protocol::Limits;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::recorder::Recorder;
use crate::server::{Server, client_of};
use crate::{PATIENCE, SHARD, values};

async fn attended(recorder: &Recorder, remote: &dyn Participant) -> Arc<dyn Attendance> {
    let attendance = remote.attend(values::driver()).await.unwrap();
    // The answer to `attend` comes after the participant knows: no waiting here.
    assert_eq!(recorder.seen().attending, [values::driver()]);
    attendance
}

async fn lost(attendance: &dyn Attendance) {
    tokio::time::timeout(PATIENCE, attendance.lost())
        .await
        .expect("the driver hears that it is alone");
}

#[tokio::test]
async fn r15_a_dropped_attendance_is_seen_by_the_participant() {
    let limits = Limits::default();
    let recorder = Recorder::open(SHARD);
    let server = Server::start(recorder.clone(), &limits).await;
    let remote = server.client(SHARD, &limits);
    let attendance = attended(&recorder, &remote).await;
    // The connection stays up and in use: it is the stream that counts.
    assert!(remote.identity().await.is_ok());
    assert_eq!(recorder.seen().attending, [values::driver()]);
    drop(attendance);
    recorder
        .wait("the driver is gone", |seen| seen.attending.is_empty())
        .await;
    assert!(remote.identity().await.is_ok());
}

#[tokio::test]
async fn r15_a_driver_whose_server_died_hears_it_and_can_attend_again() {
    let limits = Limits::default();
    let recorder = Recorder::open(SHARD);
    let server = Server::start(recorder.clone(), &limits).await;
    let address = server.address;
    let remote = server.client(SHARD, &limits);
    let attendance = attended(&recorder, &remote).await;
    server.kill();
    lost(attendance.as_ref()).await;

    let successor = Recorder::open(SHARD);
    let _server = Server::start_at(address, successor.clone(), &limits).await;
    let _attendance = attended(&successor, &remote).await;
}

#[tokio::test]
async fn r15_an_orderly_shutdown_ends_attendances_too() {
    let limits = Limits::default();
    let recorder = Recorder::open(SHARD);
    let server = Server::start(recorder.clone(), &limits).await;
    let remote = server.client(SHARD, &limits);
    let attendance = attended(&recorder, &remote).await;
    server.shutdown.cancel();
    lost(attendance.as_ref()).await;
    recorder
        .wait("the driver is gone", |seen| seen.attending.is_empty())
        .await;
}

#[tokio::test]
async fn r15_a_connection_that_falls_silent_is_noticed_by_both_sides() {
    let limits = Limits::default();
    let recorder = Recorder::open(SHARD);
    let server = Server::start(recorder.clone(), &limits).await;
    let cable = Cable::to(server.address).await;
    let remote = client_of(cable.address, SHARD, &limits);
    let attendance = attended(&recorder, &remote).await;

    cable.cut();
    lost(attendance.as_ref()).await;
    recorder
        .wait("the driver is gone", |seen| seen.attending.is_empty())
        .await;
}

/// Carries connections to a server until it is cut: then nothing passes, and nothing is closed,
/// as when a machine loses power.
struct Cable {
    address: SocketAddr,
    is_cut: watch::Sender<bool>,
}

impl Cable {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let is_cut = watch::Sender::new(false);
        let mut cut = is_cut.subscribe();
        tokio::spawn(async move {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = TcpStream::connect(server).await.unwrap();
            tokio::select! {
                _ = copy_bidirectional(&mut near, &mut far) => {}
                _ = cut.wait_for(|cut| *cut) => {}
            }
            // Both sockets stay open, and silent, for as long as the test runs.
            std::future::pending::<()>().await;
        });
        Self { address, is_cut }
    }

    fn cut(&self) {
        self.is_cut.send_replace(true);
    }
}
