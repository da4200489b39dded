//! Key sets from a URL: caching, refetching and outages.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use fanline::auth::{Access, Claims, Jwks, KeySet, SigningKey, Tokens};
use serde_json::{Value, json};

use super::stub::Stub;
use super::{AUDIENCE, RSA, claims, rules, serve, signed, tokens};
use crate::process::{self, Directory};
use crate::support::{Server, assert_problem, request, run, until};

const P256: &str = include_str!("../keys/p256.pem");

fn key_set() -> Value {
    serde_json::from_str(include_str!("../keys/jwks.json")).unwrap()
}

/// The keys of the set with this type.
fn only(kind: &str) -> String {
    let set = key_set();
    let keys: Vec<_> = set["keys"].as_array().unwrap().iter().filter(|key| key["kty"] == kind).collect();
    assert!(!keys.is_empty());
    json!({"keys": keys}).to_string()
}

fn bearer(pem: &str) -> String {
    format!("Bearer {}", claims().sign(&SigningKey::private_pem(pem.as_bytes()).unwrap()).unwrap())
}

fn access(stub: &Stub, pause: Duration) -> Access {
    let jwks = Jwks::at(stub.url("/keys").parse().unwrap()).min_fetch_interval(pause);
    Access::new().accept(Tokens::new(KeySet::default(), rules()).with_jwks(jwks))
}

async fn ask(server: &Server, bearer: &str) -> u16 {
    let mut client = server.connect().await;
    client.send(request("GET", "/stream?topics=user:anna", &[("authorization", bearer)], b"")).await;
    client.head().await.status
}

#[test]
fn keys_are_fetched_once_and_survive_an_outage_of_the_url() {
    run(async {
        let stub = Stub::start(|_| (200, key_set().to_string()));
        let server = serve(access(&stub, Duration::from_secs(10)));
        // Concurrent requests wait for the same fetch.
        let mut crowd = Vec::new();
        for _ in 0..20 {
            let mut client = server.connect().await;
            client.send(request("GET", "/stream?topics=user:anna", &[("authorization", &bearer(RSA))], b"")).await;
            crowd.push(client);
        }
        for mut client in crowd {
            assert_eq!(client.head().await.status, 200);
        }
        assert_eq!(ask(&server, &bearer(P256)).await, 200);
        assert_eq!(stub.asked().len(), 1);
        assert!(stub.asked()[0].head.starts_with("GET /keys HTTP/1.1\r\n"), "{:?}", stub.asked()[0]);
        drop(stub);
        assert_eq!(ask(&server, &bearer(RSA)).await, 200);
    });
}

#[test]
fn tokens_get_503_until_keys_are_fetched() {
    run(async {
        let is_there = Arc::new(AtomicBool::new(false));
        let there = is_there.clone();
        let stub = Stub::start(move |_| match there.load(Ordering::SeqCst) {
            true => (200, key_set().to_string()),
            false => (500, String::new()),
        });
        let server = serve(access(&stub, Duration::ZERO));
        let target = "/stream?topics=user:anna";
        let refused = server.ask(request("GET", target, &[("authorization", &bearer(RSA))], b"")).await;
        assert_problem(&refused, 503, &["jwks"]);
        assert!(refused.head.header("retry-after").is_some());
        is_there.store(true, Ordering::SeqCst);
        assert_eq!(ask(&server, &bearer(RSA)).await, 200);
    });
}

#[test]
fn unknown_key_id_refetches_the_key_set_at_a_limited_rate() {
    run(async {
        let (stub, set) = changing_stub(only("EC"));
        let server = serve(access(&stub, Duration::ZERO));
        assert_eq!(ask(&server, &bearer(P256)).await, 200);
        // The token has no key id, and the set has no key for its algorithm.
        assert_eq!(ask(&server, &bearer(RSA)).await, 401);
        *set.lock().unwrap() = key_set().to_string();
        assert_eq!(ask(&server, &bearer(RSA)).await, 200);

        // Unverified tokens cannot cause a fetch each.
        let stub = Stub::start(|_| (200, only("EC")));
        let server = serve(access(&stub, Duration::from_secs(60)));
        for _ in 0..20 {
            assert_eq!(ask(&server, &bearer(RSA)).await, 401);
        }
        assert_eq!(stub.asked().len(), 1);
    });
}

