//! How requests carry credentials, and how invalid ones are rejected.

use std::time::Duration;

use fanline::auth::{Access, Claims, KeyError, KeySet, SigningKey, TokenRules, Tokens};
use serde_json::{Value, json};

use super::table::forged;
use super::{AUDIENCE, OPERATOR, PUBLISHER, SECRET, claims, guarded, now, rules, serve, signed};
use crate::support::{Server, assert_problem, request, run};

async fn status(server: &Server, method: &str, target: &str, headers: &[(&str, &str)]) -> u16 {
    let mut client = server.connect().await;
    let headers = [headers, &[("content-type", "application/json")]].concat();
    client.send(request(method, target, &headers, if method == "POST" { b"1" } else { b"" })).await;
    client.head().await.status
}

#[test]
fn header_cookie_and_query_carry_tokens_but_cookies_cannot_publish() {
    run(async {
        let mut rich = claims();
        rich.fanline.publish = vec!["orders:*".into()];
        let (server, token) = (serve(guarded()), signed(&rich));
        let (bearer, cookie) = (format!("Bearer {token}"), format!("a=b; fanline_token={token}"));
        let (stream, publish) = ("/stream?topics=user:anna", "/publish/orders:1");
        let query = |target: &str, sign| format!("{target}{sign}access_token={token}");
        assert_eq!(status(&server, "GET", stream, &[("authorization", &bearer)]).await, 200);
        assert_eq!(status(&server, "GET", stream, &[("cookie", &cookie)]).await, 200);
        assert_eq!(status(&server, "GET", &query(stream, '&'), &[]).await, 200);
        assert_eq!(status(&server, "GET", stream, &[]).await, 401);
        assert_eq!(status(&server, "POST", publish, &[("authorization", &bearer)]).await, 200);
        assert_eq!(status(&server, "POST", &query(publish, '?'), &[]).await, 200);
        assert_eq!(status(&server, "POST", publish, &[("cookie", &cookie)]).await, 401);
        assert_eq!(status(&server, "POST", publish, &[("x-api-key", PUBLISHER)]).await, 200);
        assert_eq!(status(&server, "GET", &format!("/clients?limit=1&access_token={OPERATOR}"), &[]).await, 200);
    });
}

#[test]
fn rejections_name_cause_and_remedy() {
    run(async {
        let server = serve(guarded());
        let ask = async |target: &str, token: &str| {
            server.ask(request("GET", target, &[("authorization", &format!("Bearer {token}"))], b"")).await
        };
        let token = signed(&claims());
        assert_problem(&ask("/stream?topics=user:bert,user:anna", &token).await, 403, &["\"user:bert\""]);
        assert_problem(&ask("/stream", &token).await, 403, &["everything"]);
        assert_problem(&ask("/stream", &signed(&Claims { exp: 1, ..claims() })).await, 401, &["expired"]);
        assert_problem(&ask("/stream", &signed(&Claims { aud: None, ..claims() })).await, 401, &["aud"]);
        assert_problem(&ask("/stream", &format!("{token}x")).await, 401, &["signature"]);
        let mut subject = claims();
        for sub in ["*", "a:b", "a.b", "anna,bert", "a\u{0}", ""] {
            subject.sub = Some(sub.into());
            assert_problem(&ask("/stream?topics=orders:1", &signed(&subject)).await, 401, &["user:{sub}", "sub"]);
        }
        assert_problem(&server.get("/stream").await, 401, &["Authorization: Bearer", "access_token"]);
        let open = Server::start();
        let proxied = [("x-forwarded-for", "10.0.0.1"), ("content-type", "application/json")];
        let publish = open.ask(request("POST", "/publish/a", &proxied, b"1")).await;
        assert_problem(&publish, 403, &["x-forwarded-for", "anonymous_publish", "[[keys]]", "jwt_secret"]);
        assert_problem(
            &open.ask(request("GET", "/clients", &proxied, b"")).await,
            403,
            &[
                "without credentials configured, using the admin endpoints is allowed from loopback only, and the header \
               x-forwarded-for says that a proxy forwarded this request; to allow it, configure credentials, such as [[keys]] \
               with admin = true",
            ],
        );
        assert_problem(&open.ask(request("GET", "/metrics", &proxied, b"")).await, 403, &["anonymous_metrics"]);
    });
}

#[test]
fn pages_of_other_origins_cannot_publish_through_a_local_browser() {
    run(async {
        let server = Server::start();
        for (origin, expected) in [("https://evil.example", 403), ("null", 403), ("http://localhost:3000", 200)] {
            assert_eq!(status(&server, "POST", "/publish/a", &[("origin", origin)]).await, expected, "{origin}");
        }
    });
}

