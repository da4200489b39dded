//! One HTTP request of the server's own: plain, or over TLS with the system's certificates.

use std::fmt;
use std::future::pending;
use std::io;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::http::request;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// An address that begins with `http://` or `https://`.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    uri: Uri,
    host: String,
    port: u16,
    is_tls: bool,
}

/// A text that is no address of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it must be http:// or https://, a host, and a path, as in https://login.example/keys; without name and password"
)]
pub struct InvalidUrl;

impl FromStr for Url {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let uri: Uri = text.parse().map_err(|_| InvalidUrl)?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(InvalidUrl),
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or(InvalidUrl)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        if host.is_empty() || port == 0 {
            return Err(InvalidUrl);
        }
        Ok(Self { uri, host, port, is_tls })
    }
}

impl fmt::Display for Url {
    /// Without the query, which may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.uri.authority().map_or("", |authority| authority.as_str()), self.uri.path())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("its body broke off, or is longer than {0} bytes")]
    Body(usize),
    #[error("there was no answer for {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
    #[error("it answered {0}")]
    Status(StatusCode),
}

/// The body at `url`, which must be there.
pub(super) async fn get(url: &Url, limit: Duration, max_bytes: usize) -> Result<Bytes, FetchError> {
    let (status, body) = send(url, Request::builder(), Bytes::new(), limit, max_bytes).await?;
    if status == StatusCode::OK { Ok(body) } else { Err(FetchError::Status(status)) }
}

/// Sends a request to `url`, and answers the status and the body. Redirections are not followed.
pub(super) async fn send(
    url: &Url,
    request: request::Builder,
    body: Bytes,
    limit: Duration,
    max_bytes: usize,
) -> Result<(StatusCode, Bytes), FetchError> {
    let path = url.uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = url.uri.authority().map_or("", |authority| authority.as_str());
    let host = HeaderValue::from_str(authority).map_err(io::Error::other)?;
    let request = request.uri(path).header(HOST, host).body(Full::from(body)).map_err(io::Error::other)?;
    let exchange = async {
        let socket = TcpStream::connect((url.host.as_str(), url.port)).await?;
        socket.set_nodelay(true)?;
        if url.is_tls {
            let name = ServerName::try_from(url.host.clone()).map_err(io::Error::other)?;
            exchange(TlsConnector::from(tls()?).connect(name, socket).await?, request, max_bytes).await
        } else {
            exchange(socket, request, max_bytes).await
        }
    };
    tokio::time::timeout(limit, exchange).await.unwrap_or(Err(FetchError::TimedOut(limit)))
}

async fn exchange(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Full<Bytes>>,
    max_bytes: usize,
) -> Result<(StatusCode, Bytes), FetchError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    let answer = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, max_bytes).collect().await.map_err(|_| FetchError::Body(max_bytes))?;
        Ok((head.status, body.to_bytes()))
    };
    tokio::select! {
        answer = answer => answer,
        // What it fails with reaches the answer.
        () = async { drop(connection.await); pending().await } => unreachable!("it is pending"),
    }
}

fn tls() -> io::Result<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config.clone());
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth();
    Ok(CONFIG.get_or_init(|| Arc::new(config)).clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_service() {
        let url: Url = "https://login.example/keys?key=s3cret".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port, url.is_tls), ("login.example", 443, true));
        assert_eq!(format!("{url} {url:?}"), "https://login.example/keys https://login.example/keys");
        let url: Url = "http://[::1]:81".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port, url.is_tls), ("::1", 81, false));
        for text in ["", "login.example", "ftp://x/", "http://", "http://a:b@c/", "http://c:0/", "/keys"] {
            assert_eq!(text.parse::<Url>(), Err(InvalidUrl), "{text}");
        }
    }
}
