//! JSON Web Tokens (RFC 7519).

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Header, Validation};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::grant::{Credential, Grant, TokenCredential};
use super::jwks::Jwks;
use super::key_set::{KeySet, SigningKey, VerifyingKey, is_published};
use super::options::TokenRules;
use super::patterns::Patterns;
use super::request::AuthRequest;
use super::{Authorize, Refusal};

/// When a client may retry if no keys are available.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// The latest expiry, in Unix seconds. Later ones count as this one, so that sums with it do not overflow.
const LAST_SECOND: u64 = 1 << 40;

/// An [`Authorize`] for JSON Web Tokens.
pub struct Tokens {
    keys: KeySet,
    jwks: Option<Jwks>,
    rules: TokenRules,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("keys", &self.keys).field("jwks", &self.jwks).finish_non_exhaustive()
    }
}

/// The claims of a token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// The subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// The expiry, in Unix seconds. A fraction in a received token is dropped.
    #[serde(deserialize_with = "whole_seconds")]
    pub exp: u64,
    /// The audience: a string or an array of strings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<Value>,
    /// The issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// What the token allows.
    #[serde(default)]
    pub fanline: Permissions,
}

/// The claim `fanline`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permissions {
    /// Topics and patterns that the token may subscribe to.
    #[serde(default)]
    pub subscribe: Vec<String>,
    /// Topics and patterns that the token may publish to.
    #[serde(default)]
    pub publish: Vec<String>,
    /// Whether the token may use the admin endpoints.
    #[serde(default)]
    pub admin: bool,
}

/// A key failed to sign.
#[derive(Debug, thiserror::Error)]
#[error("signing failed: {0}")]
pub struct SignError(jsonwebtoken::errors::Error);

impl Claims {
    /// Returns the signed token with these claims.
    ///
    /// # Errors
    /// [`SignError`] if the key cannot sign.
    pub fn sign(&self, key: &SigningKey) -> Result<String, SignError> {
        jsonwebtoken::encode(&Header::new(key.algorithm), self, &key.key).map_err(SignError)
    }
}

impl Tokens {
    /// Accepts tokens that one of `keys` verifies.
    pub fn new(keys: KeySet, rules: TokenRules) -> Self {
        Self { keys, jwks: None, rules }
    }

    /// Accepts tokens that a key of `jwks` verifies as well.
    #[must_use]
    pub fn with_jwks(self, jwks: Jwks) -> Self {
        Self { jwks: Some(jwks), ..self }
    }

    pub(super) async fn verify(&self, token: &str) -> Result<Grant, Refusal> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| {
            Refusal::InvalidCredentials("the token is malformed, or its algorithm is not supported".into())
        })?;
        if header.crit.is_some() {
            let detail = "the token has critical header parameters (crit), which are not supported";
            return Err(Refusal::InvalidCredentials(detail.into()));
        }
        let mut has_candidates = false;
        let mut verify_with_one_of = |keys: &KeySet| {
            let mut candidates = keys.candidates(&header).peekable();
            has_candidates |= candidates.peek().is_some();
            candidates.find_map(|key| self.verify_with(key, header.alg, token))
        };
        // A token of a configured key does not wait for a fetch.
        if let Some(outcome) = verify_with_one_of(&self.keys) {
            return outcome;
        }
        if let Some(jwks) = self.jwks.as_ref().filter(|_| is_published(header.alg)) {
            let Some(known) = jwks.current().await else {
                let detail = "the keys that verify tokens are unavailable (setting jwks)";
                return Err(Refusal::Unavailable { detail: detail.to_owned(), retry_after: RETRY_AFTER });
            };
            if let Some(outcome) = verify_with_one_of(&known) {
                return outcome;
            }
            if let Some(newer) = jwks.other_than(&known).await
                && let Some(outcome) = verify_with_one_of(&newer)
            {
                return outcome;
            }
        }
        Err(Refusal::InvalidCredentials(match has_candidates {
            true => "the token's signature is invalid".into(),
            false => "no key matches the token's algorithm and key id (alg, kid)".into(),
        }))
    }

    /// Returns the grant or the refusal of a token that `key` signed, and `None` for any other token.
    fn verify_with(&self, key: &VerifyingKey, algorithm: Algorithm, token: &str) -> Option<Result<Grant, Refusal>> {
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.rules.leeway.as_secs();
        validation.validate_nbf = true;
        if !self.rules.audience.is_empty() {
            validation.set_audience(&self.rules.audience);
            validation.required_spec_claims.insert("aud".into());
        }
        if !self.rules.issuer.is_empty() {
            validation.set_issuer(&self.rules.issuer);
            validation.required_spec_claims.insert("iss".into());
        }
        let error = match jsonwebtoken::decode::<Claims>(token, &key.key, &validation) {
            Ok(data) => return Some(self.grant(data.claims, key)),
            Err(error) => error,
        };
        // The claims are validated after the signature.
        Some(Err(Refusal::InvalidCredentials(match error.kind() {
            ErrorKind::ExpiredSignature => return Some(Err(Refusal::expired())),
            ErrorKind::ImmatureSignature => "the token is not valid yet (nbf)".to_owned(),
            ErrorKind::InvalidAudience => "the token is not for this server (aud; setting jwt_audience)".to_owned(),
            ErrorKind::InvalidIssuer => "the token's issuer is not accepted (iss; setting jwt_issuer)".to_owned(),
            // For the library, a claim of the wrong type is missing, and the other way round.
            ErrorKind::MissingRequiredClaim(_) | ErrorKind::Json(_) | ErrorKind::InvalidClaimFormat(_) => {
                claim_error(token, &validation)
            }
            ErrorKind::Base64(_) | ErrorKind::Utf8(_) | ErrorKind::InvalidToken => "the token is malformed".to_owned(),
            _ => return None,
        })))
    }

    fn grant(&self, claims: Claims, key: &VerifyingKey) -> Result<Grant, Refusal> {
        let subject = claims.sub.as_deref();
        let parse = |claim: &str, patterns: &[String]| {
            let patterns = Patterns::of_subject(patterns, subject);
            patterns.map_err(|error| Refusal::InvalidCredentials(format!("the token's claim fanline.{claim}: {error}")))
        };
        let ends = claims.exp.saturating_add(self.rules.leeway.as_secs()).min(LAST_SECOND);
        let printable = |subject: &&str| !subject.chars().any(char::is_control);
        Ok(Grant {
            subscribe: parse("subscribe", &claims.fanline.subscribe)?,
            publish: parse("publish", &claims.fanline.publish)?,
            admin: claims.fanline.admin,
            user: subject.filter(printable).map(Into::into),
            tags: Vec::new(),
            expires: Some(UNIX_EPOCH + Duration::from_secs(ends)),
            credential: Credential::Token(Box::new(TokenCredential {
                key: key.digest,
                audience: audience(&claims),
                issuer: claims.iss,
            })),
        })
    }

    /// Whether the rules still accept the audience and the issuer of a token that was valid before.
    fn accepts_names(&self, audience: &[String], issuer: Option<&String>) -> bool {
        let rules = &self.rules;
        let is_for_us = if rules.audience.is_empty() {
            audience.is_empty()
        } else {
            audience.iter().any(|name| rules.audience.contains(name))
        };
        is_for_us && (rules.issuer.is_empty() || issuer.is_some_and(|issuer| rules.issuer.contains(issuer)))
    }
}

