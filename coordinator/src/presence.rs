//! Being present at every participant, and knowing who the shards are.
//!
//! One task per participant holds this driver's attendance and takes it up again when it is
//! lost (R15). It also learns the shard's identity, whose incarnation goes into every gid (R13).

use std::collections::HashMap;
use std::sync::Arc;

use gavel_participant::{Attendance, Directory, Participant};
use gavel_protocol::message::ShardIdentity;
use gavel_protocol::{DriverId, Limits, Refusal, RefusalCode, ShardTag};
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use crate::backoff;

/// What is known of the shards.
#[derive(Clone, Default)]
pub struct Presence {
    known: Arc<RwLock<HashMap<ShardTag, ShardIdentity>>>,
    attended: Arc<RwLock<HashMap<ShardTag, bool>>>,
}

impl Presence {
    /// Starts to attend at every participant of the directory.
    pub fn start(
        directory: &Directory,
        driver: DriverId,
        limits: &Limits,
        leave: &CancellationToken,
    ) -> Self {
        let presence = Self::default();
        for (tag, participant) in directory.iter() {
            presence.attended.write().insert(tag, false);
            let (presence, participant) = (presence.clone(), participant.clone());
            let (limits, leave) = (limits.clone(), leave.clone());
            tokio::spawn(async move {
                let keep = presence.keep_attending(tag, participant, driver, limits);
                leave.run_until_cancelled(keep).await;
            });
        }
        presence
    }

    async fn keep_attending(
        &self,
        tag: ShardTag,
        participant: Arc<dyn Participant>,
        driver: DriverId,
        limits: Limits,
    ) {
        let mut attempt = 0;
        loop {
            tokio::time::sleep(backoff::pause(attempt, &limits)).await;
            attempt += 1;
            match self.attend(tag, &participant, driver).await {
                Ok(attendance) => {
                    attempt = 1;
                    attendance.lost().await;
                    self.attended.write().insert(tag, false);
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
        driver: DriverId,
    ) -> Result<Arc<dyn Attendance>, gavel_participant::Unavailable> {
        let attendance = participant.attend(driver).await?;
        let identity = participant.identity().await?;
        if identity.tag != tag {
            let detail = format!("its participant says that it is shard {}", identity.tag);
            tracing::error!(shard = %tag, "{detail}: check the participants' addresses");
            return Err(gavel_participant::Unavailable { shard: tag, detail });
        }
        self.known.write().insert(tag, identity);
        self.attended.write().insert(tag, true);
        Ok(attendance)
    }

    /// Who a shard is, as far as this coordinator knows.
    pub fn identity(&self, tag: ShardTag) -> Result<ShardIdentity, Refusal> {
        self.known.read().get(&tag).cloned().ok_or_else(|| {
            let message = format!("shard {tag} has not been reached yet");
            Refusal::new(RefusalCode::ShardUnavailable, message)
        })
    }

    /// Whether a shard's participant is in sight now.
    pub fn sees(&self, shard: ShardTag) -> bool {
        self.attended.read().get(&shard).copied().unwrap_or(false)
    }

    /// Shards whose participant is out of sight now.
    pub fn missing(&self) -> Vec<ShardTag> {
        let attended = self.attended.read();
        let mut missing: Vec<ShardTag> = attended
            .iter()
            .filter(|(_, up)| !**up)
            .map(|(tag, _)| *tag)
            .collect();
        missing.sort();
        missing
    }
}
