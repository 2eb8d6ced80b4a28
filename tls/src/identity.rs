//! What a certificate says about who has its key.

use std::fmt;
use std::str::FromStr;

use gavel_protocol::DeploymentName;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What need not be escaped in a path of a SPIFFE ID: letters, digits, `.`, `-` and `_`.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_');

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Drives transactions.
    Coordinator,
    /// Fronts the shard that it is named after.
    Participant,
    /// Submits, and asks about transactions of its own.
    Client,
    /// Also sees and resolves what is in doubt.
    Operator,
    /// Reads metrics and health.
    Metrics,
}

impl Role {
    /// All there are.
    pub const ALL: [Self; 5] = [
        Self::Coordinator,
        Self::Participant,
        Self::Client,
        Self::Operator,
        Self::Metrics,
    ];

    /// As it is written in an identity.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Participant => "participant",
            Self::Client => "client",
            Self::Operator => "operator",
            Self::Metrics => "metrics",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who somebody is: `spiffe://DEPLOYMENT/gavel/ROLE/NAME`, a URI among the subject's alternative
/// names ([SPIFFE ID](https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md)). Whoever
/// signs certificates for a deployment can write it: a mesh, Vault, cert-manager, `gavel certs`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The installation.
    pub deployment: DeploymentName,
    /// What for.
    pub role: Role,
    /// Which one: the shard of a participant, the principal of a client or operator.
    pub name: String,
}

/// A URI that is no identity of Gavel's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no identity: use spiffe://DEPLOYMENT/gavel/ROLE/NAME")]
pub struct InvalidIdentity(pub String);

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            deployment,
            role,
            name,
        } = self;
        let name = utf8_percent_encode(name, ESCAPED);
        write!(f, "spiffe://{deployment}/gavel/{role}/{name}")
    }
}

impl FromStr for Identity {
    type Err = InvalidIdentity;

    fn from_str(text: &str) -> Result<Self, InvalidIdentity> {
        let parsed = || {
            let rest = text.strip_prefix("spiffe://")?;
            let (deployment, rest) = rest.split_once('/')?;
            let (role, name) = rest.strip_prefix("gavel/")?.split_once('/')?;
            let role = Role::ALL.into_iter().find(|each| each.as_str() == role)?;
            let name = percent_decode_str(name).decode_utf8().ok()?.into_owned();
            let identity = Self {
                deployment: deployment.parse().ok()?,
                role,
                name,
            };
            // One spelling only, and no further segment, query or fragment.
            (!identity.name.is_empty() && identity.to_string() == text).then_some(identity)
        };
        parsed().ok_or_else(|| InvalidIdentity(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_has_one_spelling() {
        for good in [
            "spiffe://shop/gavel/participant/alpha",
            "spiffe://shop/gavel/client/order%20service",
            "spiffe://a_1/gavel/coordinator/c-1.example",
        ] {
            let parsed: Identity = good.parse().unwrap();
            assert_eq!(parsed.to_string(), good);
        }
        for bad in [
            "",
            "https://shop/gavel/client/a",
            "spiffe://shop/gavel/client",
            "spiffe://shop/gavel/client/",
            "spiffe://shop/gavel/king/a",
            "spiffe://shop/gavel/Client/a",
            "spiffe://shop/gavel/client/a/b",
            "spiffe://shop/gavel/client/a?b",
            "spiffe://shop/gavel/client/%61",
            "spiffe://shop/gavel/client/%ff",
            "spiffe://SHOP/gavel/client/a",
            "spiffe:///gavel/client/a",
            "spiffe://shop/client/a",
        ] {
            assert_eq!(
                bad.parse::<Identity>(),
                Err(InvalidIdentity(bad.to_owned())),
                "{bad}"
            );
        }
    }
}
