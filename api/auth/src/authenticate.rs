//! Who makes a request: from the client's certificate, a service-account token or a bootstrap token.
//!
//! A certificate is believed only after it was verified here against the cluster's authority, even though TLS has done so
//! before; a token only while the objects it is bound to live, or the Secret that it is kept in. What is wrong is 401 with no more than that.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use navarch_types::{ApiError, Reason, UserInfo};
use parking_lot::Mutex;
use ring::digest;
use rustls::server::danger::ClientCertVerifier;

use crate::bootstrap_token::{self, BootstrapToken};
use crate::token::{Claims, Tokens};
use crate::view::ObjectView;

mod bound;
mod certificate;

/// Verified credentials that are remembered; more than the clients of a cluster use at a time, and a few megabytes.
const MAX_REMEMBERED: usize = 4096;

/// What a request brings to show who it is from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credentials<'a> {
    /// From `Authorization: Bearer`.
    pub bearer: Option<&'a str>,
    /// The client's certificate, DER.
    pub client_cert_der: Option<&'a [u8]>,
}

type Digest = [u8; 32];

/// Signatures that were checked, by a digest of what they sign. Cleared when full: checking again is cheap.
struct Remembered<T> {
    entries: Mutex<HashMap<Digest, Arc<T>>>,
}

impl<T> Remembered<T> {
    fn new() -> Self {
        Self { entries: Mutex::new(HashMap::new()) }
    }

    fn get(&self, key: &Digest) -> Option<Arc<T>> {
        self.entries.lock().get(key).cloned()
    }

    fn put(&self, key: Digest, value: T) -> Arc<T> {
        let value = Arc::new(value);
        let mut entries = self.entries.lock();
        if entries.len() >= MAX_REMEMBERED {
            entries.clear();
        }
        entries.insert(key, Arc::clone(&value));
        value
    }
}

fn digest_of(bytes: &[u8]) -> Digest {
    let mut out = Digest::default();
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// Tells who makes a request.
pub struct Authenticator {
    tokens: Tokens,
    view: Arc<dyn ObjectView>,
    certificates: Arc<dyn ClientCertVerifier>,
    known_certificates: Remembered<certificate::Verified>,
    known_tokens: Remembered<Claims>,
    clock: fn() -> Timestamp,
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

impl Authenticator {
    /// For tokens of an issuer and certificates of an authority ([`crate::Pki::client_verifier`]).
    pub fn new(tokens: Tokens, certificates: Arc<dyn ClientCertVerifier>, view: Arc<dyn ObjectView>) -> Self {
        Self {
            tokens,
            view,
            certificates,
            known_certificates: Remembered::new(),
            known_tokens: Remembered::new(),
            clock: Timestamp::now,
        }
    }

    /// With another clock, for tests.
    #[must_use]
    pub fn with_clock(mut self, clock: fn() -> Timestamp) -> Self {
        self.clock = clock;
        self
    }

    /// The tokens it knows.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// The user, or `None` if the request brings nothing to show who it is from. A certificate counts before a token, as
    /// upstream has it.
    ///
    /// # Errors
    /// 401 if what it brings is not good.
    pub fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Option<UserInfo>, ApiError> {
        if let Some(der) = credentials.client_cert_der {
            return self.certificate(der).map(Some);
        }
        match credentials.bearer.map(str::trim) {
            None | Some("") => Ok(None),
            Some(token) => self.token(token, self.tokens.audiences()).map(|(user, _)| Some(user)),
        }
    }

    /// Who a request without credentials is from: nobody in particular, and only for paths that tell of health and
    /// version.
    pub fn anonymous(path: &str) -> Option<UserInfo> {
        let health = ["/healthz", "/livez", "/readyz"];
        let open = path == "/version"
            || path == "/version/"
            || health.iter().any(|p| path.strip_prefix(p).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
        open.then(|| UserInfo::new(crate::ANONYMOUS, &[crate::ALL_UNAUTHENTICATED]))
    }

    fn certificate(&self, der: &[u8]) -> Result<UserInfo, ApiError> {
        let (key, now) = (digest_of(der), self.now());
        let verified = match self.known_certificates.get(&key) {
            Some(known) => known,
            None => {
                let verified = certificate::verify(&*self.certificates, der, now).map_err(|why| {
                    tracing::debug!(%why, "client certificate refused");
                    unauthorized()
                })?;
                self.known_certificates.put(key, verified)
            }
        };
        if !verified.valid_at(now) {
            return Err(unauthorized());
        }
        Ok(verified.user.clone())
    }

    /// The user of a token that is for one of the audiences, and which of them it is for.
    ///
    /// # Errors
    /// 401 if the token is not good.
    pub fn token(&self, token: &str, audiences: &[String]) -> Result<(UserInfo, Vec<String>), ApiError> {
        let (key, now) = (digest_of(token.as_bytes()), self.now());
        let refuse = |why: &dyn std::fmt::Display| {
            tracing::debug!(%why, "token refused");
            unauthorized()
        };
        if let Ok(bootstrap) = token.parse::<BootstrapToken>() {
            // They are for the API server alone.
            let matching: Vec<_> = audiences.iter().filter(|a| self.tokens.audiences().contains(a)).cloned().collect();
            if matching.is_empty() {
                return Err(refuse(&"the token is for another audience"));
            }
            let user = bootstrap_token::user(&bootstrap, &*self.view, now).map_err(|why| refuse(&why))?;
            return Ok((user, matching));
        }
        let claims = match self.known_tokens.get(&key) {
            Some(known) => known,
            None => {
                let claims = self.tokens.verify(token, now.as_second()).map_err(|why| refuse(&why))?;
                self.known_tokens.put(key, claims)
            }
        };
        let matching: Vec<_> = audiences.iter().filter(|a| claims.aud.contains(a)).cloned().collect();
        if matching.is_empty() {
            return Err(refuse(&"the token is for another audience"));
        }
        let user = bound::user(&claims, &*self.view, now).map_err(|why| refuse(&why))?;
        Ok((user, matching))
    }
}

fn unauthorized() -> ApiError {
    ApiError::new(Reason::Unauthorized, "Unauthorized")
}

#[cfg(test)]
mod tests;
