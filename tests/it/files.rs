//! Out of file descriptors: open streams go on, and health checks are answered as long as there is a file for them.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{
    Answer, Crowd, Http, News, PATIENCE, Server, cpu_time, limit_open_files, lower_open_file_limit, serve,
};

const PAUSES: &str = "accepting pauses";
const AGAIN: &str = "accepting again";

/// Reads until `count` more clients are greeted, and answers which.
fn greeted(crowd: &mut Crowd, count: usize) -> Vec<usize> {
    let mut greeted = Vec::new();
    let all = crowd.read(PATIENCE, |client, news| match news {
        News::Event(event) => {
            assert_eq!(event.name, "system", "client {client}");
            greeted.push(client);
            greeted.len() == count
        }
        News::End(end) => panic!("client {client}: {end:?}"),
    });
    assert!(all, "only {} of {count} were greeted", greeted.len());
    greeted
}

/// The answer to a request on a new connection, and how long it took. The few places for such connections may be taken for
/// the moment that the server needs to see the end of those before.
fn ask(server: &Server, path: &str) -> (Answer, Duration) {
    let began = Instant::now();
    loop {
        match Http::connect(server.address()).try_get(path) {
            Ok(answer) => return (answer, began.elapsed()),
            Err(error) => assert!(began.elapsed() < PATIENCE, "{path}: {error}"),
        }
    }
}

/// An orchestrator restarts a server whose health checks it cannot connect for.
#[test]
fn with_all_connections_taken_health_and_metrics_are_answered_on_new_ones() {
    for max_connections in ["0", "auto"] {
        let command = serve(&["--listen", "127.0.0.1:0", "--shards", "2", "--max-connections", max_connections]);
        let server = Server::launch(limit_open_files(64, &command));
        let mut crowd = Crowd::new();
        const ROOM: usize = 32;
        for _ in 0..ROOM {
            crowd.connect(server.address(), "");
        }
        greeted(&mut crowd, ROOM);
        for round in 0..10 {
            let full = "all 32 connections are taken (by the limit on open files, ulimit -n; setting max_connections)";
            for (path, status, part) in [
                ("/health/live", 200, "live"),
                ("/health/ready", 503, full),
                ("/metrics", 200, "fanline_max_connections 32"),
                ("/stream", 503, "its limit is 32 (by the limit on open files, ulimit -n"),
            ] {
                let (answer, took) = ask(&server, path);
                assert!(answer.status == status && answer.body.contains(part), "{round}: {path}: {answer:?}");
                assert!(took < Duration::from_secs(1), "{round}: {path}: {took:?}");
            }
        }
        assert_eq!(server.log.count(PAUSES), 0, "{:?}", server.log.lines());
        crowd.leave(0);
        crowd.leave(1);
        let deadline = Instant::now() + PATIENCE;
        while ask(&server, "/health/ready").0.status != 200 {
            assert!(Instant::now() < deadline, "connections that ended make room");
        }
        server.publish("t", "to all");
        crowd.everybody_gets(PATIENCE, "an event", |event| event.data == "to all");
    }
}

/// Something else in the process or the system has taken the files that connections leave.
#[test]
fn out_of_file_descriptors_streams_go_on_accepting_pauses_and_waiting_clients_are_served_later() {
    let command = serve(&["--listen", "127.0.0.1:0", "--shards", "2", "--max-connections", "0"]);
    let server = Server::launch(limit_open_files(1024, &command));
    lower_open_file_limit(server.pid(), 64);
    let mut http = server.http();
    assert_eq!(http.get("/health/ready").status, 200);

    let mut crowd = Crowd::new();
    const CLIENTS: usize = 80;
    for _ in 0..CLIENTS {
        crowd.connect(server.address(), "");
    }
    let pause: Value = serde_json::from_str(&server.log.wait_for(PAUSES)).unwrap();
    // All connections but the one of these requests.
    let streams = pause["fields"]["connections"].as_u64().expect("it says how many") as usize - 1;
    assert!((20..64).contains(&streams), "{streams} clients fit");
    let mut inside = greeted(&mut crowd, streams);

    let ready = http.get("/health/ready");
    assert!(ready.status == 503 && ready.body.contains("no file descriptor is left"), "{ready:?}");
    assert_eq!(http.get("/health/live").status, 200);
    assert_eq!(http.get("/health").json()["status"], "degraded");

    // Those who are in receive, and nobody else gets anything.
    http.publish("t", "inside");
    let mut left = inside.len();
    let all = crowd.read(PATIENCE, |client, news| match news {
        News::Event(event) => {
            assert!(event.data == "inside" && inside.contains(&client), "client {client}: {event:?}");
            left -= 1;
            left == 0
        }
        News::End(end) => panic!("client {client}: {end:?}"),
    });
    assert!(all, "{left} clients did not receive");

    // The process sleeps, and says nothing more.
    let before = cpu_time(server.pid());
    assert!(!crowd.read(Duration::from_secs(2), |client, news| panic!("client {client}: {news:?}")));
    let used = cpu_time(server.pid()) - before;
    assert!(used <= Duration::from_millis(100), "{used:?} of processor time in 2 s");
    assert_eq!((server.log.count(PAUSES), server.log.count(AGAIN)), (1, 0));

    // Ten go, ten of those that wait come in, and the rest wait again: another episode, or several when the server looks
    // while it has closed some of the ten only.
    for client in inside.drain(..10) {
        crowd.leave(client);
    }
    inside.extend(greeted(&mut crowd, 10));
    server.log.wait_for_nth(2, PAUSES);
    assert!(!crowd.read(Duration::from_millis(500), |client, news| panic!("client {client}: {news:?}")));
    assert_eq!(http.get("/health/ready").status, 503);
    let pauses = server.log.count(PAUSES);
    assert!((2..=11).contains(&pauses), "{:?}", server.log.lines());
    assert_eq!(server.log.count(AGAIN), pauses - 1, "{:?}", server.log.lines());

    // When most go, everybody who waits is served, and the server is ready again.
    for client in inside.drain(..) {
        crowd.leave(client);
    }
    let waiting = crowd.open();
    inside = greeted(&mut crowd, waiting);
    assert_eq!(inside.len(), CLIENTS - 10 - streams);
    let deadline = Instant::now() + PATIENCE;
    while http.get("/health/ready").status != 200 {
        assert!(Instant::now() < deadline, "it is not ready again: {:?}", server.log.lines());
    }
    assert_eq!(http.get("/health").json()["status"], "healthy");
    http.publish("t", "to all");
    crowd.everybody_gets(PATIENCE, "an event", |event| event.data == "to all");
    server.log.wait_for_nth(server.log.count(PAUSES), AGAIN);
    assert_eq!(server.log.count(PAUSES), server.log.count(AGAIN), "{:?}", server.log.lines());
    eprintln!("{streams} of {CLIENTS} clients fit in 64 open files; {used:?} of processor time in 2 s of pause");
}
