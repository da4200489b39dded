use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Uri};

use super::{Action, AuthRequest, LoopbackTrust, Patterns};
use crate::peer::Peer;
use crate::topic::TopicFilter;

#[cfg(feature = "auth")]
pub(crate) use tokens::{keys, token};

/// Input: a query, and headers on the following lines.
pub(crate) fn credentials(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let Ok(uri) = Uri::try_from([b"/stream?", lines.next().unwrap_or_default()].concat()) else { return };
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':').unwrap_or(line.len()));
        let value = HeaderValue::from_bytes(value.strip_prefix(b":").unwrap_or(value).trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), value) {
            headers.append(name, value);
        }
    }
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.uri, parts.headers) = (uri, headers);
    let reading = parts.clone();
    parts.method = Method::POST;
    let loopback = ([127, 0, 0, 1], 1).into();
    let peer = Peer::tcp(loopback, loopback);
    let get = AuthRequest::new(Action::Administer, &reading, &peer);
    let post = AuthRequest::new(Action::Publish, &parts, &peer);
    let (query, headers) = (parts.uri.query().unwrap_or(""), &parts.headers);
    let has = |name: &str| headers.contains_key(name);
    match (get.secret(), post.secret()) {
        (Ok(None), other) => assert!(matches!(other, Ok(None)), "POST ignores cookies"),
        (_, Ok(Some(secret))) => {
            let is_shown =
                has("authorization") || has("x-api-key") || query.contains("access_token") || query.contains('%');
            assert!(is_shown, "{secret:?} comes from a header or the query");
        }
        _ => {}
    }
    let is_forwarded = ["forwarded", "x-forwarded-for", "x-real-ip", "via"].into_iter().any(has);
    let is_local = |request: &AuthRequest<'_>| request.check_locality(LoopbackTrust::Any).is_ok();
    assert!(!is_forwarded || (!is_local(&get) && !is_local(&post)));
    assert!(is_local(&get) || !is_local(&post));
}

/// Input: a pattern, and a subject on the next line.
pub(crate) fn subject(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (pattern, subject) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(patterns) = Patterns::of_subject([pattern], Some(subject)) else { return };
    let found = patterns.to_string();
    assert_eq!(found, pattern.replace("{sub}", subject));
    // The subject adds no segment or wildcard.
    let shape = |text: &str| text.matches([':', '.', '/', '*']).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(shape(&found), shape(&pattern.replace("{sub}", "x")));
    assert!(patterns.covers(&TopicFilter::new(&found).expect("a valid filter")));
}

#[cfg(feature = "auth")]
mod tokens {
    use std::pin::pin;
    use std::sync::LazyLock;
    use std::task::{Context, Poll, Waker};

    use jsonwebtoken::{Algorithm, EncodingKey};

    use crate::auth::{Claims, KeyDigest, KeySet, SigningKey, TokenRules, Tokens};

    const SECRET: &[u8] = b"a secret of tests that has thirty-two bytes and more";
    const RSA: &[u8] = include_bytes!("../../tests/it/keys/rsa.pub.pem");
    const P256: &[u8] = include_bytes!("../../tests/it/keys/p256.pub.pem");

    /// A verifier with `SECRET`, a verifier with public keys only, and tokens of the first.
    static SERVER: LazyLock<Server> = LazyLock::new(|| {
        let rules = TokenRules::default;
        let secret = KeySet::secret(SECRET).expect("a secret of sufficient length");
        let public = KeySet::public_pem(RSA).expect("a valid key").and(KeySet::public_pem(P256).expect("a valid key"));
        let key = SigningKey::secret(SECRET).expect("a secret of sufficient length");
        let tokens = [Some("anna"), None].map(|sub| {
            let sub = sub.map(str::to_owned);
            Claims { sub, exp: 4_102_444_800, ..Claims::default() }.sign(&key).expect("a signing key")
        });
        Server { secret: Tokens::new(secret, rules()), public: Tokens::new(public, rules()), tokens }
    });

    struct Server {
        secret: Tokens,
        public: Tokens,
        tokens: [String; 2],
    }