#[test]
fn forbidden_event_rejects_the_whole_array_and_stops_an_upload() {
    run(async {
        let server = serve(guarded());
        let key = ("x-api-key", PUBLISHER);
        let batch = br#"[{"topic":"orders:1","data":1},{"topic":"other","data":2}]"#;
        let refused =
            server.ask(request("POST", "/publish", &[key, ("content-type", "application/json")], batch)).await;
        assert_problem(&refused, 403, &["\"other\""]);
        let lines = b"{\"topic\":\"orders:1\",\"data\":1}\n{\"topic\":\"other\",\"data\":2}\n{\"topic\":\"orders:2\",\"data\":3}\n";
        let stopped =
            server.ask(request("POST", "/publish", &[key, ("content-type", "application/x-ndjson")], lines)).await;
        let problem = assert_problem(&stopped, 403, &["line 2", "\"other\""]);
        assert_eq!((&problem["published"], &problem["line"]), (&Value::from(1), &Value::from(2)));
        assert_eq!(server.hub.stats().published, 1);
    });
}

#[test]
fn client_list_shows_the_authenticated_user() {
    run(async {
        let server = serve(guarded());
        let bearer = format!("Bearer {}", signed(&claims()));
        let mut stream = server.subscribe_with("/stream?topics=user:anna", &[("authorization", &bearer)]).await;
        stream.hello().await;
        let list = server.ask(request("GET", "/clients", &[("x-api-key", OPERATOR)], b"")).await.ok();
        assert_eq!(list["clients"][0]["user"], "anna");
    });
}

/// The status of a subscription with a token whose claim has this value, or is missing.
async fn status_with_claim(server: &Server, claim: &str, value: &Value) -> u16 {
    let mut claims = json!({
        "sub": "anna", "exp": now() + 60, "aud": AUDIENCE, "iss": "login", "fanline": {"subscribe": ["orders:{sub}"]}
    });
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(claim)),
        value => claims[claim] = value.clone(),
    }
    let bearer = format!("Bearer {}", forged(&json!({"alg": "HS256"}), &claims, SECRET));
    status(server, "GET", "/stream?topics=orders:anna", &[("authorization", &bearer)]).await
}

#[test]
fn token_claims_are_validated() {
    run(async {
        let rules = TokenRules {
            audience: vec![AUDIENCE.into(), "other".into()],
            issuer: vec!["login".into()],
            leeway: Duration::from_secs(10),
        };
        let server = serve(Access::new().accept(Tokens::new(KeySet::secret(SECRET).unwrap(), rules)));
        for (claim, value, expected) in [
            ("sub", json!("anna"), 200),
            ("sub", json!(7), 401),
            ("sub", Value::Null, 401),
            ("exp", json!((now() + 60) as f64 + 0.5), 200),
            ("exp", json!(now() - 5), 200),
            ("exp", json!(now() - 15), 401),
            ("exp", json!(-1), 401),
            ("exp", json!(4_000_000_000u64), 200),
            ("exp", json!(1e300), 401),
            ("exp", json!("soon"), 401),
            ("exp", Value::Null, 401),
            ("nbf", json!(now() + 5), 200),
            ("nbf", json!(now() + 30), 401),
            ("nbf", json!("soon"), 401),
            ("aud", json!(["x", "other"]), 200),
            ("aud", json!(["x"]), 401),
            ("aud", json!({"fanline": true}), 401),
            ("aud", Value::Null, 401),
            ("iss", json!("else"), 401),
            ("iss", json!(["login"]), 401),
            ("iss", Value::Null, 401),
            ("fanline", json!({"subscribe": "orders:anna"}), 401),
            ("fanline", json!({"subscibe": ["orders:anna"]}), 401),
            ("fanline", json!({"subscribe": ["a**"]}), 401),
            ("fanline", json!({"admin": true}), 403),
            ("fanline", json!(["orders:anna"]), 401),
            ("fanline", Value::Null, 403),
            ("scope", json!("whatever"), 200),
        ] {
            let found = status_with_claim(&server, claim, &value).await;
            assert_eq!(found, expected, "{claim} = {value}");
        }
    });
}

#[test]
fn an_invalid_claim_is_named_with_its_error() {
    run(async {
        let server = serve(guarded());
        let good = json!({"sub": "anna", "exp": now() + 60, "aud": AUDIENCE});
        for (claim, value, expected) in [
            ("exp", Value::Null, "the token has no claim exp"),
            ("exp", json!(-1), "the token's claim exp must be a time in Unix seconds"),
            ("exp", json!("soon"), "the token's claim exp must be a time in Unix seconds"),
            ("exp", json!(1e300), "the token's claim exp must be a time in Unix seconds"),
            ("nbf", json!("soon"), "the token's claim nbf must be a time in Unix seconds"),
            ("sub", json!(7), "the token's claim sub must be a string"),
            ("aud", Value::Null, "the token has no claim aud"),
            ("aud", json!([7]), "the token's claim aud must be a string or an array of strings"),
            ("iss", json!(["login"]), "the token's claim iss must be a string"),
            ("fanline", json!("x"), "the token's claim fanline must be an object with subscribe, publish and admin"),
        ] {
            let mut claims = good.clone();
            match &value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(claim)),
                value => claims[claim] = value.clone(),
            }
            let bearer = format!("Bearer {}", forged(&json!({"alg": "HS256"}), &claims, SECRET));
            let refused = server.ask(request("GET", "/stream", &[("authorization", &bearer)], b"")).await;
            assert_eq!(assert_problem(&refused, 401, &[])["detail"], expected, "{claim} = {value}");
        }
    });
}

