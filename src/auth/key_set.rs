//! The keys that tokens are verified with, each with the algorithms that it is for.

use std::fmt;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::crypto;

const HMAC: &[Algorithm] = &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
const RSA: &[Algorithm] = &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512];
const P256: &[Algorithm] = &[Algorithm::ES256];
const P384: &[Algorithm] = &[Algorithm::ES384];
const ED25519: &[Algorithm] = &[Algorithm::EdDSA];

/// The least a secret must have: as many bytes as HS256 has (RFC 7518, section 3.2).
const MIN_SECRET_BYTES: usize = 32;

/// Why a key cannot be used. No key is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A secret that can be guessed.
    #[error(
        "a secret for tokens has at least {MIN_SECRET_BYTES} bytes, this one has {0}: `openssl rand -hex 32` makes one"
    )]
    ShortSecret(usize),
    /// A text that holds no public key.
    #[error("this is no public key in PEM (BEGIN PUBLIC KEY) of RSA, P-256, P-384 or Ed25519")]
    PublicPem,
    /// A text that holds no private key.
    #[error("this is no private key in PEM (BEGIN PRIVATE KEY) of RSA, P-256, P-384 or Ed25519")]
    PrivatePem,
    /// A text that is no key set.
    #[error("this is no JSON Web Key Set: {0}")]
    NotAKeySet(String),
    /// A key set that has keys, and none that is of use.
    #[error("the key set has no public key of RSA, P-256, P-384 or Ed25519 for signatures")]
    NoUsableKey,
}

/// One key.
pub(super) struct VerifyingKey {
    pub(super) id: Option<String>,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) key: DecodingKey,
    /// What tells it from others when settings are read again.
    pub(super) digest: [u8; 32],
}

/// Keys that tokens are verified with. A key serves its own algorithms and no others.
#[derive(Default)]
pub struct KeySet(pub(super) Vec<VerifyingKey>);

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| (&key.id, &key.algorithms))).finish()
    }
}

impl KeySet {
    /// A secret that is shared with whoever makes the tokens: HS256, HS384, HS512.
    ///
    /// # Errors
    /// [`KeyError::ShortSecret`].
    pub fn secret(secret: &[u8]) -> Result<Self, KeyError> {
        crypto::install();
        if secret.len() < MIN_SECRET_BYTES {
            return Err(KeyError::ShortSecret(secret.len()));
        }
        Ok(Self(vec![VerifyingKey {
            id: None,
            algorithms: HMAC.to_vec(),
            key: DecodingKey::from_secret(secret),
            digest: Sha256::digest(secret).into(),
        }]))
    }

    /// A public key: RS256 to RS512, ES256, ES384 or EdDSA, whichever it is for.
    ///
    /// # Errors
    /// [`KeyError::PublicPem`].
    pub fn public_pem(pem: &[u8]) -> Result<Self, KeyError> {
        crypto::install();
        // A private key has a public one in it, but has no place on this server.
        if pem.windows(11).any(|window| window == b"PRIVATE KEY") {
            return Err(KeyError::PublicPem);
        }
        let (key, algorithms) = if let Ok(key) = DecodingKey::from_ec_pem(pem) {
            let is_p384 = key.try_get_as_bytes().is_ok_and(|point| point.len() == 97);
            (key, if is_p384 { P384 } else { P256 })
        } else if let Ok(key) = DecodingKey::from_ed_pem(pem) {
            (key, ED25519)
        } else {
            (DecodingKey::from_rsa_pem(pem).map_err(|_| KeyError::PublicPem)?, RSA)
        };
        let digest = Sha256::digest(key.try_get_as_bytes().map_err(|_| KeyError::PublicPem)?).into();
        Ok(Self(vec![VerifyingKey { id: None, algorithms: algorithms.to_vec(), key, digest }]))
    }

