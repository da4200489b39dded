//! Tables of client, request and status.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use fanline::auth::{Access, Claims};
use serde_json::{Value, json};

use super::{OPERATOR, PUBLISHER, RSA, RSA_PUBLIC, SECRET, claims, guarded, now, signed};
use crate::support::{Client, Server, request, run};

/// A request: method, target, and the body if it has one.
const REQUESTS: [(&str, &str, &str, &str); 11] = [
    ("own topic", "GET", "/stream?topics=user:anna", ""),
    ("other topic", "GET", "/stream?topics=user:bert", ""),
    ("own pattern", "GET", "/stream?topics=orders:*,user:anna", ""),
    ("wider pattern", "GET", "/stream?topics=orders:**", ""),
    ("firehose", "GET", "/stream", ""),
    ("publish own", "POST", "/publish/orders:1", "1"),
    ("publish other", "POST", "/publish", r#"{"topic":"user:anna","data":1}"#),
    ("clients", "GET", "/clients", ""),
    ("topics", "GET", "/topics", ""),
    ("delete", "DELETE", "/clients/0000000000000000", ""),
    ("metrics", "GET", "/metrics", ""),
];

/// The statuses of the requests above, in their order. A deleted client does not exist, so 404 means allowed.
type Row = [u16; REQUESTS.len()];

const ALL: Row = [200, 200, 200, 200, 200, 200, 200, 200, 200, 404, 200];
const SUBSCRIBE_ONLY: Row = [403, 403, 403, 200, 200, 403, 403, 403, 403, 403, 403];
const UNAUTHENTICATED: Row = [401; REQUESTS.len()];

async fn statuses(address: SocketAddr, headers: &[(&str, &str)]) -> Row {
    let mut row = [0; REQUESTS.len()];
    for (status, (_, method, target, body)) in row.iter_mut().zip(REQUESTS) {
        let mut headers = headers.to_vec();
        if method == "POST" {
            headers.push(("content-type", "application/json"));
        }
        let mut client = Client::connect(address).await;
        client.send(request(method, target, &headers, body.as_bytes())).await;
        let head = client.head().await;
        *status = head.status;
        assert_eq!(head.header("www-authenticate").is_some(), head.status == 401, "{method} {target}");
        if head.status != 200 && head.status != 404 {
            assert_eq!(head.header("content-type"), Some("application/problem+json"), "{method} {target}");
        }
    }
    row
}

async fn check(server: &Server, client: &str, headers: &[(&str, &str)], expected: Row) {
    let found = statuses(server.address, headers).await;
    for ((what, expected), found) in REQUESTS.iter().zip(expected).zip(found) {
        assert_eq!(found, expected, "{client}: {}", what.0);
    }
}

/// A token of three parts. The first two may be anything.
pub fn forged(header: &serde_json::Value, claims: &impl serde::Serialize, secret: &[u8]) -> String {
    let part = |json: String| base64(json.as_bytes());
    let message = format!("{}.{}", part(header.to_string()), part(serde_json::to_string(claims).unwrap()));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    format!("{message}.{}", base64(ring::hmac::sign(&key, message.as_bytes()).as_ref()))
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            text.push(char::from(LETTERS[(bits >> (18 - 6 * place)) as usize & 63]));
        }
    }
    text
}

#[test]
fn permissions_without_configured_credentials() {
    run(async {
        let server = Server::start();
        check(&server, "this machine", &[], ALL).await;
        for header in [
            ("x-forwarded-for", "127.0.0.1"),
            ("forwarded", "for=127.0.0.1"),
            ("via", "1.1 proxy"),
            ("x-original-forwarded-for", "127.0.0.1"),
            ("x-envoy-external-address", "127.0.0.1"),
            ("x-azure-clientip", "127.0.0.1"),
            ("fly-client-ip", "127.0.0.1"),
            ("cdn-loop", "cdn.example"),
        ] {
            check(&server, &format!("through a proxy that says {}", header.0), &[header], SUBSCRIBE_ONLY).await;
        }
        check(&server, "through a proxy that says nothing", &[("host", "app.example")], SUBSCRIBE_ONLY).await;
        // Invalid credentials are not treated as anonymous.
        check(&server, "with a token", &[("authorization", "Bearer x.y.z")], UNAUTHENTICATED).await;
        check(&server, "with a key", &[("x-api-key", "foo")], UNAUTHENTICATED).await;
        check(&server, "with the credentials of a proxy", &[("authorization", "Basic dTpw")], ALL).await;
    });
}

#[test]
fn remote_clients_may_only_subscribe() {
    // The address of this machine's default route, found without sending anything: a peer that is not loopback.
    let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let Ok(own) = probe.connect(("192.0.2.1", 9)).and_then(|()| probe.local_addr()) else {
        eprintln!("skipped: this machine has only a loopback address (a unit test covers the rule)");
        return;
    };
    run(async {
        let server = Server::with(Server::hub_options(), |builder| builder.listen((own.ip(), 0)));
        let outer = server.addresses[1];
        assert_eq!(statuses(outer, &[]).await, SUBSCRIBE_ONLY);
        assert_eq!(statuses(server.address, &[]).await, ALL);
    });
}

