//! Tokens of the tests, and access rules with them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanline::auth::{Access, ApiKeys, Claims, KeySet, Permissions, SigningKey, TokenRules, Tokens};

use super::{OPERATOR, PUBLISHER, key};

pub const SECRET: &[u8] = b"a secret of the tests that is long enough for HS256";
pub const RSA: &str = include_str!("../keys/rsa.pem");
pub const RSA_PUBLIC: &str = include_str!("../keys/rsa.pub.pem");
pub const AUDIENCE: &str = "fanline";

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The claims of anna's token: her own topics and `orders:*`, for an hour.
pub fn claims() -> Claims {
    Claims {
        sub: Some("anna".into()),
        exp: now() + 3600,
        aud: Some(AUDIENCE.into()),
        iss: None,
        fanline: Permissions { subscribe: vec!["user:{sub}".into(), "orders:*".into()], publish: vec![], admin: false },
    }
}

pub fn signed(claims: &Claims) -> String {
    claims.sign(&SigningKey::secret(SECRET).unwrap()).unwrap()
}

pub fn rules() -> TokenRules {
    TokenRules { audience: vec![AUDIENCE.into()], issuer: vec![], leeway: Duration::ZERO }
}

pub fn tokens() -> Tokens {
    let keys = KeySet::secret(SECRET).unwrap().and(KeySet::public_pem(RSA_PUBLIC.as_bytes()).unwrap());
    Tokens::new(keys, rules())
}

/// Access with API keys for a publisher and an operator, and with tokens.
pub fn guarded() -> Access {
    let publisher = key("shop", PUBLISHER, "orders:*", "", false);
    let operator = key("ops", OPERATOR, "**", "**", true);
    Access::new().accept(ApiKeys::new([publisher, operator])).accept(tokens())
}
