//! `fanline key` and `fanline token`, and their output in a server's settings.

use crate::process::{Directory, Process, Server, Stream, fanline};

const SECRET: &str = "a secret that server and login service share";

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let (code, stdout, stderr) = Process::run(fanline(args));
    (code, stdout, stderr.trim().to_owned())
}

fn token(args: &[&str]) -> String {
    let (code, stdout, stderr) = run(&[&["token"], args].concat());
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    stdout.trim().to_owned()
}

#[test]
fn generated_api_key_grants_its_permissions() {
    let directory = Directory::new("key");
    let (code, shop, shop_key) = run(&["key", "shop", "--publish", "orders:*,log", "--publish", "x"]);
    assert_eq!(code, Some(0));
    let (_, ops, ops_key) = run(&["key", "ops", "--admin", "--subscribe", "**"]);
    assert!(shop_key.starts_with("fanline_") && shop_key.len() == 72 && shop_key != ops_key, "{shop_key}");
    assert!(!shop.contains(&shop_key));
    let config = directory.write("fanline.toml", &format!("history = 10\n{shop}{ops}"));
    let server = Server::start(&["--config", &config]);
    let publish = |topic: &str, key: &str| {
        server.http().post(&format!("/publish/{topic}?access_token={key}"), "text/plain", b"x").status
    };
    assert_eq!([publish("orders:1", &shop_key), publish("log", &shop_key), publish("x", &shop_key)], [200; 3]);
    assert_eq!(publish("other", &shop_key), 403);
    assert_eq!(publish("log", &ops_key), 403);
    assert_eq!(publish("log", ""), 401);
    assert_eq!(server.get(&format!("/clients?access_token={ops_key}")).status, 200);
    assert_eq!(server.get(&format!("/clients?access_token={shop_key}")).status, 403);
    let (code, printed, _) = run(&["serve", "--check", "--config", &config]);
    assert_eq!(code, Some(0));
    assert!(printed.contains("# [[keys]] of \"shop\", \"ops\"") && !printed.contains("sha256"), "{printed}");
}

#[test]
fn generated_token_is_accepted_by_servers_with_its_key() {
    let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/keys/");
    for (args, serve) in [
        (vec!["--secret".to_owned(), SECRET.to_owned()], vec!["--jwt-secret".to_owned(), SECRET.to_owned()]),
        (
            vec!["--private-key".to_owned(), format!("{keys}ed25519.pem")],
            vec!["--jwt-public-key".to_owned(), format!("{keys}ed25519.pub.pem")],
        ),
        (
            vec!["--private-key".to_owned(), format!("{keys}p256.pem")],
            vec!["--jwks".to_owned(), format!("{keys}jwks.json")],
        ),
    ] {
        let serve: Vec<_> = serve.iter().map(String::as_str).collect();
        let signing: Vec<_> = args.iter().map(String::as_str).collect();
        let server = Server::start(&[&serve[..], &["--jwt-audience", "fanline", "--jwt-issuer", "login"]].concat());
        let right = ["--sub", "anna", "--subscribe", "user:{sub}", "--audience", "fanline", "--issuer", "login"];
        let good = token(&[&signing[..], &right].concat());
        Stream::open(server.address(), &format!("topics=user:anna&access_token={good}"), None);
        let status = |token: &str| server.get(&format!("/stream?topics=user:anna&access_token={token}")).status;
        let wrong = ["--sub", "anna", "--subscribe", "user:{sub}", "--audience", "fanline", "--issuer", "else"];
        assert_eq!(status(&token(&[&signing[..], &wrong].concat())), 401);
        let mut ended = [&signing[..], &right].concat();
        ended.extend(["--expires-in", "0s"]);
        // The server's leeway still accepts an expired token, so only its shape is checked.
        assert_eq!(status(&format!("{good}x")), 401);
        assert_eq!(token(&ended).split('.').count(), 3);
    }
}

#[test]
fn tail_and_publish_accept_tokens() {
    let server = Server::start(&["--jwt-secret", SECRET]);
    let both = token(&["--secret", SECRET, "--subscribe", "a", "--publish", "a"]);
    let url = server.url();
    let (code, id, stderr) = run(&["publish", "--url", &url, "--token", &both, "--topic", "a", "hello"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{id}");
    let args = ["tail", "--url", &url, "--token", &both, "--topics", "a", "--history", "1", "--count", "1"];
    let (code, stdout, stderr) = run(&args);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("hello"), "{stdout}");
    let (code, _, stderr) = run(&["tail", "--url", &url, "--topics", "a", "--count", "1"]);
    assert!(code == Some(1) && stderr.contains("401") && stderr.contains("--token"), "{stderr}");
    let (code, _, stderr) = run(&["publish", "--url", &url, "--topic", "a", "hello"]);
    assert!(code != Some(0) && stderr.contains("401") && stderr.contains("--token"), "{stderr}");
}

#[test]
fn useless_keys_and_tokens_are_rejected_with_reason() {
    for (args, what) in [
        (&["token", "--subscribe", "a"][..], "--secret"),
        (&["token", "--secret", "short", "--subscribe", "a"], "32 bytes"),
        (&["token", "--secret", "@/does/not/exist", "--subscribe", "a"], "/does/not/exist"),
        (&["token", "--private-key", "/does/not/exist", "--subscribe", "a"], "/does/not/exist"),
        (&["token", "--secret", SECRET], "the token grants nothing"),
        (&["token", "--secret", SECRET, "--subscribe", "user:{sub}"], "claim sub"),
        (&["token", "--secret", SECRET, "--subscribe", "a:*b"], "--subscribe"),
        (&["key", "shop"], "the key grants nothing"),
        (&["key", "a\nb", "--admin"], "one line"),
        (&["key", "shop", "--publish", "a*b"], "a*b"),
        (&["serve", "--jwt-secret", "hunter2"], "32 bytes"),
        (&["serve", "--jwt-public-key", "/does/not/exist"], "jwt_public_key: /does/not/exist"),
        (&["serve", "--jwks", "/does/not/exist"], "jwks: /does/not/exist"),
        (&["serve", "--jwks", "ftp://x/"], "http:// or https://"),
        (&["serve", "--authorize-url", "http://me:hunter2@x/"], "without user name and password"),
        (&["serve", "--jwt-audience", "x"], "jwt_secret"),
        (&["serve", "--anonymous-publish", "a**"], "a**"),
    ] {
        let (code, _, stderr) = run(args);
        assert!(code != Some(0) && stderr.contains(what), "{args:?}: {stderr}");
        assert!(!stderr.contains("hunter2"), "{stderr}");
    }
}
