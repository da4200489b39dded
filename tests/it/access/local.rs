//! Which processes of the server's machine may do everything while no credentials are configured.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use fanline::auth::{Access, LoopbackTrust};
use serde_json::Value;
use tokio::net::TcpStream;

use super::serve;
use crate::process::Directory;
use crate::support::{Server, TEXT, assert_problem, run};

/// The uid of an account without privileges.
const OTHER_USER: u32 = 65534;

fn trusting(trust: LoopbackTrust) -> Server {
    serve(Access::new().loopback_trust(trust))
}

/// Publishes with curl as another user, and returns the status and the detail of an error.
fn publish_as_other_user(address: SocketAddr) -> (u16, String) {
    curl_as_other_user(&[&format!("http://{address}/publish/t")])
}

fn curl_as_other_user(args: &[&str]) -> (u16, String) {
    assert!(rustix::process::geteuid().is_root(), "only root can start a process of another user");
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--write-out", "\n%{http_code}", "--header", "content-type: text/plain"]);
    curl.args(["--data", "x"]).args(args);
    let output = curl.uid(OTHER_USER).gid(OTHER_USER).output().expect("curl is installed");
    let output = String::from_utf8(output.stdout).unwrap();
    let (body, status) = output.rsplit_once('\n').unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    (status.parse().unwrap(), body["detail"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn loopback_trust_none_closes_what_the_server_s_own_user_may_do() {
    run(async {
        for trust in [LoopbackTrust::SameUser, LoopbackTrust::Any] {
            trusting(trust).post("/publish/t", TEXT, "x").await.ok();
        }
        let server = trusting(LoopbackTrust::None);
        assert_problem(&server.post("/publish/t", TEXT, "x").await, 403, &["setting loopback_trust"]);
        assert_problem(&server.get("/clients").await, 403, &["setting loopback_trust"]);
        server.follow("/stream").await;
    });
}

#[test]
#[ignore = "needs root and curl; run scripts/test"]
fn processes_of_other_users_are_not_local() {
    let server = trusting(LoopbackTrust::SameUser);
    let (status, detail) = publish_as_other_user(server.address);
    assert_eq!(status, 403, "{detail}");
    assert!(detail.contains("a process of user 65534, not of the server's own user 0"), "{detail}");
    assert!(detail.contains("loopback_trust = \"any\""), "{detail}");
    assert_eq!(publish_as_other_user(trusting(LoopbackTrust::Any).address).0, 200);
}

#[test]
#[ignore = "needs root and curl; run scripts/test"]
fn processes_of_other_users_on_a_unix_socket_are_not_local() {
    let directory = Directory::new("local");
    let path = directory.0.join("fanline.sock");
    let listener = UnixListener::bind(&path).unwrap();
    for place in [&directory.0, &path] {
        fs::set_permissions(place, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let _server = Server::with(Server::hub_options(), |builder| builder.listen(listener));
    let (status, detail) = curl_as_other_user(&["--unix-socket", path.to_str().unwrap(), "http://localhost/publish/t"]);
    assert_eq!(status, 403, "{detail}");
    assert!(detail.contains("a process of user 65534, not of the server's own user 0"), "{detail}");
}

#[test]
#[ignore = "needs root and nginx; run scripts/test"]
fn requests_through_a_plain_nginx_are_not_local() {
    run(async {
        let server = trusting(LoopbackTrust::SameUser);
        server.post("/publish/t", TEXT, "x").await.ok();
        let nginx = Nginx::start(server.address).await;
        for (method, target) in [("POST", "/publish/t"), ("GET", "/clients"), ("GET", "/metrics")] {
            let mut client = crate::support::Client::connect(nginx.address).await;
            let body: &[u8] = if method == "POST" { b"x" } else { b"" };
            let headers = [("host", "localhost"), ("content-type", TEXT)];
            client.send(crate::support::request(method, target, &headers, body)).await;
            assert_problem(&client.response().await, 403, &["not of the server's own user"]);
        }
    });
}

/// An nginx with nothing but a `proxy_pass`.
struct Nginx {
    address: SocketAddr,
    process: std::process::Child,
    _directory: Directory,
}

impl Nginx {
    async fn start(upstream: SocketAddr) -> Self {
        assert!(rustix::process::geteuid().is_root(), "only root's nginx changes the user of its workers");
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let directory = Directory::new("nginx");
        let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {name};"))
            .concat();
        let config = format!(
            "user www-data; pid nginx.pid; events {{}} http {{ access_log off; {paths} \
             server {{ listen {address}; location / {{ proxy_pass http://{upstream}; }} }} }}"
        );
        let config = directory.write("nginx.conf", &config);
        let prefix = config.strip_suffix("nginx.conf").unwrap();
        let process = Command::new("nginx")
            .args(["-p", prefix, "-c", &config, "-e", "nginx.log", "-g", "daemon off;"])
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx is installed");
        let mut looks = tokio::time::interval(std::time::Duration::from_millis(5));
        while TcpStream::connect(address).await.is_err() {
            looks.tick().await;
        }
        Self { address, process, _directory: directory }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        // The master ends its workers.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.process.wait();
    }
}
