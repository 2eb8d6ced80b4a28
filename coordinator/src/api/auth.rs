//! Who is asking: a bearer token, or the certificate of the connection.
//!
//! A token counts before a certificate: a proxy or a mesh that connects with a certificate of its
//! own speaks for whoever has the token. Only hashes of tokens are kept in memory. Every configured
//! token is compared, in constant time and without an early end, so that the time to refuse tells
//! nothing.

use std::fmt;
use std::path::PathBuf;

use gavel_protocol::Principal;
use gavel_tls::{Identity, Peer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::permission::Permissions;

/// Shortest token, in bytes: 128 bits in base64 have 22.
const TOKEN_LEN_MIN: usize = 22;

/// In a token file, instead of the token: its SHA-256 in hexadecimal.
const HASHED: &str = "sha256:";

/// What a principal may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Submit, and ask about transactions of its own.
    Client,
    /// Also ask about everybody's transactions, and see and resolve in-doubt branches.
    Operator,
}

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub principal: Principal,
    /// What for.
    pub role: Role,
    /// What his transactions may do.
    pub permissions: Permissions,
}

/// Where a principal's token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSource {
    /// Whose token it is.
    pub principal: Principal,
    /// What he may do.
    pub role: Role,
    /// The file with the token, or with `sha256:` and its hash in hexadecimal. White space
    /// around it is dropped. Without it only a certificate will do.
    pub file: Option<PathBuf>,
    /// What his transactions may do.
    pub permissions: Permissions,
}

/// The tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthConfigError {
    /// The file cannot be read.
    #[error("the token file {path} of `{principal}` cannot be read")]
    Unreadable {
        /// Whose.
        principal: Principal,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The token can be guessed.
    #[error("the token of `{0}` is too short: use at least {TOKEN_LEN_MIN} characters")]
    TooShort(Principal),
    /// The hash is not one.
    #[error("the token file of `{0}` says `sha256:`, but no 64 hexadecimal digits follow")]
    MalformedHash(Principal),
    /// One token would stand for two principals.
    #[error("`{0}` and `{1}` have the same token")]
    SameToken(Principal, Principal),
}

/// Tells callers apart.
#[derive(Clone)]
pub struct Authenticator {
    known: Vec<Known>,
}

#[derive(Clone)]
struct Known {
    caller: Caller,
    hash: Option<[u8; 32]>,
}

impl Authenticator {
    /// Everybody is [`Principal::local`], an operator. For loopback only; see
    /// [`super::check_bind`].
    pub fn open() -> Self {
        Self { known: Vec::new() }
    }

    /// Reads the tokens of these principals. Without any, the same as [`Self::open`].
    ///
    /// # Errors
    /// A file that cannot be read, or a token that cannot be used.
    pub fn from_files(sources: &[TokenSource]) -> Result<Self, AuthConfigError> {
        let mut all = Self::open();
        for source in sources {
            let Some(file) = &source.file else {
                all.add_with_certificate(source.principal.clone(), source.role);
                all.restrict(&source.principal, &source.permissions);
                continue;
            };
            let text =
                std::fs::read_to_string(file).map_err(|cause| AuthConfigError::Unreadable {
                    principal: source.principal.clone(),
                    path: file.clone(),
                    cause,
                })?;
            all.add(source.principal.clone(), source.role, text.trim())?;
            all.restrict(&source.principal, &source.permissions);
        }
        Ok(all)
    }

    /// Adds a principal that only a certificate will do for.
    pub fn add_with_certificate(&mut self, principal: Principal, role: Role) {
        self.known.push(Known {
            caller: unrestricted(principal, role),
            hash: None,
        });
    }

    /// Transactions of this principal may do this only.
    pub fn restrict(&mut self, principal: &Principal, permissions: &Permissions) {
        let callers = self.known.iter_mut().map(|known| &mut known.caller);
        for caller in callers.filter(|caller| caller.principal == *principal) {
            caller.permissions = permissions.clone();
        }
    }

