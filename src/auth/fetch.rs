//! Outgoing HTTP requests, plain or over TLS with the system's certificates.

use std::error::Error;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::HeaderMap;
use hyper::{Method, Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};

use super::url::Url;

/// How long an idle connection is kept. Shorter than the idle timeout of common servers, because a reused connection must
/// not be one that is about to be closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

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
        *request.uri_mut() = self.url.uri().clone();
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
