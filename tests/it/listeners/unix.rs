//! Unix sockets.

use std::fs;
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::process::{Decoder, Directory, Event, Http, Process, Server, TIMEOUT, fanline, serve, wait_until};

/// A directory for a socket, and the socket's path.
fn place(name: &str) -> (Directory, PathBuf, String) {
    let directory = Directory::new(&format!("unix-{name}"));
    let path = directory.0.join("fanline.sock");
    let listen = format!("unix:{}", path.display());
    (directory, path, listen)
}

fn launch(listen: &str, args: &[&str]) -> Server {
    Server::launch(serve(&[&["--listen", listen], args].concat()))
}

fn http(path: &Path) -> Http {
    Http::on_unix(UnixStream::connect(path).expect("the server accepts"))
}

/// A stream through a Unix socket.
struct Stream {
    socket: UnixStream,
    decoder: Decoder,
}

impl Stream {
    fn open(path: &Path, query: &str) -> Self {
        let mut socket = UnixStream::connect(path).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        write!(socket, "GET /stream{query} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        Self { socket, decoder: Decoder::default() }
    }

    /// Reads until an event is `name`.
    fn read_until(&mut self, name: &str) -> Event {
        let (mut found, mut buffer) = (None, [0; 4096]);
        while found.is_none() {
            let length = self.socket.read(&mut buffer).expect("the stream continues");
            assert!(length > 0, "the stream has ended");
            self.decoder
                .feed(&buffer[..length], |event| found = found.take().or((event.name == name).then_some(event)));
        }
        found.unwrap()
    }
}

fn error_of(listen: &str) -> String {
    let (code, _, log) = Process::run(serve(&["--listen", listen]));
    assert_eq!(code, Some(1), "{log}");
    log
}

#[test]
fn publishes_and_streams_pass_through_a_unix_socket_and_tcp() {
    let (_directory, path, listen) = place("both");
    let server = launch(&listen, &["--listen", "127.0.0.1:0"]);
    let mut over_tcp = server.stream("?topics=t");
    let mut over_unix = Stream::open(&path, "?topics=t");
    over_unix.read_until("system");
    http(&path).publish("t", "through the socket");
    assert_eq!(over_tcp.next().data, "through the socket");
    assert_eq!(over_unix.read_until("message").data, "through the socket");
    server.publish("t", "over TCP");
    assert_eq!(over_unix.read_until("message").data, "over TCP");
}

#[test]
fn connections_of_one_user_through_a_unix_socket_are_limited() {
    let (_directory, path, listen) = place("user");
    let _server = launch(&listen, &["--max-connections-per-address", "1"]);
    let mut stream = Stream::open(&path, "");
    stream.read_until("system");
    let refused = http(&path).get("/clients");
    let user = rustix::process::geteuid().as_raw();
    assert!(refused.status == 429 && refused.body.contains(&format!("the user {user} has reached")), "{refused:?}");
}

#[test]
fn the_list_of_clients_names_the_user_of_a_unix_socket() {
    let (_directory, path, listen) = place("list");
    let _server = launch(&listen, &[]);
    let mut stream = Stream::open(&path, "");
    stream.read_until("system");
    let user = rustix::process::geteuid().as_raw();
    assert_eq!(http(&path).get("/clients").json()["clients"][0]["remote_addr"], format!("unix:uid={user}"));
}

#[test]
fn the_socket_has_the_mode_and_group_of_the_settings() {
    let (_directory, path, listen) = place("mode");
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    let server = launch(&listen, &[]);
    assert_eq!(mode(), 0o660);
    drop(server);
    let _server = launch(&listen, &["--unix-mode", "0622", "--unix-group", "1"]);
    assert_eq!((mode(), fs::metadata(&path).unwrap().gid()), (0o622, 1));
}

#[test]
fn a_socket_that_a_killed_server_left_is_replaced() {
    let (_directory, path, listen) = place("stale");
    let mut server = launch(&listen, &[]);
    server.signal(Signal::KILL);
    server.wait(TIMEOUT);
    assert!(path.exists() && UnixStream::connect(&path).is_err());
    let server = launch(&listen, &[]);
    assert_eq!(server.log.count("nothing listens on"), 1);
    assert_eq!(http(&path).get("/health/live").status, 200);
}

/// Between binding and listening, a socket looks like one that a killed server left.
#[test]
fn one_of_several_servers_that_start_together_gets_the_socket() {
    let (_directory, path, listen) = place("together");
    drop(UnixListener::bind(&path).unwrap());
    let servers: Vec<_> = (0..4).map(|_| Process::start(serve(&["--listen", &listen]))).collect();
    let count = |text: &str| servers.iter().map(|server| server.log.count(text)).sum::<usize>();
    wait_until(|| match (count("listening on"), count("another process listens there")) {
        (1, 3) => Ok(()),
        counts => Err(format!("listening and failed: {counts:?}")),
    });
    assert_eq!(http(&path).get("/health/live").status, 200);
}

#[test]
fn a_socket_that_a_server_accepts_on_is_left_alone() {
    let (_directory, path, listen) = place("used");
    let _server = launch(&listen, &[]);
    let error = error_of(&listen);
    assert!(error.contains(&format!("cannot listen on {listen}")) && error.contains("another process"), "{error}");
    assert_eq!(http(&path).get("/health/live").status, 200);
}

/// Its queue of connections is full, so that a blocking connect would wait.
#[test]
fn a_socket_whose_queue_is_full_is_left_alone() {
    let (_directory, path, listen) = place("full");
    let _listener = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&_listener, 0).unwrap();
    let _queued = UnixStream::connect(&path).unwrap();
    assert!(error_of(&listen).contains("another process"));
    assert!(path.exists());
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let (directory, path, listen) = place("file");
    directory.write("fanline.sock", "precious");
    assert!(error_of(&listen).contains("is not a socket"));
    assert_eq!(fs::read_to_string(path).unwrap(), "precious");
}

