//! Startup with an unusable Redis or invalid settings: one clear error.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;

use super::{Redis, wait_until_ready};
use crate::process::{Process, Server, serve};

/// Starts a server that must fail, and returns its output.
fn startup_error(url: &str, more: &[&str]) -> String {
    let command = serve(&[&["--listen", "127.0.0.1:0", "--redis", url, "--redis-timeout", "1s"], more].concat());
    let (code, _, log) = Process::run(command);
    assert!(matches!(code, Some(1 | 2)), "{code:?}\n{log}");
    log
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn missing_or_wrong_password_is_rejected_and_never_shown() {
    let redis = Redis::with(&["--requirepass", "s3cret-one"]);
    let missing = startup_error(&redis.url(), &[]);
    let address = format!("Redis at 127.0.0.1:{}", redis.port);
    assert!(missing.contains(&format!("{address} refuses the password or requires one")), "{missing}");
    let wrong = startup_error(&redis.url().replace("redis://", "redis://:wr0ng-one@"), &[]);
    assert!(wrong.contains("refuses the password") && !wrong.contains("wr0ng-one"), "{wrong}");
    let server = Server::start(&["--redis", &redis.url().replace("redis://", "redis://:s3cret-one@")]);
    wait_until_ready(&server);
    server.publish("a", "x");
    assert!(!server.get("/health").body.contains("s3cret") && server.log.count("s3cret") == 0);
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn key_of_another_type_is_rejected_with_remedy() {
    let redis = Redis::start();
    redis.cli(&["SET", "{fanline}:events", "something else"]);
    let log = startup_error(&redis.url(), &[]);
    assert!(log.contains("has this key already, and not as a stream: choose another with redis_key"), "{log}");
    let server = Server::start(&["--redis", &redis.url(), "--redis-key", "mine"]);
    wait_until_ready(&server);
    assert!(redis.cli(&["KEYS", "{mine}:*"]).contains("{mine}:events"));
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn unreachable_redis_delays_or_fails_startup_as_configured() {
    let mut redis = Redis::start();
    redis.kill();
    let log = startup_error(&redis.url(), &["--redis-start", "fail"]);
    let refused = format!("redis: Redis at 127.0.0.1:{}: Connection refused", redis.port);
    assert!(log.contains(&refused), "{log}");
    let server = Server::start(&["--redis", &redis.url()]);
    let ready = server.get("/health/ready");
    assert_eq!(ready.status, 503);
    let reason = format!("the backbone (redis) is connecting: Redis at 127.0.0.1:{}: ", redis.port);
    assert!(ready.body.contains(&reason), "{ready:?}");
    let stream = server.get("/stream");
    assert_eq!(stream.status, 503, "no positions are known yet: {stream:?}");
    redis.restart();
    wait_until_ready(&server);
    server.publish("a", "x");
}

#[test]
#[ignore = "needs redis-server and openssl; run scripts/test"]
fn redis_is_reached_over_tls_or_a_unix_socket() {
    let redis = Redis::with_tls();
    let socket = format!("unix://{}", redis.directory().join("socket").display());
    let plain = Server::start(&["--redis", &socket]);
    wait_until_ready(&plain);
    let url = redis.url().replace("redis://", "rediss://");
    let distrustful = startup_error(&url, &["--redis-start", "fail"]);
    assert!(distrustful.to_lowercase().contains("certificate"), "{distrustful}");
    let mut command = serve(&["--listen", "127.0.0.1:0", "--redis", &url]);
    command.env("SSL_CERT_FILE", redis.directory().join("certificate"));
    let secret = Server::launch(command);
    wait_until_ready(&secret);
    let mut stream = secret.stream("topics=a");
    let id = plain.publish("a", "x");
    assert_eq!(stream.next().id, Some(id));
}

/// A server that reports version 6.2 of Redis.
#[test]
fn old_redis_is_rejected_with_the_required_version() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let mut answers = socket.try_clone().unwrap();
            for line in BufReader::new(socket).lines().map_while(Result::ok) {
                let answer = match line.to_ascii_uppercase().as_str() {
                    "INFO" => "$21\r\nredis_version:6.2.14\n\r\n",
                    "SETINFO" | "SETNAME" | "SELECT" => "+OK\r\n",
                    _ => continue,
                };
                if answers.write_all(answer.as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    let log = startup_error(&format!("redis://{address}/"), &[]);
    let rule = format!("Redis at {address} has version 6.2.14, and fanline needs 7 or newer");
    assert!(log.contains(&rule), "{log}");
}

#[test]
fn invalid_url_is_rejected_without_being_shown() {
    for url in ["localhost:6379", "http://:pass-w0rd@host/"] {
        let log = startup_error(url, &[]);
        assert!(log.contains("redis") && log.contains("must begin with one of redis://"), "{log}");
        assert!(!log.contains("pass-w0rd"), "{log}");
    }
    let log = startup_error("redis+sentinel://host:26379", &[]);
    assert!(log.contains("the name of the master is missing"), "{log}");
}
