//! Out of file descriptors: open streams go on, and health checks are answered on new connections.

use std::time::{Duration, Instant};

use crate::process::{
    Answer, Crowd, Http, News, PATIENCE, Server, cpu_time, limit_open_files, lower_open_file_limit, serve,
};

const PAUSES: &str = "no file descriptor is left";
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
fn out_of_file_descriptors_streams_go_on_and_health_is_answered_until_there_are_files_again() {
    let command = serve(&["--listen", "127.0.0.1:0", "--shards", "2", "--max-connections", "0"]);
    let server = Server::launch(limit_open_files(1024, &command));
    let mut crowd = Crowd::new();
    const CLIENTS: usize = 10;
    for _ in 0..CLIENTS {
        crowd.connect(server.address(), "");
    }
    greeted(&mut crowd, CLIENTS);
    let mut publisher = server.http();
    assert_eq!(publisher.get("/health/ready").status, 200);
    lower_open_file_limit(server.pid(), 64);

    // Each of these takes a file, until one is turned away.
    let mut streams = Vec::new();
    let refused = loop {
        assert!(streams.len() < 64, "64 files are enough");
        let mut stream = server.http();
        match stream.get("/stream") {
            answer if answer.status == 200 => streams.push(stream),
            answer => break answer,
        }
    };
    let out_of_files = "no file descriptor is left";
    assert!(refused.status == 503 && refused.body.contains(out_of_files), "{refused:?}");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    server.log.wait_for(PAUSES);
    for round in 0..10 {
        for (path, status, part) in [
            ("/health/live", 200, "live"),
            ("/health/ready", 503, out_of_files),
            ("/health", 200, "degraded"),
            ("/metrics", 200, "fanline_accept_pauses_total 1"),
            ("/stream", 503, out_of_files),
        ] {
            let (answer, took) = ask(&server, path);
            assert!(answer.status == status && answer.body.contains(part), "{round}: {path}: {answer:?}");
            assert!(took < Duration::from_secs(1), "{round}: {path}: {took:?}");
        }
    }
    publisher.publish("t", "inside");
    crowd.everybody_gets(PATIENCE, "an event", |event| event.data == "inside");

    // The process sleeps, and says nothing more.
    let before = cpu_time(server.pid());
    assert!(!crowd.read(Duration::from_secs(2), |client, news| panic!("client {client}: {news:?}")));
    let used = cpu_time(server.pid()) - before;
    assert!(used <= Duration::from_millis(100), "{used:?} of processor time in 2 s");
    assert_eq!((server.log.count(PAUSES), server.log.count(AGAIN)), (1, 0));

    // Those of the streams that end make room for others.
    streams.clear();
    server.log.wait_for(AGAIN);
    let deadline = Instant::now() + PATIENCE;
    while ask(&server, "/health/ready").0.status != 200 {
        assert!(Instant::now() < deadline, "it is not ready again: {:?}", server.log.lines());
    }
    assert_eq!(publisher.get("/health").json()["status"], "healthy");
    crowd.connect(server.address(), "");
    greeted(&mut crowd, 1);
    publisher.publish("t", "to all");
    crowd.everybody_gets(PATIENCE, "an event", |event| event.data == "to all");
}
