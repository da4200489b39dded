//! Replacing the access rules of a running server.

use std::fs;

use fanline::auth::{Access, AuthRequest, Authorize, Grant, KeyDigest, Refusal, SigningKey};
use rustix::process::Signal;

use super::{OPERATOR, PUBLISHER, claims, guarded, key, signed};
use crate::process::{self, Directory};
use crate::support::{request, run, until};

fn table(name: &str, key: &str, rest: &str) -> String {
    format!("[[keys]]\nname = \"{name}\"\nhash = \"{}\"\n{rest}\n", KeyDigest::of(key))
}

const OLD_SECRET: &str = "the first secret of this server which is long enough";
const NEW_SECRET: &str = "the second secret of this server which is long enough";

/// A server with the keys of a shop, of Anna and of Bert, and with a token secret in a file.
struct Guarded {
    config: String,
    secrets: String,
    server: process::Server,
    _directory: Directory,
}

fn shop() -> String {
    table("shop", "key-of-the-shop", "publish = [\"**\"]")
}

fn anna(topics: &str) -> String {
    table("anna", "key-of-anna", &format!("subscribe = [{topics}]"))
}

impl Guarded {
    fn start(name: &str) -> Self {
        let directory = Directory::new(name);
        let secrets = directory.write("secrets", OLD_SECRET);
        let bert = table("bert", "key-of-bert", "subscribe = [\"a\"]");
        let config = directory.write("fanline.toml", &[shop(), anna("\"a\", \"b\""), bert].concat());
        let server = process::Server::start(&["--config", &config, "--jwt-secret", &format!("@{secrets}")]);
        Self { config, secrets, server, _directory: directory }
    }

    /// Replaces the settings, and waits for `line` in the log.
    fn reload(&self, settings: &[String], line: &str) -> String {
        fs::write(&self.config, settings.concat()).unwrap();
        self.server.signal(Signal::HUP);
        self.server.log.wait_for(line)
    }

    fn stream(&self, topics: &str, credential: &str) -> process::Stream {
        self.server.stream(&format!("topics={topics}&access_token={credential}"))
    }

    #[track_caller]
    fn assert_refused(&self, topics: &str, credential: &str, status: u16) {
        let answer = self.server.get(&format!("/stream?topics={topics}&access_token={credential}"));
        assert_eq!(answer.status, status, "{answer:?}");
    }

