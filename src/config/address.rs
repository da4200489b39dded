//! Where to listen.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::kind::Arity;
use super::kind::Kind;

/// One or more addresses to listen on.
#[derive(Debug)]
pub struct Addresses;

impl Kind for Addresses {
    type Value = Vec<SocketAddr>;

    const ARITY: Arity = Arity::Many;

    fn parse(&self, text: &str) -> Result<Self::Value, String> {
        let mut addresses = Vec::new();
        for item in text.split(',').map(str::trim) {
            let address = parse(item)?;
            // Port 0 asks for any free port: twice is two ports.
            if address.port() != 0 && addresses.contains(&address) {
                return Err(format!("has {address} twice"));
            }
            addresses.push(address);
        }
        Ok(addresses)
    }

    fn allowed(&self) -> String {
        "address:port".to_owned()
    }

    fn write(&self, value: &Self::Value) -> Option<toml::Value> {
        Some(value.iter().map(ToString::to_string).collect::<Vec<_>>().into())
    }
}

fn parse(item: &str) -> Result<SocketAddr, String> {
    if item.starts_with("unix:") {
        return Err("Unix sockets are not supported yet: give a TCP address such as 127.0.0.1:8000".to_owned());
    }
    let named = item.strip_prefix("localhost:").map(|port| format!("{}:{port}", Ipv4Addr::LOCALHOST));
    named.as_deref().unwrap_or(item).parse().map_err(|_| {
        format!(
            "each must be an IP address and a port, such as 127.0.0.1:8000, 0.0.0.0:80 or [::1]:8000; {item:?} is not"
        )
    })
}

/// An IP address without a port.
#[derive(Debug)]
pub struct Host;

impl Kind for Host {
    type Value = IpAddr;

    fn parse(&self, text: &str) -> Result<IpAddr, String> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("localhost") {
            return Ok(Ipv4Addr::LOCALHOST.into());
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        bare.parse().map_err(|_| {
            "must be an IP address such as 127.0.0.1, 0.0.0.0 (all interfaces) or ::1, or localhost".to_owned()
        })
    }

    fn allowed(&self) -> String {
        String::new()
    }

    fn write(&self, value: &IpAddr) -> Option<toml::Value> {
        Some(value.to_string().into())
    }
}

/// A port.
#[derive(Debug)]
pub struct Port;

impl Kind for Port {
    type Value = u16;

    fn parse(&self, text: &str) -> Result<u16, String> {
        text.trim().parse().map_err(|_| format!("must be {}", self.allowed()))
    }

    fn allowed(&self) -> String {
        "0 (any free port) to 65535".to_owned()
    }

    fn write(&self, value: &u16) -> Option<toml::Value> {
        Some(i64::from(*value).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_separated_by_commas() {
        let addresses = Addresses.parse("127.0.0.1:8000, [::1]:80,localhost:0,localhost:0").unwrap();
        let shown: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["127.0.0.1:8000", "[::1]:80", "127.0.0.1:0", "127.0.0.1:0"]);
    }

    #[test]
    fn what_is_no_address_is_refused_with_examples() {
        for text in ["", "8000", ":8000", "example.com:80", "127.0.0.1", "127.0.0.1:70000", "1.1.1.1:1,"] {
            assert!(Addresses.parse(text).unwrap_err().contains("such as 127.0.0.1:8000"), "{text:?}");
        }
        assert!(
            Addresses.parse("unix:/run/fanline.sock").unwrap_err().starts_with("Unix sockets are not supported yet")
        );
        assert_eq!(Addresses.parse("1.1.1.1:1,1.1.1.1:1").unwrap_err(), "has 1.1.1.1:1 twice");
    }

    #[test]
    fn a_host_is_an_ip_address_or_localhost() {
        assert_eq!(Host.parse("localhost").unwrap().to_string(), "127.0.0.1");
        assert_eq!(Host.parse("[::]").unwrap().to_string(), "::");
        assert!(Host.parse("example.com").is_err());
    }
}
