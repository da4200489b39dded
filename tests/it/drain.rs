//! Graceful shutdown: a signal, an announcement, and streams that close one after the other.

use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::process::{Crowd, End, Server, TIMEOUT, Update, serve};

const CLIENTS: usize = 1000;
const WINDOW: Duration = Duration::from_secs(3);

fn crowd(server: &Server, clients: usize) -> Crowd {
    let mut crowd = Crowd::new();
    for _ in 0..clients {
        crowd.connect(server.address(), "");
    }
    crowd.wait_for_hellos(TIMEOUT);
    crowd
}

/// Sends `signal` to a server with a thousand clients, and checks when and how each stream ends.
fn check_drain(signal: Signal) {
    let mut server = Server::start(&["--drain", "3s"]);
    let mut crowd = crowd(&server, CLIENTS);
    assert_eq!(server.get("/health/ready").status, 200);

    let began = Instant::now();
    server.signal(signal);
    let (announced_at, mut closed_at) = wait_for_announcements(&mut crowd, began);
    let last_announced = announced_at.iter().max().unwrap();
    assert!(*last_announced < WINDOW / 5, "the last announcement came after {last_announced:?}");

    // Requests are still answered, and published events are still delivered.
    let ready = server.get("/health/ready");
    assert_eq!((ready.status, ready.body.contains("draining")), (503, true), "{ready:?}");
    assert_eq!(server.get("/health").json()["status"], "draining");
    let published = server.publish("late", "still here");
    let published_at = began.elapsed();

    let mut late = vec![false; CLIENTS];
    let is_over = crowd.open() == 0;
    let all = is_over
        || crowd.read(TIMEOUT, |client, update| {
            match update {
                Update::Event(event) => {
                    assert_eq!((event.id.as_ref(), &*event.data), (Some(&published), "still here"), "client {client}");
                    assert!(!std::mem::replace(&mut late[client], true), "client {client} got it twice");
                }
                Update::End(end) => {
                    assert_eq!(end, End::Orderly, "client {client}, {:?} after the signal", began.elapsed());
                    closed_at[client] = Some(began.elapsed());
                }
            }
            closed_at.iter().all(Option::is_some)
        });
    assert!(all, "a stream was not closed");
    check_spread(closed_at.iter().flatten());
    for (client, at) in closed_at.iter().enumerate() {
        // A stream that closed at about the time of the publish may have missed it.
        let was_open = at.is_some_and(|at| at > published_at + Duration::from_millis(200));
        assert!(
            late[client] || !was_open,
            "client {client}, closed after {at:?}, did not get the event of {published_at:?}"
        );
    }
    assert_eq!(server.wait(TIMEOUT).code(), Some(0));
    assert!(began.elapsed() <= WINDOW + Duration::from_secs(1), "the process ended after {:?}", began.elapsed());
}

/// Checks that the last stream closes in time, some streams in each fifth of the window, and at most half in one.
fn check_spread<'a>(closed_at: impl Iterator<Item = &'a Duration> + Clone) {
    let last = *closed_at.clone().max().unwrap();
    let mut fifths = [0; 5];
    for at in closed_at {
        fifths[((at.as_secs_f64() / WINDOW.as_secs_f64() * 5.0) as usize).min(4)] += 1;
    }
    assert!(last <= WINDOW + Duration::from_millis(500), "the last stream was closed after {last:?}");
    assert!(fifths.iter().all(|closed| (50..=500).contains(closed)), "closed in each fifth of the window: {fifths:?}");
}