/// RFC 6750, section 3.1.
#[test]
fn only_invalid_credentials_are_challenged_with_an_error_code() {
    run(async {
        let (server, open) = (serve(guarded()), Server::start());
        let expired = format!("Bearer {}", signed(&Claims { exp: 1, ..claims() }));
        let invalid = Some("Bearer realm=\"fanline\", error=\"invalid_token\"");
        for (server, headers, expected) in [
            (&server, &[][..], Some("Bearer realm=\"fanline\"")),
            (&server, &[("authorization", "Basic dTpw")], Some("Bearer realm=\"fanline\"")),
            (&server, &[("authorization", &expired)], invalid),
            (&server, &[("authorization", "Bearer x.y.z")], invalid),
            (&server, &[("x-api-key", "unknown")], invalid),
            (&server, &[("x-api-key", OPERATOR), ("x-api-key", OPERATOR)], invalid),
            (&open, &[("x-api-key", "unknown")], invalid),
        ] {
            let refused = server.ask(request("GET", "/clients", headers, b"")).await;
            assert_eq!(refused.head.status, 401, "{headers:?}");
            assert_eq!(refused.head.header("www-authenticate"), expected, "{headers:?}");
        }
    });
}

#[test]
fn each_key_verifies_only_its_own_tokens() {
    const KEYS: [(&str, &str); 4] = [
        (include_str!("../keys/rsa.pem"), include_str!("../keys/rsa.pub.pem")),
        (include_str!("../keys/p256.pem"), include_str!("../keys/p256.pub.pem")),
        (include_str!("../keys/p384.pem"), include_str!("../keys/p384.pub.pem")),
        (include_str!("../keys/ed25519.pem"), include_str!("../keys/ed25519.pub.pem")),
    ];
    run(async {
        for (place, (_, public)) in KEYS.iter().enumerate() {
            let keys = KeySet::public_pem(public.as_bytes()).unwrap();
            let server = serve(Access::new().accept(Tokens::new(keys, rules())));
            for (other, (private, _)) in KEYS.iter().enumerate() {
                let token = claims().sign(&SigningKey::private_pem(private.as_bytes()).unwrap()).unwrap();
                let bearer = format!("Bearer {token}");
                let found = status(&server, "GET", "/stream?topics=user:anna", &[("authorization", &bearer)]).await;
                assert_eq!(found, if place == other { 200 } else { 401 }, "{place} {other}");
            }
        }
        let set = KeySet::jwks(include_bytes!("../keys/jwks.json")).unwrap();
        assert!(!format!("{set:?}").contains("secret"), "octet keys in a key set are skipped: {set:?}");
        let server = serve(Access::new().accept(Tokens::new(set, rules())));
        for (place, expected) in [(0, 200), (1, 200), (2, 401), (3, 200)] {
            let token = claims().sign(&SigningKey::private_pem(KEYS[place].0.as_bytes()).unwrap()).unwrap();
            let bearer = format!("Bearer {token}");
            assert_eq!(
                status(&server, "GET", "/stream?topics=user:anna", &[("authorization", &bearer)]).await,
                expected
            );
        }
    });
}

#[test]
fn rsa_key_signs_in_both_of_its_formats() {
    let claims = claims();
    let sign = |pem: &str| claims.sign(&SigningKey::private_pem(pem.as_bytes()).unwrap()).unwrap();
    assert_eq!(
        sign(include_str!("../keys/rsa.pkcs1.pem")),
        sign(super::RSA),
        "one key, and a signature without randomness"
    );
}

#[test]
fn unusable_keys_are_rejected_with_reason() {
    assert_eq!(KeySet::secret(b"short").unwrap_err(), KeyError::ShortSecret(5));
    assert_eq!(KeySet::public_pem(b"nothing").unwrap_err(), KeyError::PublicPem);
    assert_eq!(KeySet::public_pem(super::RSA.as_bytes()).unwrap_err(), KeyError::PublicPem);
    assert!(matches!(KeySet::jwks(b"[]").unwrap_err(), KeyError::NotAKeySet(_)));
    assert_eq!(KeySet::jwks(br#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#).unwrap_err(), KeyError::NoUsableKey);
    assert!(KeySet::jwks(br#"{"keys":[]}"#).is_ok(), "an empty set revokes all keys");
    let shown = KeySet::jwks(b"\"a secret in the wrong file\"").unwrap_err().to_string();
    assert!(!shown.contains("wrong file"), "{shown}");
}
