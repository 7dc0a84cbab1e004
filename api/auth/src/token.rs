//! Service-account tokens: JSON web tokens signed with ES256, with upstream's layout of claims.
//!
//! Signing and verifying are here; what a claim is worth (whether the pod still exists) is judged in
//! [`crate::authenticate`], at every use. Only ES256 is known: the algorithm in a token's header chooses nothing.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub mod claims;
pub mod request;

pub use claims::{BoundObject, Claims, KubernetesClaims};

/// A token longer than this is no token of ours.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// DER of a P-256 `SubjectPublicKeyInfo` up to the key itself.
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Why a token is not accepted. Never holds the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no token of this kind.
    #[error("malformed token")]
    Malformed,
    /// It was not signed here.
    #[error("unknown signing key or algorithm")]
    UnknownKey,
    /// The signature is wrong.
    #[error("invalid signature")]
    Signature,
    /// It was issued by somebody else.
    #[error("unknown issuer")]
    Issuer,
    /// Its time has passed.
    #[error("token has expired")]
    Expired,
    /// Its time has not come.
    #[error("token is not valid yet")]
    NotYetValid,
    /// The key cannot sign.
    #[error("signing failed")]
    Signing,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

/// The key of the service-account issuer.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    id: String,
}

impl SigningKey {
    /// From a PKCS #8 document.
    ///
    /// # Errors
    /// If it holds no P-256 key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, TokenError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new())
            .map_err(|_| TokenError::Signing)?;
        let mut info = SPKI_PREFIX.to_vec();
        info.extend_from_slice(pair.public_key().as_ref());
        let id = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &info));
        Ok(Self { pair, id })
    }

    /// The key's id in tokens and in the key set.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The public key as a JSON web key.
    pub fn jwk(&self) -> Value {
        // Uncompressed point: a byte that says so, then x and y.
        let point = self.pair.public_key().as_ref();
        let (x, y) = point.get(1..).unwrap_or_default().split_at(point.len().saturating_sub(1) / 2);
        json!({
            "use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        })
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Signs and verifies for one issuer.
#[derive(Clone, Debug)]
pub struct Tokens {
    key: Arc<SigningKey>,
    issuer: String,
    audiences: Vec<String>,
}

impl Tokens {
    /// For an issuer; the API server's own audience is the issuer, as upstream's default is.
    pub fn new(key: Arc<SigningKey>, issuer: &str) -> Self {
        Self { key, issuer: issuer.to_owned(), audiences: vec![issuer.to_owned()] }
    }

    /// The issuer.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The audiences that the API server is.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// Signs claims.
    ///
    /// # Errors
    /// If the claims cannot be encoded, or the system has no randomness.
    pub fn sign(&self, claims: &Claims) -> Result<String, TokenError> {
        let header = Header { alg: "ES256".to_owned(), kid: self.key.id.clone() };
        let encode = |bytes: Result<Vec<u8>, serde_json::Error>| {
            bytes.map(|b| URL_SAFE_NO_PAD.encode(b)).map_err(|_| TokenError::Signing)
        };
        let mut token = encode(serde_json::to_vec(&header))?;
        token.push('.');
        token.push_str(&encode(serde_json::to_vec(claims))?);
        let signature = self.key.pair.sign(&SystemRandom::new(), token.as_bytes()).map_err(|_| TokenError::Signing)?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok(token)
    }

    /// The claims of a token that was signed here and whose time it is. `now` in seconds.
    ///
    /// # Errors
    /// If it was not, or is not.
    pub fn verify(&self, token: &str, now: i64) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed);
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Malformed)?;
        if header.alg != "ES256" || header.kid != self.key.id {
            return Err(TokenError::UnknownKey);
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.pair.public_key())
            .verify(signed.as_bytes(), &decode(signature)?)
            .map_err(|_| TokenError::Signature)?;
        let claims: Claims = serde_json::from_slice(&decode(payload)?).map_err(|_| TokenError::Malformed)?;
        if claims.iss != self.issuer {
            return Err(TokenError::Issuer);
        }
        claims.check_time(now)?;
        Ok(claims)
    }

    /// `/openid/v1/jwks`, media type `application/jwk-set+json`.
    pub fn key_set(&self) -> Value {
        json!({"keys": [self.key.jwk()]})
    }

    /// `/.well-known/openid-configuration`. `server` is the address that the key set is served at.
    pub fn openid_configuration(&self, server: &str) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": format!("{}/openid/v1/jwks", server.trim_end_matches('/')),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    pub(crate) fn tokens() -> Tokens {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        Tokens::new(Arc::new(SigningKey::from_pkcs8(&pair.serialize_der()).unwrap()), "https://issuer")
    }

    fn claims() -> Claims {
        Claims {
            iss: "https://issuer".to_owned(),
            sub: "system:serviceaccount:default:web".to_owned(),
            aud: vec!["https://issuer".to_owned()],
            exp: 2_000,
            iat: 1_000,
            nbf: 1_000,
            jti: "id".to_owned(),
            kubernetes: KubernetesClaims::default(),
        }
    }

    #[test]
    fn what_was_signed_is_verified() {
        let tokens = tokens();
        let token = tokens.sign(&claims()).unwrap();
        assert_eq!(tokens.verify(&token, 1_500), Ok(claims()));
    }

    #[test]
    fn time_counts() {
        let tokens = tokens();
        let token = tokens.sign(&claims()).unwrap();
        assert_eq!(tokens.verify(&token, 2_000 + claims::LEEWAY_SECONDS + 1), Err(TokenError::Expired));
        assert_eq!(tokens.verify(&token, 1_000 - claims::LEEWAY_SECONDS - 1), Err(TokenError::NotYetValid));
    }

    #[test]
    fn what_others_made_is_refused() {
        let (tokens, others) = (tokens(), tokens());
        let token = others.sign(&claims()).unwrap();
        assert_eq!(tokens.verify(&token, 1_500), Err(TokenError::UnknownKey));
        let parts: Vec<_> = token.split('.').collect();
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": "ES256", "kid": tokens.key.id()}).to_string());
        assert_eq!(tokens.verify(&[&header, parts[1], parts[2]].join("."), 1_500), Err(TokenError::Signature));
        let none = URL_SAFE_NO_PAD.encode(json!({"alg": "none", "kid": tokens.key.id()}).to_string());
        assert_eq!(tokens.verify(&[&none, parts[1], ""].join("."), 1_500), Err(TokenError::UnknownKey));
        for bad in ["", "a", "a.b", "a.b.c", "...", "é.é.é", &"x".repeat(20_000)] {
            assert!(tokens.verify(bad, 1_500).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_claims_cannot_be_exchanged() {
        let tokens = tokens();
        let token = tokens.sign(&claims()).unwrap();
        let parts: Vec<_> = token.split('.').collect();
        let mut other = claims();
        other.sub = "system:serviceaccount:kube-system:admin".to_owned();
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&other).unwrap());
        assert_eq!(tokens.verify(&[parts[0], &payload, parts[2]].join("."), 1_500), Err(TokenError::Signature));
    }

    #[test]
    fn the_key_set_names_the_key() {
        let tokens = tokens();
        let set = tokens.key_set();
        assert_eq!(set["keys"][0]["kid"], tokens.key.id());
        assert_eq!(URL_SAFE_NO_PAD.decode(set["keys"][0]["x"].as_str().unwrap()).unwrap().len(), 32);
        assert_eq!(URL_SAFE_NO_PAD.decode(set["keys"][0]["y"].as_str().unwrap()).unwrap().len(), 32);
    }
}
