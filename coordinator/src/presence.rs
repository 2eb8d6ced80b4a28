//! Being present at every participant, and knowing who the shards are.
//!
//! One task per participant holds this driver's attendance and takes it up again when it is
//! lost (R15). It also learns the shard's identity, whose incarnation goes into every gid (R13).

use std::collections::HashMap;
use std::sync::Arc;

use gavel_participant::{Attendance, Directory, Participant};
use gavel_protocol::message::ShardIdentity;
use gavel_protocol::{DriverId, Limits, Refusal, RefusalCode, ShardTag};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::backoff;

/// What is known of the shards. Cheap to clone.
#[derive(Clone)]
pub struct Presence(Arc<Shared>);

struct Shared {
    driver: DriverId,
    limits: Limits,
    leave: CancellationToken,
    known: RwLock<HashMap<ShardTag, ShardIdentity>>,
    attended: RwLock<HashMap<ShardTag, bool>>,
    attending: Mutex<HashMap<ShardTag, Attending>>,
}

/// The task that is present at a participant.
struct Attending {
    participant: Arc<dyn Participant>,
    stop: CancellationToken,
    /// Ends the pause before the next attempt.
    hurry: Arc<Notify>,
}

impl Presence {
    /// Starts to attend at every participant of the directory.
    pub fn start(
        directory: &Directory,
        driver: DriverId,
        limits: &Limits,
        leave: &CancellationToken,
    ) -> Self {
        let presence = Self(Arc::new(Shared {
            driver,
            limits: limits.clone(),
            leave: leave.clone(),
            known: RwLock::default(),
            attended: RwLock::default(),
            attending: Mutex::default(),
        }));
        presence.follow(directory);
        presence
    }

    /// Attends at those that are new in the directory, and leaves those that are gone. One that
    /// was replaced, because its address has changed, is another one.
    pub fn follow(&self, directory: &Directory) {
        let mut attending = self.0.attending.lock();
        attending.retain(|tag, old| {
            let stays = directory
                .shard(*tag)
                .is_some_and(|now| Arc::ptr_eq(&now, &old.participant));
            if !stays {
                old.stop.cancel();
                self.0.attended.write().remove(tag);
                self.0.known.write().remove(tag);
            }
            stays
        });
        for (tag, participant) in directory.iter() {
            let entry = attending.entry(tag);
            entry.or_insert_with(|| self.start_attending(tag, participant));
        }
    }

    fn start_attending(&self, tag: ShardTag, participant: Arc<dyn Participant>) -> Attending {
        self.0.attended.write().insert(tag, false);
        let stop = self.0.leave.child_token();
        let hurry = Arc::new(Notify::new());
        let (presence, stopped, at) = (self.clone(), stop.clone(), participant.clone());
        let hurried = Arc::clone(&hurry);
        tokio::spawn(async move {
            let keep = presence.keep_attending(tag, at, hurried);
            stopped.run_until_cancelled(keep).await;
        });
        Attending {
            participant,
            stop,
            hurry,
        }
    }

    /// Whoever waits before he tries again to attend there tries now.
    pub fn hurry(&self, tag: ShardTag) {
        if let Some(attending) = self.0.attending.lock().get(&tag) {
            attending.hurry.notify_waiters();
        }
    }

    async fn keep_attending(
        &self,
        tag: ShardTag,
        participant: Arc<dyn Participant>,
        hurry: Arc<Notify>,
    ) {
        let mut attempt = 0;
        loop {
            tokio::select! {
                () = tokio::time::sleep(backoff::pause(attempt, &self.0.limits)) => {}
                () = hurry.notified() => {}
            }
            attempt += 1;
            match self.attend(tag, &participant).await {
                Ok(attendance) => {
                    attempt = 1;
                    attendance.lost().await;
                    self.0.attended.write().insert(tag, false);
                    tracing::warn!(shard = %tag, "lost sight of the participant");
                }
                Err(error) if attempt == 1 || attempt % 20 == 0 => {
                    tracing::warn!(shard = %tag, %error, "cannot attend at the participant");
                }
                Err(_) => {}
            }
        }
    }

    async fn attend(
        &self,
        tag: ShardTag,
        participant: &Arc<dyn Participant>,
    ) -> Result<Arc<dyn Attendance>, gavel_participant::Unavailable> {
        let attendance = participant.attend(self.0.driver).await?;
        let identity = participant.identity().await?;
        if identity.tag != tag {
            let detail = format!("its participant says that it is shard {}", identity.tag);
            tracing::error!(shard = %tag, "{detail}: check the participants' addresses");
            return Err(gavel_participant::Unavailable { shard: tag, detail });
        }
        self.0.known.write().insert(tag, identity);
        self.0.attended.write().insert(tag, true);
        Ok(attendance)
    }

    /// Who a shard is, as far as this coordinator knows.
    pub fn identity(&self, tag: ShardTag) -> Result<ShardIdentity, Refusal> {
        self.0.known.read().get(&tag).cloned().ok_or_else(|| {
            let message = format!("shard {tag} has not been reached yet");
            Refusal::new(RefusalCode::ShardUnavailable, message)
        })
    }

    /// Whether a shard's participant is in sight now.
    pub fn sees(&self, shard: ShardTag) -> bool {
        self.0.attended.read().get(&shard).copied().unwrap_or(false)
    }

    /// Shards whose participant is out of sight now.
    pub fn missing(&self) -> Vec<ShardTag> {
        let attended = self.0.attended.read();
        let mut missing: Vec<ShardTag> = attended
            .iter()
            .filter(|(_, up)| !**up)
            .map(|(tag, _)| *tag)
            .collect();
        missing.sort();
        missing
    }
}