#[test]
fn invalid_key_set_keeps_the_known_keys() {
    run(async {
        let (stub, set) = changing_stub(key_set().to_string());
        let jwks = Jwks::at(stub.url("/keys").parse().unwrap());
        let tokens = Tokens::new(KeySet::default(), rules()).with_jwks(jwks.clone());
        let server = serve(Access::new().accept(tokens));
        assert_eq!(ask(&server, &bearer(RSA)).await, 200);
        let useless = "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}";
        for nonsense in ["", "[]", "[[]]", "{}", "{\"keys\":null}", "{\"keys\":{}}", "{\"keys\":[", "<html>", useless] {
            *set.lock().unwrap() = nonsense.to_owned();
            assert!(jwks.refresh().await);
            assert_eq!(ask(&server, &bearer(RSA)).await, 200, "{nonsense:?}");
        }
        *set.lock().unwrap() = only("EC");
        assert!(jwks.refresh().await);
        assert_eq!(ask(&server, &bearer(RSA)).await, 401);
        // An empty set is valid: it revokes all keys, unlike an outage.
        assert_eq!(ask(&server, &bearer(P256)).await, 200);
        *set.lock().unwrap() = json!({"keys": []}).to_string();
        assert!(jwks.refresh().await);
        assert_eq!(ask(&server, &bearer(P256)).await, 401);
    });
}

/// A stub that serves the returned key set, which the test may replace.
fn changing_stub(set: String) -> (Stub, Arc<Mutex<String>>) {
    let set = Arc::new(Mutex::new(set));
    let now = set.clone();
    (Stub::start(move |_| (200, now.lock().unwrap().clone())), set)
}

/// A stub that holds its responses back until the returned sender is dropped.
fn paused_stub(status: u16, body: String) -> (Stub, mpsc::Sender<()>) {
    let (release, held) = mpsc::channel();
    let held = Mutex::new(held);
    let stub = Stub::start(move |_| {
        let _ = held.lock().unwrap().recv();
        (status, body.clone())
    });
    (stub, release)
}

#[test]
fn fetch_continues_after_the_request_that_started_it_is_dropped() {
    run(async {
        let (stub, release) = paused_stub(200, key_set().to_string());
        let jwks = Jwks::at(stub.url("/keys").parse().unwrap()).min_fetch_interval(Duration::from_secs(60));
        let server = serve(Access::new().accept(Tokens::new(KeySet::default(), rules()).with_jwks(jwks.clone())));
        tokio::select! {
            _ = jwks.refresh() => panic!("no response yet"),
            () = until(|| stub.asked().len() == 1) => {}
        }
        let mut client = server.connect().await;
        client.send(request("GET", "/stream?topics=user:anna", &[("authorization", &bearer(RSA))], b"")).await;
        drop(release);
        assert_eq!(client.head().await.status, 200);
        assert_eq!(stub.asked().len(), 1);
    });
}

#[test]
fn token_of_a_local_key_does_not_wait_for_the_url() {
    run(async {
        let (stub, release) = paused_stub(500, String::new());
        let jwks = Jwks::at(stub.url("/keys").parse().unwrap());
        let server = serve(Access::new().accept(tokens().with_jwks(jwks)));
        let by_secret = format!("Bearer {}", signed(&claims()));
        for bearer in [&by_secret, &bearer(RSA)] {
            assert_eq!(ask(&server, bearer).await, 200);
        }
        // Nor does a token that no published key can verify, or one that has expired.
        let by_another = claims().sign(&SigningKey::secret(&[7; 32]).unwrap()).unwrap();
        assert_eq!(ask(&server, &format!("Bearer {by_another}")).await, 401);
        let expired = Claims { exp: 1, ..claims() };
        assert_eq!(ask(&server, &format!("Bearer {}", signed(&expired))).await, 401);
        assert_eq!(stub.asked().len(), 0);
        // A key that only the URL has does wait for it.
        let mut client = server.connect().await;
        client.send(request("GET", "/stream?topics=user:anna", &[("authorization", &bearer(P256))], b"")).await;
        until(|| stub.asked().len() == 1).await;
        drop(release);
        assert_eq!(client.head().await.status, 503);
    });
}

