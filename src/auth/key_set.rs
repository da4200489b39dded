//! The keys that tokens are verified with, each with the algorithms that it is for.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::crypto;
use super::fetch::{Fetcher, Url};

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
    /// A key set that is of no use.
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
    /// are passed over.
    ///
    /// # Errors
    /// [`KeyError::NotAKeySet`] and [`KeyError::NoUsableKey`].
    pub fn jwks(json: &[u8]) -> Result<Self, KeyError> {
        crypto::install();
        let set: JwkSet = serde_json::from_slice(json).map_err(|error| KeyError::NotAKeySet(error.to_string()))?;
        let keys: Vec<_> = set.keys.iter().filter_map(of_jwk).collect();
        if keys.is_empty() { Err(KeyError::NoUsableKey) } else { Ok(Self(keys)) }
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

fn of_jwk(jwk: &Jwk) -> Option<VerifyingKey> {
    if jwk.common.public_key_use.as_ref().is_some_and(|wanted| *wanted != PublicKeyUse::Signature) {
        return None;
    }
    let family = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => RSA,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => P256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => P384,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => ED25519,
        // A secret that is published is none.
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

/// How long keys of a URL are used before they are asked for again, in the background.
const FRESH_FOR: Duration = Duration::from_secs(300);
/// How long the URL is left alone after it was asked.
const ASKED_AT_MOST_EACH: Duration = Duration::from_secs(10);
const TIME_LIMIT: Duration = Duration::from_secs(5);
const MAX_BYTES: usize = 1 << 20;

/// A key set at a URL: fetched, kept, and fetched again when it is old or a token names a key that is not in it. While the
/// URL does not answer, the keys that are known stay in use.
#[derive(Clone)]
pub struct Jwks(Arc<Remote>);

struct Remote {
    fetcher: Fetcher,
    keys: ArcSwap<KeySet>,
    /// When the URL was asked last. Who has the lock is asking.
    asked: Arc<Mutex<Option<Instant>>>,
    pause: Duration,
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwks").field("url", self.url()).finish_non_exhaustive()
    }
}

impl Jwks {
    /// The key set at `url`, which is asked when the first token comes.
    pub fn at(url: Url) -> Self {
        Self::with_pause(url, ASKED_AT_MOST_EACH)
    }

    /// How long the URL is left alone after it was asked; without this, 10 s.
    #[must_use]
    pub fn asked_at_most_each(self, pause: Duration) -> Self {
        Self::with_pause(self.url().clone(), pause)
    }

    fn with_pause(url: Url, pause: Duration) -> Self {
        let fetcher = Fetcher::new(url, TIME_LIMIT, MAX_BYTES);
        Self(Arc::new(Remote { fetcher, keys: ArcSwap::default(), asked: Arc::default(), pause }))
    }

    /// Where it is.
    pub fn url(&self) -> &Url {
        self.0.fetcher.url()
    }

    /// Fetches the keys now. Answers whether any are known, be they these or those of before.
    pub async fn refresh(&self) -> bool {
        self.fetch(self.0.asked.clone().lock_owned().await).await;
        !self.keys().0.is_empty()
    }

    pub(super) fn keys(&self) -> Arc<KeySet> {
        self.0.keys.load_full()
    }

    /// Fetches the keys when none of those that are known will do, or waits for who does; has old ones fetched meanwhile.
    pub(super) async fn look_for(&self, fits: impl Fn(&VerifyingKey) -> bool) {
        let is_known = || self.keys().0.iter().any(&fits);
        if is_known() {
            if let Ok(asked) = self.0.asked.clone().try_lock_owned()
                && asked.is_none_or(|asked| asked.elapsed() >= FRESH_FOR)
            {
                let other = self.clone();
                tokio::spawn(async move { other.fetch(asked).await });
            }
            return;
        }
        let asked = self.0.asked.clone().lock_owned().await;
        if !is_known() && asked.is_none_or(|asked| asked.elapsed() >= self.0.pause) {
            self.fetch(asked).await;
        }
    }

    /// Fetches the keys, for whoever has the turn.
    async fn fetch(&self, mut asked: OwnedMutexGuard<Option<Instant>>) {
        *asked = Some(Instant::now());
        let url = self.url();
        match self.0.fetcher.get().await {
            Ok(body) => match KeySet::jwks(&body) {
                Ok(keys) => {
                    tracing::debug!(%url, ?keys, "key set read");
                    self.0.keys.store(Arc::new(keys));
                }
                Err(error) => tracing::warn!(%url, %error, "the key set cannot be used; the keys that are known stay"),
            },
            Err(error) => tracing::warn!(%url, %error, "the key set cannot be read; the keys that are known stay"),
        }
    }
}
