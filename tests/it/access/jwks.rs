//! Key sets at a URL: kept, asked for again, and good while the URL is away.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fanline::auth::{Access, Jwks, KeySet, SigningKey, Tokens};
use serde_json::{Value, json};

use super::reload::Directory;
use super::stub::Stub;
use super::{AUDIENCE, RSA, claims, rules, serve};
use crate::process;
use crate::support::{Server, assert_problem, request, run};

const P256: &str = include_str!("../keys/p256.pem");

fn key_set() -> Value {
    serde_json::from_str(include_str!("../keys/jwks.json")).unwrap()
}

/// The keys of the set that are of this kind.
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
    let jwks = Jwks::at(stub.url("/keys").parse().unwrap()).asked_at_most_each(pause);
    Access::new().accept(Tokens::new(KeySet::default(), rules()).with_jwks(jwks))
}

async fn ask(server: &Server, bearer: &str) -> u16 {
    let mut client = server.connect().await;
    client.send(request("GET", "/stream?topics=user:anna", &[("authorization", bearer)], b"")).await;
    client.head().await.status
}

#[test]
fn keys_are_fetched_once_and_stay_in_use_while_the_url_is_away() {
    run(async {
        let stub = Stub::start(|_| (200, key_set().to_string()));
        let server = serve(access(&stub, Duration::from_secs(10)));
        // Those who come while the keys are fetched wait for them.
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
fn without_any_keys_nobody_is_let_in_and_nobody_is_called_wrong() {
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
fn a_token_of_a_key_that_is_new_has_the_set_fetched_again_but_not_for_each_token() {
    run(async {
        let set = Arc::new(Mutex::new(only("EC")));
        let now = set.clone();
        let stub = Stub::start(move |_| (200, now.lock().unwrap().clone()));
        let server = serve(access(&stub, Duration::ZERO));
        assert_eq!(ask(&server, &bearer(P256)).await, 200);
        // This token names no key, and none of the set is for its algorithm.
        assert_eq!(ask(&server, &bearer(RSA)).await, 401);
        *set.lock().unwrap() = key_set().to_string();
        assert_eq!(ask(&server, &bearer(RSA)).await, 200);

        // What somebody without any key sends has no one asked all the time.
        let stub = Stub::start(|_| (200, only("EC")));
        let server = serve(access(&stub, Duration::from_secs(60)));
        for _ in 0..20 {
            assert_eq!(ask(&server, &bearer(RSA)).await, 401);
        }
        assert_eq!(stub.asked().len(), 1);
    });
}

#[test]
fn a_set_that_is_none_leaves_the_keys_that_are_known() {
    run(async {
        let set = Arc::new(Mutex::new(key_set().to_string()));
        let now = set.clone();
        let stub = Stub::start(move |_| (200, now.lock().unwrap().clone()));
        let jwks = Jwks::at(stub.url("/keys").parse().unwrap());
        let tokens = Tokens::new(KeySet::default(), rules()).with_jwks(jwks.clone());
        let server = serve(Access::new().accept(tokens));
        assert_eq!(ask(&server, &bearer(RSA)).await, 200);
        for nonsense in ["", "[]", "{\"keys\":[]}", "<html>", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}"] {
            *set.lock().unwrap() = nonsense.to_owned();
            assert!(jwks.refresh().await);
            assert_eq!(ask(&server, &bearer(RSA)).await, 200, "{nonsense:?}");
        }
        *set.lock().unwrap() = only("EC");
        assert!(jwks.refresh().await);
        assert_eq!(ask(&server, &bearer(RSA)).await, 401);
    });
}

#[test]
fn a_key_of_a_kind_that_nobody_knows_yet_is_passed_over() {
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
fn a_key_set_over_tls_is_taken_from_whom_the_system_trusts_and_from_nobody_else() {
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