#[test]
fn unverified_token_without_key_id_refetches_the_key_set() {
    run(async {
        let (stub, set) = changing_stub(another_rsa_set());
        let server = serve(access(&stub, Duration::ZERO));
        // The set has a key of this type, but not the signing one.
        assert_eq!(ask(&server, &bearer(RSA)).await, 401);
        *set.lock().unwrap() = key_set().to_string();
        assert_eq!(ask(&server, &bearer(RSA)).await, 200);

        let stub = Stub::start(|_| (200, another_rsa_set()));
        let server = serve(access(&stub, Duration::from_secs(60)));
        for _ in 0..20 {
            assert_eq!(ask(&server, &bearer(RSA)).await, 401);
        }
        assert_eq!(stub.asked().len(), 1);
    });
}

/// A key set with an RSA key of unknown private half.
fn another_rsa_set() -> String {
    let mut set: Value = serde_json::from_str(&only("RSA")).unwrap();
    for key in set["keys"].as_array_mut().unwrap() {
        let modulus = key["n"].as_str().unwrap();
        let middle = modulus.len() / 2;
        let other = if modulus.as_bytes()[middle] == b'A' { "B" } else { "A" };
        key["n"] = format!("{}{other}{}", &modulus[..middle], &modulus[middle + 1..]).into();
        key.as_object_mut().unwrap().remove("kid");
    }
    set.to_string()
}

#[test]
fn stale_keys_are_used_only_after_a_refetch() {
    run(async {
        let (stub, set) = changing_stub(key_set().to_string());
        let jwks = Jwks::at(stub.url("/keys").parse().unwrap()).min_fetch_interval(Duration::ZERO);
        let rules = |jwks| Access::new().accept(Tokens::new(KeySet::default(), rules()).with_jwks(jwks));
        let server = serve(rules(jwks.fresh_for(Duration::ZERO)));
        assert_eq!(ask(&server, &bearer(RSA)).await, 200);
        // A revoked key no longer verifies tokens.
        *set.lock().unwrap() = only("EC");
        assert_eq!(ask(&server, &bearer(RSA)).await, 401);
        *set.lock().unwrap() = key_set().to_string();
        assert_eq!(ask(&server, &bearer(RSA)).await, 200);
        // A revocation is unknown while the URL is away.
        drop(stub);
        assert_eq!(ask(&server, &bearer(RSA)).await, 200);
    });
}

#[test]
fn unresponsive_url_delays_tokens_of_stale_keys_for_a_bounded_time() {
    run(async {
        let (first, forever) = (AtomicBool::new(true), mpsc::channel::<()>());
        let held = Mutex::new(forever.1);
        let stub = Stub::start(move |_| {
            if !first.swap(false, Ordering::SeqCst) {
                let _ = held.lock().unwrap().recv();
            }
            (200, key_set().to_string())
        });
        let jwks = Jwks::at(stub.url("/keys").parse().unwrap()).fresh_for(Duration::ZERO);
        let jwks = jwks.min_fetch_interval(Duration::from_millis(1));
        let access = Access::new().accept(Tokens::new(KeySet::default(), rules()).with_jwks(jwks.clone()));
        let server = serve(access);
        assert!(jwks.refresh().await);
        let asking = std::time::Instant::now();
        assert_eq!(ask(&server, &bearer(RSA)).await, 200);
        let waited = asking.elapsed();
        assert!(waited >= Duration::from_secs(4) && waited < Duration::from_secs(30), "{waited:?}");
        assert_eq!(stub.asked().len(), 2);
        drop(forever.0);
    });
}

