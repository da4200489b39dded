//! Outgoing HTTP requests, plain or over TLS with the system's certificates.

use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::HeaderMap;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};

/// How long an idle connection is kept. Shorter than the idle timeout of common servers, because a reused connection must
/// not be one that is about to be closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// An absolute `http://` or `https://` URL without user information.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(Uri);

/// The text is not a [`Url`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an http:// or https:// URL without user name and password, such as https://login.example/keys")]
#[non_exhaustive]
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
    /// Omits the query, which may hold a secret.
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

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{}", with_causes(.0))]
    Client(#[from] legacy::Error),
    #[error("the response body is incomplete or longer than {0} bytes")]
    Body(usize),
    #[error("no response within {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
    #[error("unexpected status {0}")]
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

/// An HTTP client for one URL.
pub(super) struct Fetcher {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: Url,
    /// The longest time for a request and its response.
    limit: Duration,
    /// The longest response body, in bytes.
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
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector);
        Self { client, url, limit, max_bytes }
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Returns the body at the URL. Any status but 200 is an error.
    pub(super) async fn get(&self) -> Result<Bytes, FetchError> {
        let (status, body) = self.send(Method::GET, HeaderMap::new(), Bytes::new()).await?;
        if status == StatusCode::OK { Ok(body) } else { Err(FetchError::Status(status)) }
    }

    /// Sends a request to the URL, and returns the status and the body. Redirects are not followed.
    pub(super) async fn send(
        &self,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), FetchError> {
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.url.0.clone();
        *request.headers_mut() = headers;
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
