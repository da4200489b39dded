//! Socket activation: systemd binds the sockets and passes them to the server.

use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::process::{Directory, Http, Process, Server, Stream, TIMEOUT, serve};

/// `fanline serve ARGS…`, started as systemd does: with `socket` as the file descriptor 3 and the variables about it.
fn activated(socket: impl Into<OwnedFd>, names: &str, args: &[&str]) -> Command {
    let serve = serve(args);
    let mut command = Command::new("sh");
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"";
    command.env_clear().env("LISTEN_FDNAMES", names).args(["-c", script]);
    command.arg(serve.get_program()).args(serve.get_args()).stdin(Stdio::from(socket.into()));
    command
}

fn error_of(command: Command) -> String {
    let (code, _, error) = Process::run(command);
    assert_eq!(code, Some(1), "{error}");
    error
}

/// The socket stays open while no server runs, and the kernel queues connections.
#[test]
fn a_restart_loses_no_connection_attempt() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let start = || Server::launch(activated(listener.try_clone().unwrap(), "fanline", &["--listen", "systemd"]));
    let mut server = start();
    assert_eq!(server.addresses, [address]);
    assert_eq!(server.get("/health/live").status, 200);
    server.signal(Signal::TERM);
    assert!(server.wait(TIMEOUT).success());
    let mut early: Vec<_> = (0..50).map(|_| TcpStream::connect(address).expect("the kernel accepts")).collect();
    for socket in &mut early {
        socket.write_all(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    }
    let _server = start();
    for socket in early {
        assert_eq!(Http::on(socket).response().status, 200);
    }
}

#[test]
fn a_restart_with_a_history_file_loses_no_event_either() {
    let directory = Directory::new("systemd-history");
    let path = directory.0.join("history");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let args = ["--listen", "systemd", "--history-file", path.to_str().unwrap()];
    let start = || Server::launch(activated(listener.try_clone().unwrap(), "fanline", &args));
    let mut server = start();
    let first = server.publish("a", "1");
    server.publish("a", "2");
    server.signal(Signal::TERM);
    assert!(server.wait(TIMEOUT).success());
    let socket = TcpStream::connect(address).expect("the kernel accepts");
    let mut stream = Stream::request(socket, "topics=a", Some(&first));
    let _server = start();
    assert_eq!(stream.next().name, "system");
    assert_eq!(stream.next().data, "2");
}

#[test]
fn a_unix_socket_of_systemd_is_served_and_not_removed() {
    let directory = Directory::new("systemd-unix");
    let path = directory.0.join("fanline.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let mut server = Server::launch(activated(listener, "fanline.socket", &["--listen", "systemd:fanline.socket"]));
    let mut http = Http::on_unix(std::os::unix::net::UnixStream::connect(&path).unwrap());
    assert_eq!(http.get("/health/live").status, 200);
    drop(http);
    server.signal(Signal::TERM);
    assert!(server.wait(TIMEOUT).success());
    assert!(path.exists());
}

#[test]
fn a_named_socket_becomes_the_admin_listener() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let args = ["--listen", "127.0.0.1:0", "--admin-listen", "systemd:admin"];
    let server = Server::launch(activated(listener, "admin", &args));
    assert_eq!(server.get("/clients").status, 404);
    assert_eq!(Http::connect(address).get("/clients").status, 200);
}

#[test]
fn a_missing_socket_is_named() {
    let error = error_of(serve(&["--listen", "systemd"]));
    assert!(error.contains("systemd passed no socket"), "{error}");
    let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
    let error = error_of(activated(listener(), "admin", &["--listen", "systemd:clients"]));
    assert!(error.contains("systemd passed no socket named \"clients\""), "{error}");
}

#[test]
fn a_socket_that_no_setting_takes_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = error_of(activated(listener, "admin", &["--listen", "127.0.0.1:0"]));
    assert!(error.contains("add systemd or systemd:admin to listen"), "{error}");
}

#[test]
fn only_listening_stream_sockets_are_accepted() {
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let error = error_of(activated(datagrams, "fanline", &["--listen", "systemd"]));
    assert!(error.contains("neither a TCP nor a Unix stream socket"), "{error}");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let error = error_of(activated(connected, "fanline", &["--listen", "systemd"]));
    assert!(error.contains("Accept=no"), "{error}");
}

/// The variables are for the process with the id `LISTEN_PID`.
#[test]
fn sockets_of_another_process_are_not_taken() {
    let mut command = serve(&["--listen", "systemd"]);
    command.env("LISTEN_PID", "1").env("LISTEN_FDS", "1");
    assert!(error_of(command).contains("systemd passed no socket"));
}
