//! Who is asking: bearer tokens, one per principal.
//!
//! Only hashes of tokens are kept in memory. Every configured token is compared, in constant
//! time and without an early end, so that the time to refuse tells nothing.

use std::fmt;
use std::path::PathBuf;

use gavel_protocol::Principal;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

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
}

/// Where a principal's token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSource {
    /// Whose token it is.
    pub principal: Principal,
    /// What he may do.
    pub role: Role,
    /// The file with the token, or with `sha256:` and its hash in hexadecimal. White space
    /// around it is dropped.
    pub file: PathBuf,
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
    hash: [u8; 32],
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
            let text = std::fs::read_to_string(&source.file).map_err(|cause| {
                AuthConfigError::Unreadable {
                    principal: source.principal.clone(),
                    path: source.file.clone(),
                    cause,
                }
            })?;
            all.add(source.principal.clone(), source.role, text.trim())?;
        }
        Ok(all)
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
        if let Some(same) = self.known.iter().find(|known| known.hash == hash) {
            let other = same.caller.principal.clone();
            return Err(AuthConfigError::SameToken(other, principal));
        }
        let caller = Caller { principal, role };
        self.known.push(Known { caller, hash });
        Ok(())
    }

    /// Whether callers need a token.
    pub fn has_tokens(&self) -> bool {
        !self.known.is_empty()
    }

    /// Who sent a request with this `Authorization` header, if that is known.
    pub fn authenticate(&self, authorization: Option<&[u8]>) -> Option<Caller> {
        if !self.has_tokens() {
            return Some(Caller {
                principal: Principal::local(),
                role: Role::Operator,
            });
        }
        let (scheme, token) = authorization?.split_at_checked("Bearer ".len())?;
        if !scheme.eq_ignore_ascii_case(b"bearer ") {
            return None;
        }
        let hash: [u8; 32] = Sha256::digest(token.trim_ascii()).into();
        let mut found = None;
        for known in &self.known {
            if bool::from(known.hash.ct_eq(&hash)) {
                found = Some(&known.caller);
            }
        }
        found.cloned()
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
        let who = |header: &str| auth.authenticate(Some(header.as_bytes()));
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
        assert_eq!(auth.authenticate(None), None);
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
        let caller = auth.authenticate(Some(header.as_bytes())).unwrap();
        assert_eq!(caller.principal, principal("bob"));
        // Who has read the configuration must not get in with the hash.
        let header = format!("Bearer {token}");
        assert_eq!(auth.authenticate(Some(header.as_bytes())), None);
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
            r#"[Caller { principal: Principal("alice"), role: Client }]"#
        );
    }
}