    /// Adds a principal with its token, or `sha256:` and the token's hash.
    ///
    /// # Errors
    /// The token is too short, or somebody else's.
    pub fn add(
        &mut self,
        principal: Principal,
        role: Role,
        token: &str,
    ) -> Result<(), AuthConfigError> {
        let hash = match token.strip_prefix(HASHED) {
            Some(hex) => match hash_from_hex(hex) {
                Some(hash) => hash,
                None => return Err(AuthConfigError::MalformedHash(principal)),
            },
            None if token.len() < TOKEN_LEN_MIN => {
                return Err(AuthConfigError::TooShort(principal));
            }
            None => Sha256::digest(token).into(),
        };
        if let Some(same) = self.known.iter().find(|known| known.hash == Some(hash)) {
            let other = same.caller.principal.clone();
            return Err(AuthConfigError::SameToken(other, principal));
        }
        self.known.push(Known {
            caller: unrestricted(principal, role),
            hash: Some(hash),
        });
        Ok(())
    }

    /// Whether callers must say who they are.
    pub fn has_principals(&self) -> bool {
        !self.known.is_empty()
    }

    /// Who sent a request with this `Authorization` header over a connection to `peer`, if that
    /// is known.
    pub fn authenticate(&self, authorization: Option<&[u8]>, peer: &Peer) -> Option<Caller> {
        if !self.has_principals() {
            return Some(unrestricted(Principal::local(), Role::Operator));
        }
        match (authorization, peer) {
            (Some(authorization), _) => self.with_token(authorization),
            (None, Peer::Known(identity)) => self.with_certificate(identity),
            (None, Peer::Anonymous | Peer::Unverified) => None,
        }
    }

    /// A certificate alone is not enough: who is taken out of the configuration is nobody,
    /// however long his certificate is still good for.
    fn with_certificate(&self, identity: &Identity) -> Option<Caller> {
        let role = match identity.role {
            gavel_tls::Role::Client => Role::Client,
            gavel_tls::Role::Operator => Role::Operator,
            gavel_tls::Role::Coordinator
            | gavel_tls::Role::Participant
            | gavel_tls::Role::Metrics => return None,
        };
        let mut callers = self.known.iter().map(|known| &known.caller);
        let named = callers.find(|caller| caller.principal.as_str() == identity.name)?;
        (named.role == role).then(|| named.clone())
    }

    fn with_token(&self, authorization: &[u8]) -> Option<Caller> {
        let (scheme, token) = authorization.split_at_checked("Bearer ".len())?;
        if !scheme.eq_ignore_ascii_case(b"bearer ") {
            return None;
        }
        let hash: [u8; 32] = Sha256::digest(token.trim_ascii()).into();
        let mut found = None;
        for known in &self.known {
            let Some(expected) = &known.hash else {
                continue;
            };
            if bool::from(expected.ct_eq(&hash)) {
                found = Some(&known.caller);
            }
        }
        found.cloned()
    }
}

fn unrestricted(principal: Principal, role: Role) -> Caller {
    Caller {
        principal,
        role,
        permissions: Permissions::ALL,
    }
}