#[test]
fn a_missing_directory_is_named() {
    let error = error_of("unix:/no/such/directory/fanline.sock");
    assert!(error.contains("unix:/no/such/directory/fanline.sock: No such file or directory"), "{error}");
}

#[test]
fn the_socket_is_removed_when_the_server_ends() {
    let (_directory, path, listen) = place("end");
    let mut server = launch(&listen, &[]);
    assert!(path.exists());
    server.signal(Signal::TERM);
    assert!(server.wait(TIMEOUT).success());
    assert!(!path.exists());
}

/// A later server may have replaced it.
#[test]
fn another_file_at_the_path_of_the_socket_is_not_removed() {
    let (directory, path, listen) = place("other");
    let mut server = launch(&listen, &[]);
    fs::remove_file(&path).unwrap();
    directory.write("fanline.sock", "another");
    server.signal(Signal::TERM);
    assert!(server.wait(TIMEOUT).success());
    assert!(path.exists());
}

#[test]
fn an_abstract_name_needs_no_file() {
    let name = format!("fanline-test-{}", std::process::id());
    let listen = format!("unix:@{name}");
    let _server = launch(&listen, &[]);
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let mut http = Http::on_unix(UnixStream::connect_addr(&address).unwrap());
    assert_eq!(http.get("/health/live").status, 200);
    assert!(error_of(&listen).contains("another process"));
}

#[test]
fn client_commands_connect_to_a_unix_socket() {
    let (_directory, _path, listen) = place("commands");
    let _server = launch(&listen, &[]);
    let mut tail =
        Process::start(fanline(&["tail", "--url", &listen, "--topics", "t", "--history", "1", "--count", "1"]));
    let (code, id, error) = Process::run(fanline(&["publish", "--url", &listen, "--topic", "t", "hello"]));
    assert_eq!((code, id.is_empty()), (Some(0), false), "{error}");
    let line = tail.lines().recv_timeout(TIMEOUT).expect("a line");
    assert!(line.contains("hello"), "{line}");
    let mut health = fanline(&["health"]);
    health.env("FANLINE_LISTEN", &listen);
    let (code, printed, error) = Process::run(health);
    assert_eq!((code, printed.trim()), (Some(0), format!("{listen} is ready").as_str()), "{error}");
}

#[test]
fn a_client_that_never_reads_is_cut_off() {
    let (_directory, path, listen) = place("stalled");
    let server = launch(&listen, &["--write-timeout", "1s", "--send-buffer", "4KiB", "--log-level", "debug"]);
    let _stalled = Stream::open(&path, "?topics=t");
    server.log.wait_for("client connects");
    let mut http = http(&path);
    for _ in 0..20 {
        http.publish("t", &"x".repeat(10_000));
    }
    let line = server.log.wait_for("client cut off");
    assert!(line.contains("stalled"), "{line}");
    // The socket's buffer held less than one event.
    let before = line.split("\"events\":").nth(1).and_then(|rest| rest.split(['}', ',']).next());
    assert!(before.and_then(|events| events.parse::<u64>().ok()).is_some_and(|events| events <= 2), "{line}");
}

#[test]
fn a_port_without_a_tcp_address_is_refused() {
    let mut command = serve(&["--check", "--listen", "unix:@x"]);
    command.env("PORT", "9000");
    let (code, printed, _) = Process::run(command);
    assert_eq!((code, printed.contains("listen = [\"unix:@x\"]")), (Some(0), true), "a flag is stronger");
    let (code, _, error) = Process::run(serve(&["--check", "--listen", "unix:@x", "--port", "9000"]));
    assert_eq!((code, error.contains("list a TCP address first")), (Some(2), true), "{error}");
}

#[test]
fn proxy_protocol_has_one_word_or_one_for_each_address() {
    let check = |words: &str| {
        let addresses = "127.0.0.1:0,127.0.0.1:0,unix:@x";
        Process::run(serve(&["--check", "--listen", addresses, "--proxy-protocol", words]))
    };
    for words in ["off", "required", "off,required,off"] {
        let (code, _, error) = check(words);
        assert_eq!(code, Some(0), "{words}: {error}");
    }
    for (words, reason) in [("off,required", "2 words, and listen has 3 addresses"), ("on", "must be off or required")]
    {
        let (code, _, error) = check(words);
        assert!(code == Some(2) && error.contains(reason), "{words}: {error}");
    }
}

#[test]
fn connections_to_a_unix_socket_end_with_the_drain() {
    let (_directory, path, listen) = place("drain");
    let mut server = launch(&listen, &["--drain", "6s"]);
    let mut stream = Stream::open(&path, "");
    stream.read_until("system");
    server.signal(Signal::TERM);
    let mut rest = String::new();
    stream.socket.read_to_string(&mut rest).expect("the stream ends");
    assert!(rest.contains("restart") && rest.ends_with("0\r\n\r\n"), "{rest}");
    assert!(server.wait(TIMEOUT.max(Duration::from_secs(1))).success());
}