/// Tokens of a subscriber that no key of the server verifies, with the ways in which they were made.
fn forgeries() -> [(&'static str, String); 9] {
    let mut tampered: Vec<_> = signed(&claims()).split('.').map(str::to_owned).collect();
    tampered[1] = signed(&richer()).split('.').nth(1).unwrap().to_owned();
    let none = forged(&json!({"alg": "none"}), &claims(), SECRET);
    let bare = format!("{}.", none.rsplit_once('.').unwrap().0);
    [
        ("alg none", none),
        ("alg none without a signature", bare),
        ("the public RSA key as a secret", forged(&hs256(), &claims(), RSA_PUBLIC.as_bytes())),
        ("an RSA algorithm with the secret", forged(&json!({"alg": "RS256"}), &claims(), SECRET)),
        ("a critical parameter", forged(&json!({"alg": "HS256", "crit": ["x"], "x": 1}), &claims(), SECRET)),
        ("tampered", tampered.join(".")),
        ("not a token", "nonsense".to_owned()),
        ("empty parts", "..".to_owned()),
        ("an empty token", String::new()),
    ]
}

fn hs256() -> Value {
    json!({"alg": "HS256", "typ": "JWT"})
}

/// Claims that allow more.
fn richer() -> Claims {
    let mut richer = claims();
    richer.fanline.admin = true;
    richer.fanline.subscribe = vec!["**".into()];
    richer
}

#[test]
fn permissions_with_configured_credentials() {
    run(async {
        let server = super::serve(guarded());
        let subscriber: Row = [200, 403, 200, 403, 403, 403, 403, 403, 403, 403, 403];
        let publisher: Row = [403, 403, 403, 403, 403, 200, 403, 403, 403, 403, 403];
        let rs256 = claims().sign(&fanline::auth::SigningKey::private_pem(RSA.as_bytes()).unwrap()).unwrap();
        let (expired, other_audience, no_audience) = (
            Claims { exp: now() - 1, ..claims() },
            Claims { aud: Some("other".into()), ..claims() },
            Claims { aud: None, ..claims() },
        );
        let tokens = [
            ("a subscriber", signed(&claims()), subscriber),
            ("a subscriber whose token is made as the forgeries are", forged(&hs256(), &claims(), SECRET), subscriber),
            ("a subscriber whose token has an RSA signature", rs256, subscriber),
            ("a publisher", PUBLISHER.to_owned(), publisher),
            ("an operator", OPERATOR.to_owned(), [403, 403, 403, 200, 200, 200, 403, 200, 200, 404, 200]),
            ("an operator with a token", signed(&richer()), [200, 403, 200, 200, 200, 403, 403, 200, 200, 404, 200]),
            ("expired", signed(&expired), UNAUTHENTICATED),
            ("for another audience", signed(&other_audience), UNAUTHENTICATED),
            ("without an audience", signed(&no_audience), UNAUTHENTICATED),
        ];
        let forgeries = forgeries().map(|(client, token)| (client, token, UNAUTHENTICATED));
        for (client, token, expected) in tokens.into_iter().chain(forgeries) {
            check(&server, client, &[("authorization", &format!("Bearer {token}"))], expected).await;
            let forwarded = [("x-forwarded-for", "10.0.0.1"), ("authorization", &format!("bearer {token}"))];
            check(&server, client, &forwarded, expected).await;
        }
        check(&server, "anonymous, on this machine", &[], UNAUTHENTICATED).await;
        check(&server, "anonymous, through a proxy", &[("x-forwarded-for", "127.0.0.1")], UNAUTHENTICATED).await;
    });
}

#[test]
fn anonymous_settings_open_the_named_topics() {
    run(async {
        let opened = |access: Access| {
            let subscribe = "orders:*, user:anna".parse().unwrap();
            access.anonymous_subscribe(subscribe).anonymous_publish("orders:*".parse().unwrap()).anonymous_metrics(true)
        };
        let server = super::serve(opened(guarded()));
        check(&server, "anonymous", &[], [200, 401, 200, 401, 401, 200, 403, 401, 401, 401, 200]).await;
        // Invalid credentials are not treated as anonymous.
        check(&server, "an unknown key", &[("x-api-key", "wrong")], UNAUTHENTICATED).await;
        let server = super::serve(opened(Access::new()));
        let proxy = [("x-forwarded-for", "10.0.0.1")];
        check(&server, "anonymous", &proxy, [200, 403, 200, 403, 403, 200, 403, 403, 403, 403, 200]).await;
    });
}