fn hash_from_hex(hex: &str) -> Option<[u8; 32]> {
    let hex = hex.as_bytes();
    if hex.len() != 64 {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(hex.chunks(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = (digit(0)? * 16 + digit(1)?) as u8;
    }
    Some(hash)
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let callers = self.known.iter().map(|known| &known.caller);
        f.debug_list().entries(callers).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const TOKEN: &str = "a-token-with-enough-characters";

    fn principal(name: &str) -> Principal {
        name.parse().unwrap()
    }

    fn with_token() -> Authenticator {
        let mut auth = Authenticator::open();
        auth.add(principal("alice"), Role::Client, TOKEN).unwrap();
        auth
    }

    #[test]
    fn only_the_right_token_is_somebody() {
        let auth = with_token();
        let who = |header: &str| auth.authenticate(Some(header.as_bytes()), &Peer::Unverified);
        assert_eq!(who(&format!("Bearer {TOKEN}")).unwrap().role, Role::Client);
        assert!(who(&format!("bearer {TOKEN}")).is_some());
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            TOKEN,
            &format!("Basic {TOKEN}"),
            &format!("Bearer {TOKEN}x"),
            &format!("Bearer {}", &TOKEN[1..]),
        ] {
            assert_eq!(who(bad), None, "{bad}");
        }
        assert_eq!(auth.authenticate(None, &Peer::Unverified), None);
    }

    fn shown(role: gavel_tls::Role, name: &str) -> Peer {
        Peer::Known(Arc::new(Identity {
            deployment: "shop".parse().unwrap(),
            role,
            name: name.to_owned(),
        }))
    }

    #[test]
    fn a_certificate_is_somebody_who_is_configured_in_that_role() {
        let mut auth = with_token();
        auth.add_with_certificate(principal("root"), Role::Operator);
        let who = |role, name| auth.authenticate(None, &shown(role, name));
        let alice = who(gavel_tls::Role::Client, "alice").unwrap();
        assert_eq!(
            (alice.principal, alice.role),
            (principal("alice"), Role::Client)
        );
        let root = who(gavel_tls::Role::Operator, "root").unwrap();
        assert_eq!(root.role, Role::Operator);
        for (role, name) in [
            (gavel_tls::Role::Operator, "alice"),
            (gavel_tls::Role::Client, "root"),
            (gavel_tls::Role::Client, "bob"),
            (gavel_tls::Role::Coordinator, "root"),
            (gavel_tls::Role::Participant, "root"),
            (gavel_tls::Role::Metrics, "root"),
        ] {
            assert_eq!(who(role, name), None, "{role} {name}");
        }
    }

    #[test]
    fn a_wrong_token_is_not_mended_by_a_certificate() {
        let auth = with_token();
        let peer = shown(gavel_tls::Role::Client, "alice");
        assert_eq!(auth.authenticate(Some(b"Bearer wrong"), &peer), None);
    }

    #[test]
    fn nobody_has_the_token_of_a_principal_without_one() {
        let mut auth = Authenticator::open();
        auth.add_with_certificate(principal("root"), Role::Operator);
        for header in ["Bearer ", "Bearer null", ""] {
            let who = auth.authenticate(Some(header.as_bytes()), &Peer::Unverified);
            assert_eq!(who, None, "{header}");
        }
    }

    #[test]
    fn a_hash_stands_for_its_token() {
        let hex: String = Sha256::digest(TOKEN)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let mut auth = Authenticator::open();
        let token = format!("sha256:{hex}");
        auth.add(principal("bob"), Role::Operator, &token).unwrap();
        let header = format!("Bearer {TOKEN}");
        let caller = auth
            .authenticate(Some(header.as_bytes()), &Peer::Unverified)
            .unwrap();
        assert_eq!(caller.principal, principal("bob"));
        // Who has read the configuration must not get in with the hash.
        let header = format!("Bearer {token}");
        assert_eq!(
            auth.authenticate(Some(header.as_bytes()), &Peer::Unverified),
            None
        );
    }

    #[test]
    fn unusable_tokens_are_refused() {
        let mut auth = with_token();
        let mut add = |token: &str| auth.add(principal("bob"), Role::Client, token);
        assert!(matches!(add("short"), Err(AuthConfigError::TooShort(_))));
        assert!(matches!(add(""), Err(AuthConfigError::TooShort(_))));
        assert!(matches!(add(TOKEN), Err(AuthConfigError::SameToken(..))));
        assert!(matches!(
            add("sha256:zz"),
            Err(AuthConfigError::MalformedHash(_))
        ));
    }

    #[test]
    fn nothing_secret_shows() {
        assert_eq!(
            format!("{:?}", with_token()),
            r#"[Caller { principal: Principal("alice"), role: Client, permissions: Permissions { shards: All, statements: All } }]"#
        );
    }
}
