//! A unit of `Type=notify`: systemd is told when the server is ready, and when it begins to end.

use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;

use crate::process::{PATIENCE, Server, serve};

#[test]
fn systemd_is_told_that_the_server_listens_and_that_it_ends() {
    let path = std::env::temp_dir().join(format!("fanline-notify-{}", std::process::id()));
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut message = [0; 256];
        let length = socket.recv(&mut message).expect("systemd is told");
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    let mut command = serve(&["--listen", "127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", &path);
    let mut server = Server::launch(command);
    assert_eq!(told().trim_end(), "READY=1");
    TcpStream::connect(server.address()).expect("what is ready takes connections");
    server.signal(Signal::TERM);
    assert_eq!(told().trim_end(), "STOPPING=1");
    assert!(server.wait(PATIENCE).success());
    std::fs::remove_file(&path).unwrap();
}
