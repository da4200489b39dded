//! URLs of services that the server requests.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;

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

#[cfg(feature = "auth")]
impl Url {
    pub(super) fn uri(&self) -> &Uri {
        &self.0
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