/// Reads until every client has received the announcement. Streams may end after it. Returns when each client received it
/// and when its stream ended.
fn wait_for_announcements(crowd: &mut Crowd, began: Instant) -> (Vec<Duration>, Vec<Option<Duration>>) {
    let (mut announced_at, mut closed_at) = (vec![None; CLIENTS], vec![None; CLIENTS]);
    let mut announced = 0;
    let have_all = crowd.read(TIMEOUT, |client, update| {
        match update {
            Update::Event(event) => {
                assert_eq!(event.data, r#"{"message":"server restarting"}"#, "client {client}");
                assert_eq!(announced_at[client].replace(began.elapsed()), None, "client {client}");
                announced += 1;
            }
            Update::End(end) => {
                assert!(end == End::Orderly && announced_at[client].is_some(), "client {client}: {end:?}");
                closed_at[client] = Some(began.elapsed());
            }
        }
        announced == CLIENTS
    });
    assert!(have_all, "a client did not get the announcement");
    (announced_at.into_iter().flatten().collect(), closed_at)
}

#[test]
fn sigterm_announces_the_restart_and_spreads_the_closes() {
    check_drain(Signal::TERM);
}

#[test]
fn sigint_announces_the_restart_and_spreads_the_closes() {
    check_drain(Signal::INT);
}

#[test]
fn second_signal_exits_at_once() {
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM)] {
        let mut server = Server::start(&["--drain", "10m"]);
        let mut crowd = crowd(&server, 10);
        server.signal(first);
        server.log.wait_for("shutting down");
        crowd.all_receive(TIMEOUT, "the announcement", |event| event.name == "system");
        server.signal(second);
        assert_eq!(server.wait(Duration::from_secs(5)).code(), Some(130));
    }
}

#[test]
fn server_without_streams_exits_at_once() {
    let mut server = Server::start(&["--drain", "10m"]);
    // An idle connection does not delay the exit.
    let _idle = server.http().get("/health");
    server.signal(Signal::TERM);
    assert_eq!(server.wait(Duration::from_secs(5)).code(), Some(0));
}

#[test]
fn signal_right_after_startup_shuts_down_cleanly() {
    for _ in 0..20 {
        let mut server = Server::start(&[]);
        server.signal(Signal::TERM);
        assert_eq!(server.wait(Duration::from_secs(5)).code(), Some(0));
    }
}

#[test]
fn zero_drain_time_still_announces_the_restart() {
    let mut server = Server::start(&["--drain", "0s"]);
    let mut crowd = crowd(&server, 100);
    server.signal(Signal::TERM);
    let (mut announced, mut closed) = (0, 0);
    crowd.read(TIMEOUT, |client, update| {
        match update {
            Update::Event(event) => announced += usize::from(event.data.contains("server restarting")),
            Update::End(end) => {
                assert_eq!(end, End::Orderly, "client {client}");
                closed += 1;
            }
        }
        closed == 100
    });
    assert_eq!((announced, closed), (100, 100));
    assert_eq!(server.wait(TIMEOUT).code(), Some(0));
}

#[test]
fn blocked_client_does_not_delay_the_exit() {
    let mut server = Server::start(&["--drain", "1s", "--send-buffer", "4KiB", "--history", "10000"]);
    let stuck = server.stream("");
    let mut http = server.http();
    let payload = "x".repeat(60_000);
    for _ in 0..200 {
        http.publish("t", &payload);
    }
    let began = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(server.wait(Duration::from_secs(10)).code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    server.log.wait_for("the drain time is over");
    drop(stuck);
}

#[test]
fn systemd_is_notified_of_ready_and_stopping() {
    let path = std::env::temp_dir().join(format!("fanline-notify-{}", std::process::id()));
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    let announced = || {
        let mut message = [0; 256];
        let length = socket.recv(&mut message).expect("systemd is notified");
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    let mut command = serve(&["--listen", "127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", &path);
    let mut server = Server::launch(command);
    assert_eq!(announced().trim_end(), "READY=1");
    TcpStream::connect(server.address()).expect("a ready server accepts connections");
    server.signal(Signal::TERM);
    assert_eq!(announced().trim_end(), "STOPPING=1");
    assert!(server.wait(TIMEOUT).success());
    std::fs::remove_file(&path).unwrap();
}