/// Describes the first claim that is missing or has the wrong type, of a token whose signature is valid. The text does not
/// quote the claim.
fn claim_error(token: &str, validation: &Validation) -> String {
    type Check = fn(&Value) -> bool;
    let checks: [(&str, &str, Check); 6] = [
        ("exp", "a time in Unix seconds", is_time),
        ("nbf", "a time in Unix seconds", is_time),
        ("sub", "a string", Value::is_string),
        ("aud", "a string or an array of strings", |aud| match aud {
            Value::Array(names) => names.iter().all(Value::is_string),
            name => name.is_string(),
        }),
        ("iss", "a string", Value::is_string),
        ("fanline", "an object with subscribe, publish and admin", |_| false),
    ];
    let Ok(claims) = jsonwebtoken::dangerous::insecure_decode_claims::<Map<String, Value>>(token) else {
        return "the token's claims are not a JSON object".to_owned();
    };
    for (name, expected, has_type) in checks {
        match claims.get(name).filter(|claim| !claim.is_null() || name == "fanline") {
            None if validation.required_spec_claims.contains(name) => return format!("the token has no claim {name}"),
            Some(value) if !has_type(value) => return format!("the token's claim {name} must be {expected}"),
            _ => {}
        }
    }
    "the token is malformed".to_owned()
}

fn is_time(claim: &Value) -> bool {
    claim.as_f64().is_some_and(|seconds| (0.0..u64::MAX as f64).contains(&seconds))
}

/// Reads a number, which may have a fraction (RFC 7519, section 2, NumericDate).
fn whole_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    // The cast saturates.
    f64::deserialize(deserializer).map(|seconds| seconds as u64)
}

fn audience(claims: &Claims) -> Vec<String> {
    match &claims.aud {
        Some(Value::String(name)) => vec![name.clone()],
        Some(Value::Array(names)) => names.iter().filter_map(|name| name.as_str().map(Into::into)).collect(),
        _ => Vec::new(),
    }
}

impl Authorize for Tokens {
    async fn authorize(&self, request: &AuthRequest<'_>) -> Result<Option<Grant>, Refusal> {
        match request.secret()? {
            // Anything else may be an API key.
            Some(secret) if secret.matches('.').count() == 2 => self.verify(&secret).await.map(Some),
            _ => Ok(None),
        }
    }

    fn renew(&self, grant: &Grant) -> Option<Grant> {
        let Credential::Token(token) = &grant.credential else { return None };
        let TokenCredential { key, audience, issuer } = &**token;
        let published = self.jwks.as_ref().and_then(Jwks::keys);
        let is_known = self.keys.has(key) || published.is_some_and(|keys| keys.has(key));
        (is_known && self.accepts_names(audience, issuer.as_ref())).then(|| grant.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_written_as_an_integer_and_read_with_or_without_a_fraction() {
        let text = serde_json::to_string(&Claims { exp: 1_700_000_000, ..Claims::default() }).unwrap();
        assert!(text.contains("\"exp\":1700000000,"), "{text}");
        for (text, exp) in [("7", 7), ("7.9", 7), ("-1", 0), ("1e300", u64::MAX)] {
            let claims: Claims = serde_json::from_str(&format!("{{\"exp\":{text}}}")).unwrap();
            assert_eq!(claims.exp, exp, "{text}");
        }
    }
}