#[test]
fn streams_end_when_their_key_is_revoked() {
    run(async {
        let (stub, set) = changing_stub(key_set().to_string());
        let jwks = Jwks::at(stub.url("/keys").parse().unwrap()).min_fetch_interval(Duration::ZERO);
        let jwks = jwks.fresh_for(Duration::from_millis(50));
        let access = Access::new().accept(Tokens::new(KeySet::default(), rules()).with_jwks(jwks.clone()));
        let server = serve(access.clone());
        let open = async |pem: &str| {
            let mut client = server.connect().await;
            let headers = [("authorization", bearer(pem)), ("connection", "close".to_owned())];
            let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
            client.send(request("GET", "/stream?topics=user:anna", &headers, b"")).await;
            assert_eq!(client.head().await.status, 200);
            client
        };
        let (revoked, valid) = (open(RSA).await, open(P256).await);
        *set.lock().unwrap() = only("EC");
        // The keys are refetched without any request.
        jwks.key_revoked().await;
        server.access.replace(access);
        let text = revoked.rest().await;
        assert!(String::from_utf8_lossy(&text).contains("access revoked"));
        until(|| server.stats().streams == 1).await;
        drop(valid);
    });
}

#[test]
fn server_ends_streams_of_a_key_removed_from_its_key_set() {
    let (stub, set) = changing_stub(key_set().to_string());
    let server = process::Server::start(&["--jwks", &stub.url("/keys"), "--jwt-audience", AUDIENCE]);
    let query = |pem: &str| format!("topics=user:anna&access_token={}", &bearer(pem)["Bearer ".len()..]);
    let mut revoked = server.stream(&query(RSA));
    let valid = server.stream(&query(P256));
    *set.lock().unwrap() = only("EC");
    // An unverified token refetches the set again once the minimum interval has passed.
    let good = query(P256);
    let forged = format!("{}.{}", good.rsplit_once('.').unwrap().0, "A".repeat(86));
    process::wait_until(|| {
        assert_eq!(server.get(&format!("/stream?{forged}")).status, 401);
        if stub.asked().len() == 2 { Ok(()) } else { Err("the keys are not refetched".to_owned()) }
    });
    assert_eq!(revoked.next().json()["message"], "access revoked");
    server.wait_for_streams(1);
    drop(valid);
}

#[test]
fn unknown_key_types_are_skipped() {
    let mut set = key_set();
    let keys = set["keys"].as_array_mut().unwrap();
    keys.insert(0, json!({"kty": "AKP", "alg": "ML-DSA-44", "kid": "later", "pub": "AAAA"}));
    keys.insert(0, json!({"kty": "EC", "crv": "secp256k1", "x": "AAAA", "y": "AAAA"}));
    keys.insert(0, json!({"kty": "OKP", "crv": "X25519", "x": "AAAA"}));
    keys.insert(0, json!({"kty": "RSA", "alg": "RSA-OAEP", "n": "AAAA", "e": "AQAB"}));
    keys.insert(0, json!({"no": "key at all"}));
    let set = KeySet::jwks(set.to_string().as_bytes()).unwrap();
    run(async {
        let server = serve(Access::new().accept(Tokens::new(set, rules())));
        assert_eq!(ask(&server, &bearer(RSA)).await, 200);
    });
}

#[test]
#[ignore = "needs openssl; run scripts/test"]
fn key_set_over_tls_requires_a_trusted_certificate() {
    let directory = Directory::new("tls");
    directory.write("keys.json", include_str!("../keys/jwks.json"));
    let (key, certificate) = process::certificate(&directory.0);
    let mut service = Command::new("openssl");
    service.args(["s_server", "-accept", "127.0.0.1:0", "-WWW", "-key", &key, "-cert", &certificate]);
    service.current_dir(&directory.0).stdin(Stdio::null());
    let mut service = process::Process::start(service);
    let lines = service.lines();
    let address = lines.iter().find_map(|line| Some(line.strip_prefix("ACCEPT ")?.to_owned())).unwrap();
    let url = format!("https://{address}/keys.json");
    let target = format!("/stream?topics=user:anna&access_token={}", &bearer(P256)["Bearer ".len()..]);
    for (trusted, status) in [(certificate.as_str(), 200), ("/dev/null", 503)] {
        let mut command = process::serve(&["--listen", "127.0.0.1:0", "--jwks", &url, "--jwt-audience", AUDIENCE]);
        command.env("SSL_CERT_FILE", trusted);
        let server = process::Server::launch(command);
        if status == 200 {
            process::Stream::open(server.address(), target.strip_prefix("/stream?").unwrap(), None);
        } else {
            assert_eq!(server.get(&target).status, 503);
            assert!(server.log.wait_for("key set cannot be read").contains("certificate"));
        }
    }
}
