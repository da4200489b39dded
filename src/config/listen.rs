//! The kinds of settings about listeners: where they listen, and the access to their Unix sockets.

use std::fmt;
use std::str::FromStr;

use fanline::server::ListenAddress;
use nix::unistd::{Group, User};

use super::kind::{Invalid, Kind, choice, list};

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// The server binds this address.
    Address(ListenAddress),
    /// systemd has bound the sockets: those of this name (`FileDescriptorName=`), or those that no other setting names.
    Systemd(Option<String>),
}

impl<A: Into<ListenAddress>> From<A> for Listen {
    fn from(address: A) -> Self {
        Self::Address(address.into())
    }
}

impl FromStr for Listen {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.strip_prefix("systemd") {
            Some("") => Ok(Self::Systemd(None)),
            Some(rest) if rest.len() > 1 && rest.starts_with(':') => Ok(Self::Systemd(Some(rest[1..].to_owned()))),
            Some(_) => Err(Invalid(format!("must be systemd or systemd:NAME; {text:?} is not"))),
            None => text.parse().map(Self::Address).map_err(Invalid::because),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Systemd(None) => f.write_str("systemd"),
            Self::Systemd(Some(name)) => write!(f, "systemd:{name}"),
        }
    }
}

/// Addresses to listen on, each once.
pub fn addresses() -> Kind<Vec<Listen>> {
    let allowed = "address:port, unix:/path, unix:@name, systemd or systemd:name";
    let kind = list(Kind::new("ADDRESS", allowed, str::parse, Listen::to_string));
    let parse = move |text: &str| {
        let addresses = (kind.parse)(text)?;
        // Port 0 is any free port: given twice, it is two ports.
        let has_free_port =
            |listen: &Listen| matches!(listen, Listen::Address(ListenAddress::Tcp(address)) if address.port() == 0);
        let is_repeated = |(n, listen): (usize, &Listen)| !has_free_port(listen) && addresses[..n].contains(listen);
        match addresses.iter().enumerate().position(is_repeated) {
            Some(n) => Err(Invalid(format!("has {} twice", addresses[n]))),
            None => Ok(addresses),
        }
    };
    Kind { form: kind.form, parse: Box::new(parse), write: kind.write }
}

/// At least one address to listen on.
pub fn some_addresses() -> Kind<Vec<Listen>> {
    let Kind { form, parse, write } = addresses();
    // An empty text would be an empty list.
    let parse = move |text: &str| if text.is_empty() { text.parse().map(|listen| vec![listen]) } else { parse(text) };
    Kind { form, parse: Box::new(parse), write }
}

/// Whether connections begin with a header of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    Off,
    Required,
}

/// Whether the connections to each address begin with a header of the PROXY protocol: one word for all, or one for each.
pub fn proxy_protocol() -> Kind<Vec<ProxyProtocol>> {
    list(choice("WORD", &[("off", ProxyProtocol::Off), ("required", ProxyProtocol::Required)]))
}

/// The permissions of a file, as `chmod` takes them.
pub fn mode() -> Kind<u32> {
    let parse = |text: &str| {
        let is_octal = text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
        let mode = u32::from_str_radix(text, 8).ok().filter(|&mode| is_octal && mode <= 0o777);
        mode.ok_or_else(|| "must be octal permissions such as 0660 or 600, at most 0777".into())
    };
    Kind::new("MODE", "0000 to 0777", parse, |mode| format!("{mode:04o}"))
}

/// A user or group of this machine, with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The text of the setting: a name or a number.
    name: String,
    pub id: u32,
}

/// A user of this machine.
pub fn user() -> Kind<Account> {
    account("user", |name| Ok(User::from_name(name)?.map(|user| user.uid.as_raw())))
}

/// A group of this machine.
pub fn group() -> Kind<Account> {
    account("group", |name| Ok(Group::from_name(name)?.map(|group| group.gid.as_raw())))
}

fn account(noun: &'static str, find: fn(&str) -> nix::Result<Option<u32>>) -> Kind<Account> {
    let parse = move |text: &str| {
        let id = match text.parse() {
            Ok(id) => id,
            Err(_) => find(text)
                .map_err(|error| Invalid(format!("cannot look up the {noun}: {error}")))?
                .ok_or_else(|| Invalid(format!("must be the name or number of a {noun} of this machine")))?,
        };
        Ok(Account { name: text.to_owned(), id })
    };
    Kind::new("NAME", "", parse, |account: &Account| account.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error<T>(parsed: Result<T, Invalid>) -> String {
        parsed.err().expect("an invalid value").0
    }

    #[test]
    fn addresses_are_separated_by_commas() {
        let text = "127.0.0.1:8000, [::1]:80,localhost:0,localhost:0, unix:/run/a.sock,unix:@a,systemd, systemd:admin";
        let shown: Vec<_> = (addresses().parse)(text).unwrap().iter().map(ToString::to_string).collect();
        let tcp = ["127.0.0.1:8000", "[::1]:80", "127.0.0.1:0", "127.0.0.1:0"];
        assert_eq!(shown, [&tcp[..], &["unix:/run/a.sock", "unix:@a", "systemd", "systemd:admin"]].concat());
    }

    #[test]
    fn invalid_address_is_rejected_with_examples() {
        let parse = some_addresses().parse;
        for text in ["", "8000", ":8000", "example.com:80", "127.0.0.1", "127.0.0.1:70000", "1.1.1.1:1,"] {
            assert!(error(parse(text)).contains("such as 127.0.0.1:8000"), "{text:?}");
        }
        assert!(error(parse("unix:fanline.sock")).contains("must be absolute"));
        for text in ["systemd:", "systemd-admin"] {
            assert!(error(parse(text)).starts_with("must be systemd or systemd:NAME"), "{text}");
        }
        for text in ["1.1.1.1:1,1.1.1.1:1", "unix:@a,unix:@a", "systemd,systemd"] {
            assert!(error(parse(text)).ends_with("twice"), "{text}");
        }
    }

    #[test]
    fn mode_is_octal() {
        let kind = mode();
        assert_eq!((kind.parse)("0660").unwrap(), 0o660);
        assert_eq!((kind.parse)("7").unwrap(), 0o7);
        assert_eq!((kind.write)(&0o660), Some("0660".into()));
        for text in ["", "888", "01000", "rw-rw----", "-1", "+660"] {
            assert!(error((kind.parse)(text)).contains("such as 0660"), "{text:?}");
        }
    }

    #[test]
    fn account_is_a_name_or_a_number() {
        assert_eq!((user().parse)("root").unwrap().id, 0);
        assert_eq!((group().parse)("4711").unwrap().id, 4711);
        assert!(error((user().parse)("no such user")).contains("name or number of a user"));
    }
}
