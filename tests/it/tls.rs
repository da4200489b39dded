//! Client commands through a TLS terminator.

use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use crate::process::{Directory, Process, Server, TIMEOUT, fanline, wait_until};

/// HAProxy in front of a server. Its certificate is of an authority that only `ca.pem` of the directory trusts.
struct Terminator {
    _process: Process,
    directory: Directory,
    url: String,
}

impl Terminator {
    fn start(server: &Server) -> Self {
        static STARTED: AtomicU8 = AtomicU8::new(1);
        let (number, id) = (STARTED.fetch_add(1, Ordering::Relaxed), std::process::id());
        let directory = Directory::new(&format!("tls-{number}"));
        // An address that nothing else uses.
        let host = format!("127.{}.{}.{number}", id >> 8 & 0xff, id & 0xff);
        let certificate = certify(&directory, &host);
        let settings = format!(
            "defaults\n mode http\n timeout connect 9s\n timeout client 60s\n timeout server 60s\n\
             listen tls\n bind {host}:8443 ssl crt {certificate}\n server fanline {}\n",
            server.address()
        );
        let mut haproxy = Command::new("haproxy");
        haproxy.args(["-db", "-f", &directory.write("haproxy.cfg", &settings)]).stdin(Stdio::null());
        let process = Process::start(haproxy);
        wait_until(|| TcpStream::connect((host.as_str(), 8443)).map_err(|error| error.to_string()));
        Self { _process: process, url: format!("https://{host}:8443"), directory }
    }

    /// A client command that trusts the authorities in `file`.
    fn command(&self, file: &str, args: &[&str]) -> Command {
        let mut command = fanline(args);
        command.env("SSL_CERT_FILE", self.directory.0.join(file)).env("FANLINE_URL", &self.url);
        command
    }
}

/// Creates an authority and a certificate of it for the IP address `host`. Returns the path of the certificate, beside
/// which HAProxy finds its key.
fn certify(directory: &Directory, host: &str) -> String {
    let path = |name: &str| directory.0.join(name).to_str().expect("a path").to_owned();
    let (ca, ca_key, certificate) = (path("ca.pem"), path("ca.key"), path("server.pem"));
    let openssl = |arguments: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        command.args(["-days", "1"]).args(arguments).stdin(Stdio::null());
        let (code, _, log) = Process::run(command);
        assert_eq!(code, Some(0), "{log}");
    };
    // Unlike others in its name.
    let subject = format!("/CN=authority of {host}");
    openssl(&["-subj", &subject, "-keyout", &ca_key, "-out", &ca]);
    let (name, key) = (format!("subjectAltName=IP:{host}"), path("server.pem.key"));
    let leaf = ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", &key, "-out", &certificate];
    openssl(&[&["-subj", "/CN=server", "-addext", &name, "-CA", &ca, "-CAkey", &ca_key], &leaf[..]].concat());
    certificate
}

#[test]
#[ignore = "needs haproxy and openssl; run scripts/test"]
fn client_commands_use_https() {
    let server = Server::start(&[]);
    let tls = Terminator::start(&server);
    let mut tail = Process::start(tls.command("ca.pem", &["tail", "--count", "2"]));
    server.wait_for_streams(1);

    let (code, id, stderr) = Process::run(tls.command("ca.pem", &["publish", "--topic", "t", "one"]));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(id.contains('-'), "{id}");
    let mut lines = tls.command("ca.pem", &["publish", "--topic", "t"]);
    lines.stdin(Stdio::piped());
    let mut lines = Process::start(lines);
    lines.feed("two\n");
    assert!(lines.wait(TIMEOUT).success());

    assert_eq!(tail.lines().iter().collect::<Vec<_>>(), ["one", "two"]);
    assert!(tail.wait(TIMEOUT).success());
    let (code, stdout, stderr) = Process::run(tls.command("ca.pem", &["health"]));
    assert_eq!((code, stdout, stderr.as_str()), (Some(0), format!("{} is ready\n", tls.url), ""));
}

#[test]
#[ignore = "needs haproxy and openssl; run scripts/test"]
fn untrusted_certificate_is_rejected_with_its_remedy() {
    let server = Server::start(&[]);
    let tls = Terminator::start(&server);
    let other = Directory::new("tls-other");
    certify(&other, "127.0.0.1");
    std::fs::rename(other.0.join("ca.pem"), tls.directory.0.join("other-ca.pem")).expect("a directory to rename to");
    for (authorities, reason) in [
        ("other-ca.pem", "UnknownIssuer; for an authority of your own, set SSL_CERT_FILE to its certificate"),
        ("missing.pem", "no native root CA certificates found"),
    ] {
        let (code, stdout, stderr) = Process::run(tls.command(authorities, &["publish", "-t", "t", "x"]));
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        assert!(stderr.contains(&tls.url) && stderr.contains(reason), "{stderr}");
    }
    assert_eq!(server.get("/").json()["history_size"], 0);
}

#[test]
#[ignore = "needs openssl; run scripts/test"]
fn https_url_of_a_plain_server_is_reported() {
    let server = Server::start(&[]);
    let directory = Directory::new("tls-plain");
    certify(&directory, "127.0.0.1");
    let mut command = fanline(&["health", "--url", &server.url().replace("http", "https")]);
    command.env("SSL_CERT_FILE", directory.0.join("ca.pem"));
    let (code, _, stderr) = Process::run(command);
    assert!(code == Some(1) && stderr.contains("does this port speak TLS"), "{code:?} {stderr}");
}
