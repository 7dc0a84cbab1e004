//! Tokens as text.

use std::fmt;
use std::str::FromStr;

use ring::rand::{SecureRandom as _, SystemRandom};

/// Characters of a token's id and secret.
const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
const ID_CHARS: usize = 6;
const SECRET_CHARS: usize = 16;
const HASH_CHARS: usize = 64;
/// The first part of a join token: the version of its form.
const VERSION: &str = "nv1";

/// What is wrong with a token's text. Never shows its secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenTextError {
    /// Too few or too many parts.
    #[error("a token has {wanted} parts with dots between them ({form}); this has {found}")]
    Parts {
        /// How many it should be.
        wanted: usize,
        /// How many it is.
        found: usize,
        /// What they are.
        form: &'static str,
    },
    /// A version of another program, or no token at all.
    #[error("a join token begins with {VERSION:?}")]
    Version,
    /// The second part.
    #[error("the second part of a join token must be {HASH_CHARS} digits 0-9a-f: the hash of the cluster's CA")]
    Hash,
    /// The id.
    #[error("the token's id must be {ID_CHARS} characters a-z0-9")]
    Id,
    /// The secret.
    #[error("the token's secret (its last part) must be {SECRET_CHARS} characters a-z0-9")]
    Secret,
    /// There is nothing to make one from.
    #[error("the system has no randomness")]
    Randomness,
}

/// Id and secret: `<id>.<secret>`.
#[derive(Clone, PartialEq, Eq)]
pub struct BootstrapToken {
    id: String,
    secret: String,
}

impl fmt::Debug for BootstrapToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BootstrapToken").field("id", &self.id).finish_non_exhaustive()
    }
}

fn of_alphabet(text: &str, chars: usize) -> bool {
    text.len() == chars && text.bytes().all(|b| ALPHABET.contains(&b))
}

fn random_text(chars: usize) -> Result<String, TokenTextError> {
    // 252 is seven times 36: bytes beyond it would favour some characters.
    const FAIR_BELOW: u8 = 252;
    let mut text = String::with_capacity(chars);
    while text.len() < chars {
        let mut bytes = [0_u8; 32];
        SystemRandom::new().fill(&mut bytes).map_err(|_| TokenTextError::Randomness)?;
        let fair = bytes.iter().filter(|byte| **byte < FAIR_BELOW);
        text.extend(
            fair.take(chars - text.len()).map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])),
        );
    }
    Ok(text)
}

impl BootstrapToken {
    /// A new one.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn generate() -> Result<Self, TokenTextError> {
        Ok(Self { id: random_text(ID_CHARS)?, secret: random_text(SECRET_CHARS)? })
    }

    /// What names it, and may be shown.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What must not be shown.
    pub(super) fn secret(&self) -> &str {
        &self.secret
    }

    /// As it stands behind `Authorization: Bearer`.
    pub fn bearer(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }

    /// Whether a text is a token's id.
    pub fn is_id(text: &str) -> bool {
        of_alphabet(text, ID_CHARS)
    }

    fn from_parts(id: &str, secret: &str) -> Result<Self, TokenTextError> {
        if !Self::is_id(id) {
            return Err(TokenTextError::Id);
        }
        if !of_alphabet(secret, SECRET_CHARS) {
            return Err(TokenTextError::Secret);
        }
        Ok(Self { id: id.to_owned(), secret: secret.to_owned() })
    }
}

impl FromStr for BootstrapToken {
    type Err = TokenTextError;

    fn from_str(text: &str) -> Result<Self, TokenTextError> {
        let parts: Vec<&str> = text.split('.').collect();
        let [id, secret] = parts[..] else {
            return Err(TokenTextError::Parts { wanted: 2, found: parts.len(), form: "<id>.<secret>" });
        };
        Self::from_parts(id, secret)
    }
}

/// What a person carries from a cluster to a machine that joins it: `nv1.<hash of the CA>.<id>.<secret>`.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    ca_hash: String,
    token: BootstrapToken,
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("ca_hash", &self.ca_hash).field("token", &self.token).finish()
    }
}

impl JoinToken {
    /// Of a cluster with this CA (see [`crate::pki::ca_hash_of`]).
    ///
    /// # Errors
    /// If that is no hash.
    pub fn new(ca_hash: &str, token: BootstrapToken) -> Result<Self, TokenTextError> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if ca_hash.len() != HASH_CHARS || !ca_hash.bytes().all(hex) {
            return Err(TokenTextError::Hash);
        }
        Ok(Self { ca_hash: ca_hash.to_owned(), token })
    }

    /// The hash of the authority to trust.
    pub fn ca_hash(&self) -> &str {
        &self.ca_hash
    }

    /// What to show to the server, once it is known to be the right one.
    pub fn token(&self) -> &BootstrapToken {
        &self.token
    }

    /// The whole text, with the secret.
    pub fn reveal(&self) -> String {
        format!("{VERSION}.{}.{}", self.ca_hash, self.token.bearer())
    }
}

impl FromStr for JoinToken {
    type Err = TokenTextError;

    fn from_str(text: &str) -> Result<Self, TokenTextError> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        if parts[0] != VERSION {
            return Err(TokenTextError::Version);
        }
        let [_, hash, id, secret] = parts[..] else {
            let form = "nv1.<CA hash>.<id>.<secret>";
            return Err(TokenTextError::Parts { wanted: 4, found: parts.len(), form });
        };
        Self::new(hash, BootstrapToken::from_parts(id, secret)?)
    }
}
