//! API keys: long random words, of which the server knows the digests only.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::grant::{Credential, Grant};
use super::patterns::Patterns;
use super::request::AuthRequest;
use super::{Answer, Authorize};

/// An API key's SHA-256, which is spelled `sha256:` and 64 hexadecimal digits. A key has too much randomness for a
/// digest to be guessed from, so that none of the slow ones is needed.
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

/// A text that is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key's hash is sha256: and 64 hexadecimal digits, as `fanline key` prints it; never the key itself")]
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

/// A key, and what whoever has it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Who has it, for `/clients`.
    pub name: String,
    /// What is known of it.
    pub digest: KeyDigest,
    /// Topics that they may publish to.
    pub publish: Patterns,
    /// Topics whose events they may have.
    pub subscribe: Patterns,
    /// Whether they are operators.
    pub admin: bool,
}

/// API keys as an [`Authorize`].
#[derive(Clone, Debug, Default)]
pub struct ApiKeys(Vec<ApiKey>);

impl ApiKeys {
    /// These keys.
    pub fn new(keys: impl IntoIterator<Item = ApiKey>) -> Self {
        Self(keys.into_iter().collect())
    }

    /// Looks at all keys however early one is found: how long it takes says nothing of the keys.
    fn find(&self, digest: &KeyDigest) -> Option<&ApiKey> {
        let mut found = u32::MAX;
        for (number, key) in (0..).zip(&self.0) {
            let is_it: Choice = key.digest.0.ct_eq(&digest.0);
            found.conditional_assign(&number, is_it);
        }
        self.0.get(found as usize)
    }
}

impl ApiKey {
    fn grant(&self) -> Grant {
        Grant {
            subscribe: self.subscribe.clone(),
            publish: self.publish.clone(),
            admin: self.admin,
            subject: Some(self.name.as_str().into()),
            expires: None,
            credential: Credential::Key(self.digest.0),
        }
    }
}

impl Authorize for ApiKeys {
    fn authorize<'a>(&'a self, request: &'a AuthRequest<'a>) -> Answer<'a> {
        let grant = request
            .secret()
            .map(|secret| secret.and_then(|secret| self.find(&KeyDigest::of(&secret))).map(ApiKey::grant));
        Box::pin(async move { grant })
    }

    fn renew(&self, grant: &Grant) -> Option<Grant> {
        let Credential::Key(digest) = grant.credential else { return None };
        self.find(&KeyDigest(digest)).map(ApiKey::grant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_comes_back_as_it_was_written() {
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
