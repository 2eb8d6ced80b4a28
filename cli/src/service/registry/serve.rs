//! A coordinator hears where participants are.

use std::sync::Arc;
use std::time::Instant;

use gavel_protocol::ShardName;
use gavel_tls::{Peer, Role};
use gavel_wire::participant::registry_service_server::{RegistryService, RegistryServiceServer};
use gavel_wire::participant::{self as wire};
use tonic::{Request, Response, Status};

use super::{NotTaken, Registry, Whereabouts};

/// The path of its methods, for a router.
pub(crate) const PATH: &str = "/gavel.participant.v1.RegistryService/{method}";

/// Longest message: one name and one address.
const MESSAGE_BYTES_MAX: usize = 4096;

/// The service, for a router whose requests carry a [`Peer`].
pub(crate) fn service(registry: Arc<Registry>) -> RegistryServiceServer<Hearing> {
    RegistryServiceServer::new(Hearing { registry }).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

pub(crate) struct Hearing {
    registry: Arc<Registry>,
}

/// A participant speaks for its own shard, and nobody else for any. Who only hears speaks for none.
fn authorize(peer: Option<&Peer>, speaks_for: Option<&ShardName>) -> Result<(), Status> {
    let who = match peer {
        // Only where somebody said that whoever reaches this address is trusted.
        Some(Peer::Unverified) => return Ok(()),
        Some(Peer::Known(identity)) => {
            let is_own = speaks_for.is_none_or(|shard| identity.name == shard.as_str());
            if identity.role == Role::Participant && is_own {
                return Ok(());
            }
            Some(identity.to_string())
        }
        Some(Peer::Anonymous) | None => None,
    };
    let shard = speaks_for.map(ShardName::as_str);
    tracing::warn!(target: "gavel::audit", who, what = "announce", shard, "forbidden");
    Err(match who {
        Some(who) => {
            Status::permission_denied(format!("`{who}` may not say where a participant is"))
        }
        None => Status::unauthenticated("a certificate is needed"),
    })
}

#[tonic::async_trait]
impl RegistryService for Hearing {
    async fn announce(
        &self,
        request: Request<wire::AnnounceRequest>,
    ) -> Result<Response<wire::AnnounceResponse>, Status> {
        let said = request.get_ref().whereabouts.clone();
        let said = said.map(Whereabouts::try_from).transpose()?;
        let speaks_for = said.as_ref().map(|said| &said.shard);
        authorize(request.extensions().get(), speaks_for)?;
        if let Some(said) = said {
            self.hear(said)?;
        }
        let known = self.registry.known().into_iter();
        Ok(Response::new(wire::AnnounceResponse {
            known: known.map(Into::into).collect(),
        }))
    }
}

impl Hearing {
    fn hear(&self, said: Whereabouts) -> Result<(), Status> {
        let taken = self.registry.hear(said, Instant::now());
        taken.map_err(|why| match why {
            NotTaken::Forbidden(_) => {
                tracing::warn!(target: "gavel::audit", what = "announce", "forbidden: {why}");
                Status::permission_denied(why.to_string())
            }
            NotTaken::NotExpected(_) | NotTaken::Superseded(..) => {
                Status::failed_precondition(why.to_string())
            }
        })
    }
}

impl From<Whereabouts> for wire::Whereabouts {
    fn from(known: Whereabouts) -> Self {
        Self {
            shard: known.shard.to_string(),
            address: known.address,
            started_unix_ms: known.started_unix_ms,
        }
    }
}

impl TryFrom<wire::Whereabouts> for Whereabouts {
    type Error = Status;

    fn try_from(said: wire::Whereabouts) -> Result<Self, Status> {
        let shard = said.shard.parse();
        Ok(Self {
            shard: shard.map_err(|_| Status::invalid_argument("shard is not a shard's name"))?,
            address: said.address,
            started_unix_ms: said.started_unix_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use gavel_tls::Identity;
    use tonic::Code;

    use super::*;

    fn known(role: Role, name: &str) -> Peer {
        Peer::Known(Arc::new(Identity {
            deployment: "bank".parse().expect("a name"),
            role,
            name: name.to_owned(),
        }))
    }

    #[test]
    fn a_participant_speaks_for_its_own_shard_only() {
        let east: ShardName = "east".parse().expect("a name");
        let code =
            |peer: Option<&Peer>| authorize(peer, Some(&east)).map_err(|status| status.code());
        assert_eq!(code(Some(&known(Role::Participant, "east"))), Ok(()));
        assert_eq!(code(Some(&Peer::Unverified)), Ok(()));
        assert_eq!(code(None), Err(Code::Unauthenticated));
        assert_eq!(code(Some(&Peer::Anonymous)), Err(Code::Unauthenticated));
        let denied = Err(Code::PermissionDenied);
        assert_eq!(code(Some(&known(Role::Participant, "west"))), denied);
        for role in Role::ALL {
            if role != Role::Participant {
                let peer = known(role, "east");
                assert_eq!(code(Some(&peer)), denied, "{role}");
                assert!(
                    authorize(Some(&peer), None).is_err(),
                    "{role} hears nothing"
                );
            }
        }
        assert!(authorize(Some(&known(Role::Participant, "west")), None).is_ok());
    }
}
