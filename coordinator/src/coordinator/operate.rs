//! What operators ask of a coordinator.

use std::sync::Arc;

use gavel_participant::Participant;
use gavel_protocol::message::{Finished, InDoubtBranch};
use gavel_protocol::{Gid, Refusal, RefusalCode, ShardTag};

use super::Inner;

impl Inner {
    /// Asks every shard what it has prepared.
    pub(super) async fn in_doubt(&self) -> Vec<(ShardTag, Result<Vec<InDoubtBranch>, String>)> {
        let asked = self.directory.iter();
        let asked = asked.map(|(tag, participant)| async move {
            let branches = participant.in_doubt().await;
            (tag, branches.map_err(|error| error.to_string()))
        });
        futures::future::join_all(asked).await
    }

    /// Has the branch's shard resolve it now.
    pub(super) async fn resolve(&self, gid: Gid) -> Result<String, Refusal> {
        let unavailable = |why: String| Refusal::new(RefusalCode::ShardUnavailable, why);
        match self.participant(gid.shard)?.resolve_now(gid).await {
            Ok(Finished::Done) => Ok("resolved".to_owned()),
            Ok(Finished::Busy) => Err(unavailable(
                "somebody else is finishing it, or it waits for replication: look again".to_owned(),
            )),
            Ok(Finished::Damaged { detail }) => Err(Refusal::new(
                RefusalCode::InvalidRequest,
                format!("DAMAGE: {detail}; it is recorded, see `gavel audit`"),
            )),
            Ok(Finished::Unknown { detail }) => Err(unavailable(detail)),
            Err(error) => Err(unavailable(error.to_string())),
        }
    }

    /// Tries to attend at a shard's participant now, if it is out of sight, and has its circuit tried.
    pub(super) async fn retry_shard(&self, shard: ShardTag) -> Result<String, Refusal> {
        let participant = self.participant(shard)?;
        self.presence.hurry(shard);
        self.circuits.retry(shard, &*participant).await
    }

    fn participant(&self, shard: ShardTag) -> Result<Arc<dyn Participant>, Refusal> {
        self.directory.shard(shard).ok_or_else(|| {
            let message = format!("there is no shard with tag {shard}");
            Refusal::new(RefusalCode::UnknownShard, message)
        })
    }
}
