//! HTTP requests of the server's own: plain, or over TLS with the system's certificates.

use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::http::request;
use hyper::{Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};

/// How long a connection is kept for the next request: for a crowd that comes at once, and shorter than any service's own
/// patience, so that none is used that is about to be closed.
const KEPT_FOR: Duration = Duration::from_secs(2);

/// An address that begins with `http://` or `https://`.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(Uri);

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
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or(InvalidUrl)?;
        let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
        if !is_web || authority.host().is_empty() || authority.port_u16() == Some(0) {
            return Err(InvalidUrl);
        }
        Ok(Self(uri))
    }
}

impl fmt::Display for Url {
    /// Without the query, which may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.0.authority().map_or("", |authority| authority.as_str());
        write!(f, "{}://{authority}{}", self.0.scheme_str().unwrap_or_default(), self.0.path())
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
    #[error("{}", with_causes(.0))]
    Client(#[from] legacy::Error),
    #[error("the request cannot be made: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("its body broke off, or is longer than {0} bytes")]
    Body(usize),
    #[error("there was no answer for {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
    #[error("it answered {0}")]
    Status(StatusCode),
}

fn with_causes(error: &legacy::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// Sends requests to one service.
pub(super) struct Fetcher {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: Url,
    /// How long an answer may take.
    limit: Duration,
    /// How long its body may be.
    max_bytes: usize,
}

impl Fetcher {
    pub(super) fn new(url: Url, limit: Duration, max_bytes: usize) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls()).https_or_http().enable_http1().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEPT_FOR)
            .build(connector);
        Self { client, url, limit, max_bytes }
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// The body at the URL, which must be there.
    pub(super) async fn get(&self) -> Result<Bytes, FetchError> {
        let (status, body) = self.send(Request::builder(), Bytes::new()).await?;
        if status == StatusCode::OK { Ok(body) } else { Err(FetchError::Status(status)) }
    }

    /// Sends a request to the URL, and answers the status and the body. Redirections are not followed.
    pub(super) async fn send(&self, request: request::Builder, body: Bytes) -> Result<(StatusCode, Bytes), FetchError> {
        let request = request.uri(self.url.0.clone()).body(Full::from(body))?;
        let exchange = async {
            let (head, body) = self.client.request(request).await?.into_parts();
            let body = Limited::new(body, self.max_bytes).collect().await;
            Ok((head.status, body.map_err(|_| FetchError::Body(self.max_bytes))?.to_bytes()))
        };
        tokio::time::timeout(self.limit, exchange).await.unwrap_or(Err(FetchError::TimedOut(self.limit)))
    }
}

fn tls() -> ClientConfig {
    static CONFIG: OnceLock<ClientConfig> = OnceLock::new();
    let config = || {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        config.expect("ring has the usual protocols").with_root_certificates(roots).with_no_client_auth()
    };
    CONFIG.get_or_init(config).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_service() {
        let url: Url = "https://login.example/keys?key=s3cret".parse().unwrap();
        assert_eq!(format!("{url} {url:?}"), "https://login.example/keys https://login.example/keys");
        assert_eq!("http://[::1]:81".parse::<Url>().unwrap().to_string(), "http://[::1]:81/");
        for text in ["", "login.example", "ftp://x/", "http://", "http://a:b@c/", "http://c:0/", "/keys"] {
            assert_eq!(text.parse::<Url>(), Err(InvalidUrl), "{text}");
        }
    }
}
