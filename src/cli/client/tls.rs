//! TLS for `https://` URLs.

use std::io;

use hyper::Uri;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::CertificateError;
use rustls::crypto::ring;
use std::future::poll_fn;
use tower_service::Service;

use super::{BoxError, Io};

/// Connects to `url`, and trusts the system's certificates.
pub async fn connect(tcp: HttpConnector, url: Uri) -> Result<Box<dyn Io>, BoxError> {
    let tls = HttpsConnectorBuilder::new().with_provider_and_native_roots(ring::default_provider())?;
    let mut tls = tls.https_only().enable_http1().wrap_connector(tcp);
    poll_fn(|cx| tls.poll_ready(cx)).await?;
    Ok(Box::new(tls.call(url).await?))
}

/// What to do about the usual mistakes.
pub fn remedy(mut error: &(dyn std::error::Error + 'static)) -> &'static str {
    while let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        error = inner;
    }
    match error.downcast_ref() {
        Some(rustls::Error::InvalidMessage(_)) => "; does this port speak TLS, or is its URL http://?",
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "; for an authority of your own, set SSL_CERT_FILE to its certificate"
        }
        _ => "",
    }
}
