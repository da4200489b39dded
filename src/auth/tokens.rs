//! JSON Web Tokens (RFC 7519), verified.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Header, Validation};
use serde::{Deserialize, Serialize};

use super::grant::{Credential, Grant};
use super::jwks::Jwks;
use super::key_set::{KeySet, SigningKey, VerifyingKey, is_published};
use super::patterns::Patterns;
use super::refusal::Refusal;
use super::request::AuthRequest;
use super::{Answer, Authorize};

/// How long a client waits before it tries again while keys cannot be had.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// A year in which nobody asks any more: ends later than this are as good as none, and sums with them overflow nothing.
const LAST_SECOND: u64 = 1 << 40;

/// What a token must say besides a good signature and an end that has not come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenRules {
    /// One of these must be in its `aud`. Without any, a token that is for somebody is not for this server.
    pub audience: Vec<String>,
    /// Its `iss` must be one of these, if there are any.
    pub issuer: Vec<String>,
    /// By how much clocks may differ: tokens are good this long after `exp` and before `nbf`.
    pub leeway: Duration,
}

/// Tokens as an [`Authorize`].
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

/// What keys say of a token.
enum Verdict {
    /// One of them has signed it, and this is what it is worth; or it cannot be read, whatever the key.
    Of(Result<Grant, Refusal>),
    /// None of them is for its algorithm and key id.
    NoneFits,
    /// Some are, but none has signed it.
    NoneVerifies,
}

/// What a token says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// Who has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// When it ends, in Unix seconds.
    pub exp: f64,
    /// Whom it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<serde_json::Value>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// What whoever has it may do.
    #[serde(default)]
    pub fanline: Permissions,
}

/// The claim `fanline`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permissions {
    /// Topics and patterns whose events they may have.
    #[serde(default)]
    pub subscribe: Vec<String>,
    /// Topics and patterns that they may publish to.
    #[serde(default)]
    pub publish: Vec<String>,
    /// Whether they are operators.
    #[serde(default)]
    pub admin: bool,
}

impl Claims {
    /// The token that says this.
    ///
    /// # Errors
    /// When the key cannot sign; the error says why.
    pub fn sign(&self, key: &SigningKey) -> Result<String, String> {
        jsonwebtoken::encode(&Header::new(key.algorithm), self, &key.key).map_err(|error| error.to_string())
    }
}

impl Tokens {
    /// Tokens that one of `keys` verifies.
    pub fn new(keys: KeySet, rules: TokenRules) -> Self {
        Self { keys, jwks: None, rules }
    }

    /// The keys of `jwks` as well.
    #[must_use]
    pub fn with_jwks(self, jwks: Jwks) -> Self {
        Self { jwks: Some(jwks), ..self }
    }

    pub(super) async fn verify(&self, token: &str) -> Result<Grant, Refusal> {
        let header = jsonwebtoken::decode_header(token)
            .map_err(|_| unknown("the token cannot be read, or its algorithm is none that is accepted"))?;
        if header.crit.is_some() {
            return Err(unknown("the token's header has critical parameters (crit), and none are known here"));
        }
        // A token that a key of this machine verifies does not wait for the others.
        let mut fits_one = match self.verify_with_one_of(&self.keys, &header, token) {
            Verdict::Of(outcome) => return outcome,
            Verdict::NoneFits => false,
            Verdict::NoneVerifies => true,
        };
        if let Some(jwks) = self.jwks.as_ref().filter(|_| is_published(header.alg)) {
            let Some(known) = jwks.current().await else {
                let detail = "the keys that tokens are verified with cannot be had now (setting jwks)";
                return Err(Refusal::Unavailable(detail.to_owned(), RETRY_AFTER));
            };
            let mut verdict = self.verify_with_one_of(&known, &header, token);
            if !matches!(verdict, Verdict::Of(_))
                && let Some(newer) = jwks.other_than(&known).await
            {
                verdict = self.verify_with_one_of(&newer, &header, token);
            }
            match verdict {
                Verdict::Of(outcome) => return outcome,
                Verdict::NoneFits => {}
                Verdict::NoneVerifies => fits_one = true,
            }
        }
        Err(unknown(if fits_one {
            "the token's signature is not good"
        } else {
            "no key here verifies tokens of this algorithm and key id (alg, kid)"
        }))
    }

