//! API keys: random secrets, of which the server stores only digests.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::grant::{Credential, Grant};
use super::patterns::Patterns;
use super::request::AuthRequest;
use super::{Authorize, Refusal};

/// The SHA-256 of an API key, written `sha256:` and 64 hexadecimal digits. A key has enough entropy that a slow password
/// hash would add nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// The digest of `key`.
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }
}

impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(…)")
    }
}

/// The text is not a [`KeyDigest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the key's hash, sha256: and 64 hexadecimal digits as `fanline key` prints it, never the key itself")]
#[non_exhaustive]
pub struct InvalidDigest;

impl FromStr for KeyDigest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let digits = text.strip_prefix("sha256:").filter(|digits| digits.len() == 64).ok_or(InvalidDigest)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(InvalidDigest);
        }
        let mut digest = [0; 32];
        for (byte, at) in digest.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| InvalidDigest)?;
        }
        Ok(Self(digest))
    }
}

/// Returns a new API key with 256 random bits. Its prefix identifies it to users and to scanners for leaked secrets.
///
/// # Errors
/// When the system provides no randomness.
pub fn random_key() -> std::io::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().fold("fanline_".to_owned(), |key, byte| key + &format!("{byte:02x}")))
}

/// An API key, and what it allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// The user, as `/clients` shows it.
    pub name: String,
    /// The digest of the key.
    pub digest: KeyDigest,
    /// Topics that it may publish to.
    pub publish: Patterns,
    /// Topics that it may subscribe to.
    pub subscribe: Patterns,
    /// Whether it may use the admin endpoints.
    pub admin: bool,
}

impl ApiKey {
    fn grant(&self) -> Grant {
        Grant {
            subscribe: self.subscribe.clone(),
            publish: self.publish.clone(),
            admin: self.admin,
            user: Some(self.name.as_str().into()),
            tags: Vec::new(),
            expires: None,
            credential: Credential::ApiKey(self.digest.0),
        }
    }
}

/// An [`Authorize`] for API keys.
#[derive(Clone, Debug, Default)]
pub struct ApiKeys(Vec<ApiKey>);

impl ApiKeys {
    /// Accepts `keys`.
    pub fn new(keys: impl IntoIterator<Item = ApiKey>) -> Self {
        Self(keys.into_iter().collect())
    }

    /// Compares all keys in constant time, so that the duration reveals nothing about them.
    fn find(&self, digest: &KeyDigest) -> Option<&ApiKey> {
        let mut found = u32::MAX;
        for (number, key) in (0..).zip(&self.0) {
            found.conditional_assign(&number, key.digest.0.ct_eq(&digest.0));
        }
        self.0.get(found as usize)
    }
}

impl Authorize for ApiKeys {
    async fn authorize(&self, request: &AuthRequest<'_>) -> Result<Option<Grant>, Refusal> {
        let secret = request.secret()?;
        Ok(secret.and_then(|secret| self.find(&KeyDigest::of(&secret))).map(ApiKey::grant))
    }

    fn renew(&self, grant: &Grant) -> Option<Grant> {
        let Credential::ApiKey(digest) = grant.credential else { return None };
        self.find(&KeyDigest(digest)).map(ApiKey::grant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_parses_what_it_displays() {
        let digest = KeyDigest::of("abc");
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse(), Ok(digest));
        for text in ["", "abc", "sha256:", &text[..70], "sha256:zz", &text.replace("ba", "ü")] {
            assert_eq!(text.parse::<KeyDigest>(), Err(InvalidDigest), "{text}");
        }
    }

    #[test]
    fn a_key_is_found_among_several() {
        let key = |name: &str| ApiKey {
            name: name.into(),
            digest: KeyDigest::of(name),
            publish: Patterns::default(),
            subscribe: Patterns::default(),
            admin: false,
        };
        let keys = ApiKeys::new(["a", "b", "c"].map(key));
        for name in ["a", "b", "c"] {
            assert_eq!(keys.find(&KeyDigest::of(name)).unwrap().name, name);
        }
        assert!(keys.find(&KeyDigest::of("d")).is_none() && ApiKeys::default().find(&KeyDigest::of("a")).is_none());
    }
}
