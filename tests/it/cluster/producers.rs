//! Standard input while Redis restarts: the input waits, and no line is lost or comes twice.

use std::io::Write;
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use serde_json::{Value, json};

use super::{Redis, wait_for_readiness, wait_until_ready};
use crate::process::{Server, Stream, serve};

/// A server that publishes its standard input in `redis`, which loses nothing.
fn reading_node(redis: &Redis, more: &[&str]) -> (Server, ChildStdin) {
    let args = ["--listen", "127.0.0.1:0", "--stdin", "--topic", "n", "--redis", &redis.url(), "--redis-lossless"];
    let mut command = serve(&[&args[..], more].concat());
    command.stdin(Stdio::piped());
    let mut server = Server::launch(command);
    wait_until_ready(&server);
    let stdin = server.stdin();
    (server, stdin)
}

/// Writes the numbers from 1 on as lines, one for each message, until the sender is dropped. Returns the last.
fn count(mut stdin: ChildStdin, go: Receiver<()>) -> u64 {
    let mut number = 0;
    for () in go {
        number += 1;
        writeln!(stdin, "{number}").expect("the server reads");
    }
    number
}

fn next_number_is(stream: &mut Stream, number: u64) {
    let event = stream.next();
    assert_eq!((event.name.as_str(), event.data), ("message", number.to_string()));
}

/// Sends `lines` messages.
fn allow(go: &Sender<()>, lines: u64) {
    for _ in 0..lines {
        go.send(()).expect("the lines are being written");
    }
}

/// Publishers wait longer than Redis is away, so a batch that is on its way when Redis is killed is published once, too.
#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn lines_arrive_once_in_order_across_a_redis_restart() {
    const AHEAD: u64 = 200;
    let mut redis = Redis::start();
    let (server, stdin) = reading_node(&redis, &["--publish-timeout", "60s"]);
    let mut stream = server.stream("topics=n");
    let (go, allowed) = channel();
    let counting = thread::spawn(|| count(stdin, allowed));
    allow(&go, AHEAD);
    let mut received = 0;
    for _ in 0..3 {
        for _ in 0..500 {
            received += 1;
            next_number_is(&mut stream, received);
            // The lines that were allowed and not received come in while Redis is killed and restarted.
            allow(&go, 1);
        }
        redis.kill();
        redis.restart();
    }
    drop(go);
    let written = counting.join().unwrap();
    assert_eq!(written, received + AHEAD);
    for number in received + 1..=written {
        next_number_is(&mut stream, number);
    }
    let end: Value = serde_json::from_str(&server.log.wait_for("standard input has ended")).unwrap();
    assert_eq!((&end["fields"]["published"], &end["fields"]["unknown"]), (&json!(written), &json!(0)));
    let id = server.publish("n", "after");
    assert_eq!(stream.next().id, Some(id), "nothing more was published");
}

/// Publishers do not wait: each attempt fails at once, and standard input tries again.
#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn stdin_waits_for_redis_and_continues_where_it_stopped() {
    let mut redis = Redis::start();
    let (server, mut stdin) = reading_node(&redis, &["--redis-timeout", "1s"]);
    let mut stream = server.stream("topics=n");
    stdin.write_all(b"1\n2\n").unwrap();
    (1..=2).for_each(|number| next_number_is(&mut stream, number));
    // Batches are sent one at a time: Redis has acknowledged the lines once it has acknowledged a later event.
    server.publish("other", "x");
    redis.kill();
    wait_for_readiness(&server, 503);
    stdin.write_all(b"3\n4\n5\n").unwrap();
    server.log.wait_for("standard input waits until it can be published");
    stdin.write_all(b"6\n7").unwrap();
    drop(stdin);
    assert_eq!(server.get("/health").json()["producers"]["stdin_producer"], "running");
    redis.restart();
    (3..=7).for_each(|number| next_number_is(&mut stream, number));
    let end: Value = serde_json::from_str(&server.log.wait_for("standard input has ended")).unwrap();
    let counts = ["published", "refused", "unknown"].map(|count| end["fields"][count].as_u64());
    assert_eq!(counts, [Some(7), Some(0), Some(0)]);
    for line in ["standard input waits", "standard input is published again"] {
        assert_eq!(server.log.count(line), 1, "{line}");
    }
}
