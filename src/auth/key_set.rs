//! Keys that sign and verify tokens, each for the algorithms of its family.

use std::fmt;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::crypto;
use super::pkix::{self, Family, Key};

const HMAC: &[Algorithm] = &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
const RSA: &[Algorithm] = &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512];
const P256: &[Algorithm] = &[Algorithm::ES256];
const P384: &[Algorithm] = &[Algorithm::ES384];
const ED25519: &[Algorithm] = &[Algorithm::EdDSA];

/// The shortest secret, as RFC 7518 requires for HS256 (section 3.2).
const MIN_SECRET_BYTES: usize = 32;

/// Why a key is unusable. Contains no part of the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The secret is too short.
    #[error(
        "a token secret needs at least {MIN_SECRET_BYTES} bytes, this one has {0}: `openssl rand -hex 32` generates one"
    )]
    ShortSecret(usize),
    /// The text is not a public key.
    #[error("expected a public key in PEM (BEGIN PUBLIC KEY) of RSA, P-256, P-384 or Ed25519")]
    PublicPem,
    /// The text is not a private key.
    #[error("expected a private key in PEM (BEGIN PRIVATE KEY) of RSA, P-256, P-384 or Ed25519")]
    PrivatePem,
    /// The text is not a key set.
    #[error("expected a JSON Web Key Set: {0}")]
    NotAKeySet(String),
    /// The key set has keys, but none that can verify a token.
    #[error("the key set has no signature key of RSA, P-256, P-384 or Ed25519")]
    NoUsableKey,
}

/// A key that verifies tokens.
pub(super) struct VerifyingKey {
    pub(super) id: Option<String>,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) key: DecodingKey,
    /// Identifies the key when settings are reloaded.
    pub(super) digest: [u8; 32],
}

/// Keys that verify tokens. Each is used only for the algorithms of its family.
#[derive(Default)]
pub struct KeySet(pub(super) Vec<VerifyingKey>);

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| (&key.id, &key.algorithms))).finish()
    }
}

impl KeySet {
    /// A secret shared with the issuer, for HS256, HS384 and HS512.
    ///
    /// # Errors
    /// [`KeyError::ShortSecret`].
    pub fn secret(secret: &[u8]) -> Result<Self, KeyError> {
        check_secret(secret)?;
        Ok(Self::one(HMAC, DecodingKey::from_secret(secret), secret))
    }

    /// A public key in PEM, for RS256 to RS512, ES256, ES384 or EdDSA.
    ///
    /// # Errors
    /// [`KeyError::PublicPem`].
    pub fn public_pem(pem: &[u8]) -> Result<Self, KeyError> {
        crypto::install();
        // A private key contains the public one, but does not belong on this server.
        if pem.windows(11).any(|window| window == b"PRIVATE KEY") {
            return Err(KeyError::PublicPem);
        }
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| KeyError::PublicPem)?;
        let Key { family, bytes } = pkix::public_key(&der).ok_or(KeyError::PublicPem)?;
        Ok(match family {
            Family::Rsa => Self::one(RSA, DecodingKey::from_rsa_der(bytes), bytes),
            Family::P256 => Self::one(P256, DecodingKey::from_ec_der(bytes), bytes),
            Family::P384 => Self::one(P384, DecodingKey::from_ec_der(bytes), bytes),
            Family::Ed25519 => Self::one(ED25519, DecodingKey::from_ed_der(bytes), bytes),
        })
    }

    fn one(algorithms: &[Algorithm], key: DecodingKey, bytes: &[u8]) -> Self {
        Self(vec![VerifyingKey {
            id: None,
            algorithms: algorithms.to_vec(),
            key,
            digest: Sha256::digest(bytes).into(),
        }])
    }

    /// The public keys of a JSON Web Key Set. Keys of other families and keys for encryption are ignored. An empty array of
    /// keys is valid: it revokes all keys.
    ///
    /// # Errors
    /// [`KeyError::NotAKeySet`] and [`KeyError::NoUsableKey`].
    pub fn jwks(json: &[u8]) -> Result<Self, KeyError> {
        crypto::install();
        // Parsed in two steps, because a type error of serde would reveal the value.
        let document: Value = serde_json::from_slice(json).map_err(|error| KeyError::NotAKeySet(error.to_string()))?;
        let Some(Value::Array(published)) = document.get("keys") else {
            return Err(KeyError::NotAKeySet("an object with an array \"keys\"".to_owned()));
        };
        let keys: Vec<_> = published.iter().filter_map(|key| of_jwk(&Jwk::deserialize(key).ok()?)).collect();
        if keys.is_empty() && !published.is_empty() { Err(KeyError::NoUsableKey) } else { Ok(Self(keys)) }
    }

    /// Adds the keys of another set.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Returns the keys that may have signed a token with this header.
    pub(super) fn candidates(&self, header: &Header) -> impl Iterator<Item = &VerifyingKey> {
        let id = header.kid.as_deref();
        self.0.iter().filter(move |key| {
            let is_same_id = id.is_none() || key.id.is_none() || key.id.as_deref() == id;
            key.algorithms.contains(&header.alg) && is_same_id
        })
    }

    pub(super) fn has(&self, digest: &[u8; 32]) -> bool {
        self.0.iter().any(|key| key.digest == *digest)
    }
}