    #[derive(serde::Deserialize)]
    struct End {
        exp: f64,
    }

    fn verifies(tokens: &Tokens, token: &str) -> bool {
        match pin!(tokens.verify(token)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(grant) => grant.is_ok(),
            Poll::Pending => unreachable!("no key is fetched"),
        }
    }

    /// Input: a token; or edits of a valid token in groups of four bytes (two for the place, a mask, and the number of bytes
    /// to remove); or a header, and claims on the next line, which are signed.
    pub(crate) fn token(data: &[u8]) {
        let server = &*SERVER;
        if let Ok(text) = std::str::from_utf8(data) {
            assert!(!verifies(&server.public, text), "the token is not signed");
            assert!(!verifies(&server.secret, text) || server.tokens.iter().any(|token| token == text));
        }
        for good in &server.tokens {
            assert!(verifies(&server.secret, good) && !verifies(&server.public, good));
            let mut bytes = good.clone().into_bytes();
            for edit in data.chunks_exact(4).take(16) {
                let place = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % bytes.len().max(1);
                let end = (place + usize::from(edit[3] % 8)).min(bytes.len());
                bytes.get_mut(place).into_iter().for_each(|byte| *byte ^= edit[2]);
                bytes.drain(place..end);
            }
            if let Ok(text) = std::str::from_utf8(&bytes)
                && text != good
            {
                assert!(!verifies(&server.secret, text), "{text} instead of {good}");
            }
        }
        let (header, claims) = data.split_at(data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len()));
        let message = format!("{}.{}", base64(header), base64(claims.strip_prefix(b"\n").unwrap_or(claims)));
        let signed = |key: &[u8]| {
            let signature =
                jsonwebtoken::crypto::sign(message.as_bytes(), &EncodingKey::from_secret(key), Algorithm::HS256);
            format!("{message}.{}", signature.expect("a signing key"))
        };
        if verifies(&server.secret, &signed(SECRET)) {
            let claims: End = serde_json::from_slice(&claims[1..]).expect("claims are JSON");
            assert!(claims.exp > 1_795_000_000.0, "the token has not expired");
            let header: serde_json::Value = serde_json::from_slice(header).expect("a header is JSON");
            assert!(header["alg"] == "HS256" && header.get("crit").is_none_or(serde_json::Value::is_null), "{header}");
        }
        for others in [RSA, P256, b"another secret that has thirty-two bytes", b""] {
            let forged = signed(others);
            assert!(!verifies(&server.public, &forged) && !verifies(&server.secret, &forged), "{forged}");
        }
    }

    /// Input: a key set, a key in PEM, or the hash of an API key.
    pub(crate) fn keys(data: &[u8]) {
        if let Ok(set) = KeySet::jwks(data) {
            let revokes_all =
                || serde_json::from_slice::<serde_json::Value>(data).unwrap()["keys"] == serde_json::json!([]);
            assert!(!set.0.is_empty() || revokes_all());
            assert!(set.0.iter().all(|key| !key.algorithms.is_empty()));
            let is_shared = |algorithm: &Algorithm| format!("{algorithm:?}").starts_with("HS");
            assert!(!set.0.iter().flat_map(|key| &key.algorithms).any(is_shared), "a key set has no shared secrets");
            // No set accepts a token that its keys did not sign.
            let tokens = Tokens::new(set, TokenRules::default());
            assert!(!SERVER.tokens.iter().any(|token| verifies(&tokens, token)));
        }
        let _ = KeySet::public_pem(data);
        let _ = SigningKey::private_pem(data);
        if let Some(digest) = std::str::from_utf8(data).ok().and_then(|text| text.parse::<KeyDigest>().ok()) {
            assert_eq!(digest.to_string().as_bytes(), data.to_ascii_lowercase());
        }
    }

    /// Base64url without padding (RFC 4648, section 5).
    fn base64(bytes: &[u8]) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let digits = bytes.chunks(3).flat_map(|group| {
            let bits = group.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
            (0..=group.len()).map(move |digit| char::from(ALPHABET[(bits >> (18 - 6 * digit)) as usize % 64]))
        });
        digits.collect()
    }
}