    fn publish(&self, text: &str) {
        let target = "/publish/a?access_token=key-of-the-shop";
        let answer = self.server.http().post(target, "text/plain", text.as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

/// A token of Carl for the topic `a`.
fn token(secret: &str) -> String {
    let args = ["token", "--secret", secret, "--sub", "carl", "--subscribe", "a"];
    let (code, stdout, stderr) = process::Process::run(process::fanline(&args));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    stdout.trim().to_owned()
}

#[test]
fn reload_ends_only_streams_that_lost_their_grant() {
    let guarded = Guarded::start("hangup");
    let mut anna_a = guarded.stream("a", "key-of-anna");
    let mut anna_b = guarded.stream("a,b", "key-of-anna");
    let mut bert_a = guarded.stream("a", "key-of-bert");
    let mut carl = guarded.stream("a", &token(OLD_SECRET));
    guarded.publish("1");
    for stream in [&mut anna_a, &mut anna_b, &mut bert_a, &mut carl] {
        assert_eq!(stream.next().data, "1");
    }
    // Bert's key is removed, and Anna's grant shrinks.
    guarded.reload(&[shop(), anna("\"a\"")], "rules of access were replaced");
    for stream in [&mut anna_b, &mut bert_a] {
        let end = stream.next();
        assert_eq!((end.name.as_str(), &end.json()["message"]), ("system", &"access revoked".into()));
        assert_eq!(stream.next_or_end(), None);
    }
    guarded.assert_refused("a", "key-of-bert", 401);
    guarded.assert_refused("a,b", "key-of-anna", 403);
    guarded.publish("2");
    for stream in [&mut anna_a, &mut carl] {
        assert_eq!(stream.next().data, "2");
    }
}

#[test]
fn reload_of_invalid_settings_changes_nothing() {
    let guarded = Guarded::start("hangup-invalid");
    let mut anna = guarded.stream("a", "key-of-anna");
    let invalid = "[[keys]]\nname = \"x\"\nhash = \"key-of-anna\"\n".to_owned();
    let line = guarded.reload(&[invalid], "nothing was changed");
    assert!(line.contains("fanline key") && !line.contains("key-of-anna"), "{line}");
    guarded.publish("1");
    assert_eq!(anna.next().data, "1");
}

#[test]
fn reload_replaces_a_secret_in_a_file() {
    let guarded = Guarded::start("hangup-secret");
    let mut anna_a = guarded.stream("a", "key-of-anna");
    let mut carl = guarded.stream("a", &token(OLD_SECRET));
    fs::write(&guarded.secrets, format!("{NEW_SECRET}\n")).unwrap();
    guarded.reload(&[shop(), anna("\"a\"")], "SIGHUP: the settings were read");
    assert_eq!(carl.next().json()["message"], "access revoked");
    guarded.assert_refused("a", &token(OLD_SECRET), 401);
    let mut carl = guarded.stream("a", &token(NEW_SECRET));
    guarded.publish("1");
    assert_eq!((anna_a.next().data, carl.next().data), ("1".into(), "1".into()));
}

#[test]
fn reload_reports_settings_that_need_a_restart() {
    let directory = Directory::new("waiting");
    let config = directory.write("fanline.toml", "history = 10\n");
    let server = process::Server::start(&["--config", &config]);
    fs::write(&config, "history = 20\n").unwrap();
    server.signal(Signal::HUP);
    server.log.wait_for("take effect at the next start");
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn reload_never_removes_authentication() {
    let directory = Directory::new("opening");
    let shop = table("shop", "key-of-the-shop", "publish = [\"**\"]\nsubscribe = [\"**\"]");
    let secret = "jwt_secret = \"the secret of this server which is long enough\"\n";
    let set = directory.write("keys.json", include_str!("../keys/jwks.json"));
    let public = directory.write("public.pem", super::RSA_PUBLIC);
    for guard in [
        shop.clone(),
        secret.to_owned(),
        format!("jwks = \"{set}\"\n"),
        format!("jwt_public_key = \"{public}\"\n"),
        format!("{secret}authorize_url = \"http://127.0.0.1:1/may\"\n{shop}"),
    ] {
        let config = directory.write("fanline.toml", &guard);
        let server = process::Server::start(&["--config", &config]);
        assert_eq!(server.get("/stream?topics=a").status, 401, "{guard}");
        for (round, open) in ["", "history = 10\n", "anonymous_subscribe = \"news\"\n"].into_iter().enumerate() {
            fs::write(&config, open).unwrap();
            server.signal(Signal::HUP);
            let line = server.log.wait_for_nth(round + 1, "SIGHUP: nothing was changed");
            assert!(
                line.contains("restart the server") && line.contains("jwt_secret") && line.contains("ERROR"),
                "{line}"
            );
            assert_eq!(server.get("/stream?topics=a").status, 401, "{guard}");
            assert_eq!(server.get("/clients").status, 401, "{guard}");
        }
        // Replacing the last key by another one is allowed.
        fs::write(&config, table("other", "key-of-another", "subscribe = [\"**\"]")).unwrap();
        server.signal(Signal::HUP);
        server.log.wait_for("SIGHUP: the settings were read");
        server.stream("topics=a&access_token=key-of-another");
        assert_eq!(server.get("/stream?topics=a&access_token=key-of-the-shop").status, 401);
    }

    // An authorization service, a list of anonymous topics and distrust of loopback also count as authentication.
    for (guard, setting, target, status) in [
        ("authorize_url = \"http://127.0.0.1:1/may\"\n", "authorize_url", "/stream?topics=a", 503),
        ("anonymous_subscribe = \"news\"\n", "anonymous_subscribe", "/stream?topics=a", 403),
        ("loopback_trust = \"none\"\n", "loopback_trust", "/metrics", 403),
    ] {
        let config = directory.write("fanline.toml", guard);
        let server = process::Server::start(&["--config", &config]);
        fs::write(&config, "").unwrap();
        server.signal(Signal::HUP);
        assert!(server.log.wait_for("SIGHUP: nothing was changed").contains(setting));
        assert_eq!(server.get(target).status, status);
    }
}

#[test]
fn reload_revokes_keys_for_an_empty_key_set_but_not_for_an_invalid_file() {
    let directory = Directory::new("withdrawal");
    let set = directory.write("keys.json", include_str!("../keys/jwks.json"));
    let server = process::Server::start(&["--jwks", &set, "--jwt-audience", super::AUDIENCE]);
    let token = claims().sign(&SigningKey::private_pem(super::RSA.as_bytes()).unwrap()).unwrap();
    let query = format!("topics=user:anna&access_token={token}");
    let mut stream = server.stream(&query);
    for (round, broken) in ["", "{\"keys\":[", "{}", "[[]]"].into_iter().enumerate() {
        fs::write(&set, broken).unwrap();
        server.signal(Signal::HUP);
        let line = server.log.wait_for_nth(round + 1, "SIGHUP: nothing was changed");
        assert!(line.contains("keys.json"), "{line}");
        server.stream(&query);
    }
    fs::write(&set, "{\"keys\":[]}").unwrap();
    server.signal(Signal::HUP);
    assert_eq!(stream.next().json()["message"], "access revoked");
    assert_eq!(server.get(&format!("/stream?{query}")).status, 401);
    assert_eq!(server.get("/stream?topics=user:anna").status, 401);
}

#[test]
fn upload_stops_when_its_key_is_revoked() {
    run(async {
        let server = super::serve(guarded());
        let mut client = server.connect().await;
        let head =
            "POST /publish HTTP/1.1\r\nhost: test\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked";
        client.send(format!("{head}\r\nx-api-key: {PUBLISHER}\r\n\r\n")).await;
        let line = "{\"topic\":\"orders:1\",\"data\":1}\n";
        let chunk = format!("{:x}\r\n{line}\r\n", line.len());
        client.send(&chunk).await;
        until(|| server.hub.stats().published == 1).await;
        server
            .access
            .replace(Access::new().accept(fanline::auth::ApiKeys::new([key("ops", OPERATOR, "**", "**", true)])));
        client.send(format!("{chunk}0\r\n\r\n")).await;
        let answer = client.response().await;
        assert_eq!(answer.head.status, 401, "{answer:?}");
        assert_eq!((&answer.json()["published"], server.hub.stats().published), (&1.into(), 1));
    });
}

#[test]
fn anonymous_upload_continues_until_the_rules_forbid_it() {
    run(async {
        let server = super::serve(Access::new());
        let (mut first, mut second) = (server.connect().await, server.connect().await);
        let head = "POST /publish HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/x-ndjson\r\n";
        let line = "{\"topic\":\"t\",\"data\":1}\n";
        let chunk = format!("{:x}\r\n{line}\r\n", line.len());
        for client in [&mut first, &mut second] {
            client.send(format!("{head}transfer-encoding: chunked\r\n\r\n{chunk}")).await;
        }
        until(|| server.hub.stats().published == 2).await;
        server.access.replace(Access::new());
        first.send(format!("{chunk}0\r\n\r\n")).await;
        assert_eq!(first.response().await.ok()["published"], 2);
        // Now loopback clients need credentials as well.
        server.access.replace(guarded());
        second.send(format!("{chunk}0\r\n\r\n")).await;
        let answer = second.response().await;
        assert_eq!((answer.head.status, &answer.json()["published"]), (403, &1.into()), "{answer:?}");
        assert_eq!(server.hub.stats().published, 3);
    });
}

#[test]
fn event_is_not_published_if_its_key_is_revoked_while_it_arrives() {
    run(async {
        for (target, content_type) in [("/publish", "application/json"), ("/publish/orders:1", "text/plain")] {
            let server = super::serve(guarded());
            let mut client = server.connect().await;
            let (key_header, body) = (format!("x-api-key: {PUBLISHER}"), "{\"topic\":\"orders:1\",\"data\":1}");
            let head = format!("POST {target} HTTP/1.1\r\nhost: test\r\ncontent-type: {content_type}\r\n");
            let length = format!("content-length: {}\r\nexpect: 100-continue", body.len());
            client.send(format!("{head}{key_header}\r\n{length}\r\n\r\n")).await;
            // The request was authorized, and its body is still awaited.
            assert!(client.through(b"\r\n\r\n").await.starts_with(b"HTTP/1.1 100"));
            server
                .access
                .replace(Access::new().accept(fanline::auth::ApiKeys::new([key("ops", OPERATOR, "**", "**", true)])));
            client.send(body).await;
            assert_eq!(client.response().await.head.status, 401, "{target}");
            assert_eq!(server.hub.stats().published, 0);
        }
    });
}

/// A custom authenticator whose grants have no name and no expiry. It renews them if `renews` is set.
struct CustomAuthenticator {
    renews: bool,
}

impl Authorize for CustomAuthenticator {
    async fn authorize(&self, _: &AuthRequest<'_>) -> Result<Option<Grant>, Refusal> {
        Ok(Some(self.grant()))
    }

    fn renew(&self, _: &Grant) -> Option<Grant> {
        self.renews.then(|| self.grant())
    }
}

impl CustomAuthenticator {
    fn grant(&self) -> Grant {
        Grant::new().with_subscribe("mine:*".parse().unwrap())
    }
}

#[test]
fn grant_of_a_custom_authenticator_lasts_while_it_renews() {
    run(async {
        let server = super::serve(Access::new().accept(CustomAuthenticator { renews: true }));
        let mut stream = server.follow("/stream?topics=mine:a").await;
        server.access.replace(Access::new().accept(CustomAuthenticator { renews: true }));
        server.publish("mine:a", [1]).await;
        stream.data_at(1).await;
        // The topic is now anonymous, but this stream was granted to an identity.
        server.access.replace(
            Access::new().accept(CustomAuthenticator { renews: false }).anonymous_subscribe("**".parse().unwrap()),
        );
        until(|| server.stats().streams == 0).await;
    });
}

#[test]
fn subscription_concurrent_with_a_reload_obeys_the_new_rules() {
    run(async {
        let server = super::serve(guarded());
        let bearer = format!("Bearer {}", signed(&claims()));
        let closed = || Access::new().accept(fanline::auth::ApiKeys::new([key("ops", OPERATOR, "**", "**", true)]));
        for round in 0..100 {
            server.access.replace(guarded());
            let mut clients = Vec::new();
            for place in 0..6 {
                let mut client = server.connect().await;
                let headers = [("authorization", bearer.as_str()), ("connection", "close")];
                client.send(request("GET", "/stream?topics=user:anna", &headers, b"")).await;
                clients.push(client);
                if place == round % 6 {
                    server.access.replace(closed());
                }
            }
            // Each stream is rejected, or admitted and then closed.
            for client in clients {
                let text = client.rest().await;
                let text = String::from_utf8_lossy(&text).into_owned();
                assert!(text.starts_with("HTTP/1.1 401") || text.contains("access revoked"), "{text}");
            }
        }
        until(|| server.stats().streams == 0).await;
    });
}