fn check_secret(secret: &[u8]) -> Result<(), KeyError> {
    crypto::install();
    if secret.len() < MIN_SECRET_BYTES { Err(KeyError::ShortSecret(secret.len())) } else { Ok(()) }
}

/// Whether a key set at a URL may hold keys for `algorithm`. Those of HMAC are secret.
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
        Some(algorithm) => {
            family.iter().copied().filter(|known| format!("{known:?}") == algorithm.to_string()).collect()
        }
    };
    let key = DecodingKey::from_jwk(jwk).ok().filter(|_| !algorithms.is_empty())?;
    let digest = Sha256::digest(serde_json::to_vec(&jwk.algorithm).ok()?).into();
    Some(VerifyingKey { id: jwk.common.key_id.clone(), algorithms, key, digest })
}

/// A key that signs tokens.
pub struct SigningKey {
    pub(super) algorithm: Algorithm,
    pub(super) key: EncodingKey,
}

impl fmt::Debug for SigningKey {
    /// Omits the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// A shared secret, for HS256.
    ///
    /// # Errors
    /// [`KeyError::ShortSecret`].
    pub fn secret(secret: &[u8]) -> Result<Self, KeyError> {
        check_secret(secret)?;
        Ok(Self { algorithm: Algorithm::HS256, key: EncodingKey::from_secret(secret) })
    }

    /// A private key in PEM, for RS256, ES256, ES384 or EdDSA.
    ///
    /// # Errors
    /// [`KeyError::PrivatePem`].
    pub fn private_pem(pem: &[u8]) -> Result<Self, KeyError> {
        crypto::install();
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| KeyError::PrivatePem)?;
        let (algorithm, key) = match &der {
            PrivateKeyDer::Pkcs1(key) => (Algorithm::RS256, EncodingKey::from_rsa_der(key.secret_pkcs1_der())),
            PrivateKeyDer::Pkcs8(key) => of_pkcs8(key.secret_pkcs8_der()).ok_or(KeyError::PrivatePem)?,
            _ => return Err(KeyError::PrivatePem),
        };
        let is_usable = jsonwebtoken::crypto::sign(b"test", &key, algorithm).is_ok();
        is_usable.then_some(Self { algorithm, key }).ok_or(KeyError::PrivatePem)
    }
}

fn of_pkcs8(der: &[u8]) -> Option<(Algorithm, EncodingKey)> {
    let Key { family, bytes } = pkix::private_key(der)?;
    Some(match family {
        Family::Rsa => (Algorithm::RS256, EncodingKey::from_rsa_der(bytes)),
        Family::P256 => (Algorithm::ES256, EncodingKey::from_ec_der(der)),
        Family::P384 => (Algorithm::ES384, EncodingKey::from_ec_der(der)),
        Family::Ed25519 => (Algorithm::EdDSA, EncodingKey::from_ed_der(der)),
    })
}
