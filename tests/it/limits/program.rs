//! Connection limits of the program: open files, `max_connections`, and the log.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::process::{
    Crowd, Http, Process, Response, Server, TIMEOUT, Update, cpu_time, limit_open_files, lower_open_file_limit, serve,
};

/// The status of a subscription without `Accept`, whose refusals have a status, and its connection.
fn subscribe(server: &Server) -> (u16, TcpStream) {
    let mut socket = TcpStream::connect(server.address()).expect("the kernel accepts");
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket.write_all(b"GET /stream HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    let mut line = [0; 12];
    socket.read_exact(&mut line).expect("the server responds");
    (std::str::from_utf8(&line[9..]).unwrap().parse().unwrap(), socket)
}

#[test]
fn half_of_the_open_files_are_connections_and_accepting_never_pauses() {
    let server = Server::launch(limit_open_files(72, &serve(&["--listen", "127.0.0.1:0", "--shards", "2"])));
    let inside: Vec<_> = (0..36).map(|_| subscribe(&server)).collect();
    assert!(inside.iter().all(|(status, _)| *status == 200));
    for _ in 0..50 {
        assert_eq!(subscribe(&server).0, 503);
    }
    // Silent clients take the few places for rejections. Further ones are closed at once, and all are closed soon.
    let silent: Vec<_> = (0..50).map(|_| TcpStream::connect(server.address()).expect("the kernel accepts")).collect();
    for mut socket in silent {
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        let end = socket.read(&mut [0]);
        assert!(matches!(&end, Ok(0)) || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    }
    let metrics = ask_until_answered(&server, "/metrics/json");
    assert!(metrics.contains("\"max\":36") && metrics.contains("\"accept_pauses\":0"), "{metrics}");
    let ready = ask_until_answered(&server, "/health/ready");
    assert!(ready.contains("503") && ready.contains("all 36 connections are taken"), "{ready}");
}

/// The response to a request for `path`, repeated until a place for rejections is free.
fn ask_until_answered(server: &Server, path: &str) -> String {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let mut socket = TcpStream::connect(server.address()).expect("the kernel accepts");
        let mut answer = String::new();
        let _ =
            socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n").as_bytes());
        if socket.read_to_string(&mut answer).is_ok() && !answer.is_empty() {
            return answer;
        }
        assert!(Instant::now() < deadline, "no response");
    }
}

#[test]
fn many_rejections_make_one_log_line() {
    const LINE: &str = "limits were reached";
    let server = Server::start(&["--max-connections", "1"]);
    let (status, _first) = subscribe(&server);
    assert_eq!(status, 200);
    for _ in 0..20 {
        assert_eq!(subscribe(&server).0, 503);
    }
    let line = server.log.wait_for(LINE);
    assert!(line.contains("\"WARN\"") && line.contains("connections: "), "{line}");
    assert!((1..=2).contains(&server.log.count(LINE)), "{:?}", server.log.lines());
}

#[test]
fn connection_limit_above_open_files_is_an_error_with_remedy() {
    let command = serve(&["--listen", "127.0.0.1:0", "--max-connections", "1000", "--shards", "2"]);
    let (code, _, stderr) = Process::run(limit_open_files(64, &command));
    assert_eq!(code, Some(1), "{stderr}");
    for part in ["max_connections = 1000", "its limit of 64", "room for 32 connections", "ulimit -n"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
}

const PAUSES: &str = "no file descriptor is left";
const AGAIN: &str = "accepting again";

/// Reads until `count` more clients have received a hello, and returns their numbers.
fn read_hellos(crowd: &mut Crowd, count: usize) -> Vec<usize> {
    let mut read_hellos = Vec::new();
    let all = crowd.read(TIMEOUT, |client, update| match update {
        Update::Event(event) => {
            assert_eq!(event.name, "system", "client {client}");
            read_hellos.push(client);
            read_hellos.len() == count
        }
        Update::End(end) => panic!("client {client}: {end:?}"),
    });
    assert!(all, "only {} of {count} received a hello", read_hellos.len());
    read_hellos
}

/// The response to a request on a new connection, and the time it took. The places for such connections may be taken
/// until the server has noticed the end of earlier ones.
fn ask(server: &Server, path: &str) -> (Response, Duration) {
    let began = Instant::now();
    loop {
        match Http::connect(server.address()).try_get(path) {
            Ok(answer) => return (answer, began.elapsed()),
            Err(error) => assert!(began.elapsed() < TIMEOUT, "{path}: {error}"),
        }
    }
}

/// An orchestrator restarts a server if its health checks cannot connect.
#[test]
fn full_server_answers_health_and_metrics_on_new_connections() {
    for max_connections in ["0", "auto"] {
        let command = serve(&["--listen", "127.0.0.1:0", "--shards", "2", "--max-connections", max_connections]);
        let server = Server::launch(limit_open_files(72, &command));
        let mut crowd = Crowd::new();
        const ROOM: usize = 36;
        for _ in 0..ROOM {
            crowd.connect(server.address(), "");
        }
        read_hellos(&mut crowd, ROOM);
        for round in 0..10 {
            let full = "all 36 connections are taken (by the limit on open files, ulimit -n; setting max_connections)";
            for (path, status, part) in [
                ("/health/live", 200, "live"),
                ("/health/ready", 503, full),
                ("/metrics", 200, "fanline_max_connections 36"),
                ("/stream", 503, "its limit of 36 connections (by the limit on open files, ulimit -n"),
            ] {
                let (answer, took) = ask(&server, path);
                assert!(answer.status == status && answer.body.contains(part), "{round}: {path}: {answer:?}");
                assert!(took < Duration::from_secs(1), "{round}: {path}: {took:?}");
            }
        }
        assert_eq!(server.log.count(PAUSES), 0, "{:?}", server.log.lines());
        crowd.leave(0);
        crowd.leave(1);
        wait_until_ready(&server);
        server.publish("t", "to all");
        crowd.all_receive(TIMEOUT, "an event", |event| event.data == "to all");
    }
}

/// Opens streams until one is refused, because no file is left.
fn exhaust_files(server: &Server) -> Vec<Http> {
    let mut streams = Vec::new();
    let refused = loop {
        assert!(streams.len() < 64, "64 files are enough");
        let mut stream = server.http();
        match stream.get("/stream") {
            answer if answer.status == 200 => streams.push(stream),
            answer => break answer,
        }
    };
    assert!(refused.status == 503 && refused.body.contains(OUT_OF_FILES), "{refused:?}");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    streams
}

fn wait_until_ready(server: &Server) {
    let deadline = Instant::now() + TIMEOUT;
    while ask(server, "/health/ready").0.status != 200 {
        assert!(Instant::now() < deadline, "it is not ready: {:?}", server.log.lines());
    }
}

const OUT_OF_FILES: &str = "no file descriptor is left";

/// Something else in the process or system has taken the files.
#[test]
fn streams_and_health_checks_survive_exhausted_file_descriptors() {
    let command = serve(&["--listen", "127.0.0.1:0", "--shards", "2", "--max-connections", "0"]);
    let server = Server::launch(limit_open_files(1024, &command));
    let mut crowd = Crowd::new();
    const CLIENTS: usize = 10;
    for _ in 0..CLIENTS {
        crowd.connect(server.address(), "");
    }
    read_hellos(&mut crowd, CLIENTS);
    let mut publisher = server.http();
    assert_eq!(publisher.get("/health/ready").status, 200);
    lower_open_file_limit(server.pid(), 64);

    let streams = exhaust_files(&server);
    server.log.wait_for(PAUSES);
    for round in 0..10 {
        for (path, status, part) in [
            ("/health/live", 200, "live"),
            ("/health/ready", 503, OUT_OF_FILES),
            ("/health", 200, "degraded"),
            ("/metrics", 200, "fanline_accept_pauses_total 1"),
            ("/stream", 503, OUT_OF_FILES),
        ] {
            let (answer, took) = ask(&server, path);
            assert!(answer.status == status && answer.body.contains(part), "{round}: {path}: {answer:?}");
            assert!(took < Duration::from_secs(1), "{round}: {path}: {took:?}");
        }
    }
    publisher.publish("t", "inside");
    crowd.all_receive(TIMEOUT, "an event", |event| event.data == "inside");

    // The process sleeps and logs nothing more.
    let before = cpu_time(server.pid());
    assert!(!crowd.read(Duration::from_secs(2), |client, update| panic!("client {client}: {update:?}")));
    let used = cpu_time(server.pid()) - before;
    assert!(used <= Duration::from_millis(100), "{used:?} of processor time in 2 s");
    assert_eq!((server.log.count(PAUSES), server.log.count(AGAIN)), (1, 0));

    // The files of closed streams are free for new connections.
    drop(streams);
    server.log.wait_for(AGAIN);
    wait_until_ready(&server);
    assert_eq!(publisher.get("/health").json()["status"], "healthy");
    crowd.connect(server.address(), "");
    read_hellos(&mut crowd, 1);
    publisher.publish("t", "to all");
    crowd.all_receive(TIMEOUT, "an event", |event| event.data == "to all");
}
