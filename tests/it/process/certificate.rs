//! Self-signed certificates.

use std::path::Path;
use std::process::{Command, Stdio};

use super::Process;

/// Creates a key and a certificate for 127.0.0.1 in `directory`, and returns their paths.
pub fn certificate(directory: &Path) -> (String, String) {
    let path = |name: &str| directory.join(name).to_str().expect("a path").to_owned();
    let (key, certificate) = (path("key"), path("certificate"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]);
    openssl.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]);
    // Otherwise rustls rejects it as an authority.
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", &key, "-out", &certificate]);
    openssl.stdin(Stdio::null());
    let (code, _, log) = Process::run(openssl);
    assert_eq!(code, Some(0), "{log}");
    (key, certificate)
}