    fn verify_with_one_of(&self, keys: &KeySet, header: &Header, token: &str) -> Verdict {
        let id = header.kid.as_deref();
        let fits = |key: &&VerifyingKey| {
            key.algorithms.contains(&header.alg) && (id.is_none() || key.id.is_none() || key.id.as_deref() == id)
        };
        let mut verdict = Verdict::NoneFits;
        for key in keys.0.iter().filter(fits) {
            match self.verify_with(key, header.alg, token) {
                Some(outcome) => return Verdict::Of(outcome),
                None => verdict = Verdict::NoneVerifies,
            }
        }
        verdict
    }

    /// What a token is worth that `key` has signed; none when it has not.
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
        // Claims are looked at when the signature is known to be good.
        Some(Err(unknown(&match error.kind() {
            ErrorKind::ExpiredSignature => "the token has expired (exp)".to_owned(),
            ErrorKind::ImmatureSignature => "the token is not valid yet (nbf)".to_owned(),
            ErrorKind::InvalidAudience => "the token is not for this server (aud; setting jwt_audience)".to_owned(),
            ErrorKind::InvalidIssuer => "the token's issuer is not accepted (iss; setting jwt_issuer)".to_owned(),
            ErrorKind::MissingRequiredClaim(claim) => format!("the token has no claim {claim}"),
            // What serde says of a claim would show it.
            ErrorKind::Json(_) | ErrorKind::InvalidClaimFormat(_) => {
                "a claim of the token is not of its kind (exp, nbf, sub, aud, iss, fanline)".to_owned()
            }
            ErrorKind::Base64(_) | ErrorKind::Utf8(_) | ErrorKind::InvalidToken => {
                "the token cannot be read".to_owned()
            }
            _ => return None,
        })))
    }

    fn grant(&self, claims: Claims, key: &VerifyingKey) -> Result<Grant, Refusal> {
        let subject = claims.sub.as_deref();
        let read = |claim: &str, patterns: &[String]| {
            let patterns = Patterns::of_subject(patterns, subject);
            patterns.map_err(|error| unknown(&format!("the token's claim fanline.{claim}: {error}")))
        };
        let ends = (claims.exp.max(0.0) as u64).saturating_add(self.rules.leeway.as_secs()).min(LAST_SECOND);
        let printable = |subject: &&str| !subject.chars().any(char::is_control);
        Ok(Grant {
            subscribe: read("subscribe", &claims.fanline.subscribe)?,
            publish: read("publish", &claims.fanline.publish)?,
            admin: claims.fanline.admin,
            subject: subject.filter(printable).map(Into::into),
            expires: Some(UNIX_EPOCH + Duration::from_secs(ends)),
            credential: Credential::Token { key: key.digest, audience: audience(&claims), issuer: claims.iss },
        })
    }

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

fn audience(claims: &Claims) -> Vec<String> {
    match &claims.aud {
        Some(serde_json::Value::String(name)) => vec![name.clone()],
        Some(serde_json::Value::Array(names)) => {
            names.iter().filter_map(|name| name.as_str().map(Into::into)).collect()
        }
        _ => Vec::new(),
    }
}

fn unknown(detail: &str) -> Refusal {
    Refusal::Unauthenticated(detail.to_owned())
}

impl Authorize for Tokens {
    fn authorize<'a>(&'a self, request: &'a AuthRequest<'a>) -> Answer<'a> {
        Box::pin(async move {
            match request.secret()? {
                // Anything else is no token, and may be something that others know.
                Some(secret) if secret.matches('.').count() == 2 => self.verify(&secret).await.map(Some),
                _ => Ok(None),
            }
        })
    }

    fn renew(&self, grant: &Grant) -> Option<Grant> {
        let Credential::Token { key, audience, issuer } = &grant.credential else { return None };
        let published = self.jwks.as_ref().and_then(Jwks::keys);
        let is_known = self.keys.has(key) || published.is_some_and(|keys| keys.has(key));
        (is_known && self.accepts_names(audience, issuer.as_ref())).then(|| grant.clone())
    }
}