    /// The public keys of a JSON Web Key Set. Those of kinds that are not known, and those that are not for signatures,
    /// are passed over. A set whose array of keys is empty is one: whoever publishes it takes back all keys.
    ///
    /// # Errors
    /// [`KeyError::NotAKeySet`] and [`KeyError::NoUsableKey`].
    pub fn jwks(json: &[u8]) -> Result<Self, KeyError> {
        crypto::install();
        // What serde says of a value of another kind would show it.
        let document: Value = serde_json::from_slice(json).map_err(|error| KeyError::NotAKeySet(error.to_string()))?;
        let Some(Value::Array(published)) = document.get("keys") else {
            return Err(KeyError::NotAKeySet("it is no object with an array \"keys\"".to_owned()));
        };
        let keys: Vec<_> = published.iter().filter_map(|key| of_jwk(&Jwk::deserialize(key).ok()?)).collect();
        if keys.is_empty() && !published.is_empty() { Err(KeyError::NoUsableKey) } else { Ok(Self(keys)) }
    }

    /// These keys and those.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    pub(super) fn has(&self, digest: &[u8; 32]) -> bool {
        self.0.iter().any(|key| key.digest == *digest)
    }
}

/// Whether a published key may be for `algorithm`: a secret that is published is none.
pub(super) fn is_published(algorithm: Algorithm) -> bool {
    [RSA, P256, P384, ED25519].iter().any(|family| family.contains(&algorithm))
}

fn of_jwk(jwk: &Jwk) -> Option<VerifyingKey> {
    if jwk.common.public_key_use.as_ref().is_some_and(|wanted| *wanted != PublicKeyUse::Signature) {
        return None;
    }
    let family = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => RSA,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => P256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => P384,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => ED25519,
        _ => return None,
    };
    let algorithms = match jwk.common.key_algorithm {
        None => family.to_vec(),
        Some(algorithm) => family.iter().copied().filter(|known| is_named(*known, algorithm)).collect(),
    };
    let key = DecodingKey::from_jwk(jwk).ok().filter(|_| !algorithms.is_empty())?;
    let digest = Sha256::digest(serde_json::to_vec(&jwk.algorithm).ok()?).into();
    Some(VerifyingKey { id: jwk.common.key_id.clone(), algorithms, key, digest })
}

fn is_named(known: Algorithm, algorithm: KeyAlgorithm) -> bool {
    format!("{known:?}") == algorithm.to_string()
}

/// What `fanline token` signs with.
pub struct SigningKey {
    pub(super) algorithm: Algorithm,
    pub(super) key: EncodingKey,
}

impl SigningKey {
    /// A shared secret: HS256.
    ///
    /// # Errors
    /// [`KeyError::ShortSecret`].
    pub fn secret(secret: &[u8]) -> Result<Self, KeyError> {
        crypto::install();
        if secret.len() < MIN_SECRET_BYTES {
            return Err(KeyError::ShortSecret(secret.len()));
        }
        Ok(Self { algorithm: Algorithm::HS256, key: EncodingKey::from_secret(secret) })
    }

    /// A private key: RS256, ES256, ES384 or EdDSA.
    ///
    /// # Errors
    /// [`KeyError::PrivatePem`].
    pub fn private_pem(pem: &[u8]) -> Result<Self, KeyError> {
        crypto::install();
        let signs = |algorithm, key: EncodingKey| {
            let is_right = jsonwebtoken::crypto::sign(b"a trial", &key, algorithm).is_ok();
            is_right.then_some(Self { algorithm, key })
        };
        let ec = || {
            let key = EncodingKey::from_ec_pem(pem).ok()?;
            signs(Algorithm::ES256, key.clone()).or_else(|| signs(Algorithm::ES384, key))
        };
        let ed = || signs(Algorithm::EdDSA, EncodingKey::from_ed_pem(pem).ok()?);
        let rsa = || signs(Algorithm::RS256, EncodingKey::from_rsa_pem(pem).ok()?);
        ec().or_else(ed).or_else(rsa).ok_or(KeyError::PrivatePem)
    }
}
