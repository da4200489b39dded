//! `fanline token`: creates a token, as an application's login would.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanline::auth::{Claims, Patterns, Permissions, SigningKey};

use super::hidden::Hidden;
use crate::config::{Invalid, Secret, parse_span};

/// The claims of the token, and the key that signs it.
#[derive(clap::Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("signing key").required(true))]
pub struct TokenArgs {
    /// Secret that signs the token (HS256), or @ and the path of a file that holds it; the first of several is used
    #[arg(long, env = "FANLINE_JWT_SECRET", hide_env_values = true, group = "signing key", value_parser = Hidden(first))]
    pub secret: Option<Secret>,

    /// PEM file with the private key that signs the token: RSA (RS256), P-256, P-384 or Ed25519
    #[arg(long, value_name = "FILE", group = "signing key")]
    pub private_key: Option<PathBuf>,

    /// Subject of the token (claim sub), which replaces {sub} in patterns
    #[arg(long, value_name = "SUBJECT")]
    pub sub: Option<String>,

    /// Topics and patterns that it may subscribe to, separated by commas; repeatable
    #[arg(long, value_name = "PATTERNS", value_delimiter = ',')]
    pub subscribe: Vec<String>,

    /// Topics and patterns that it may publish to, separated by commas; repeatable
    #[arg(long, value_name = "PATTERNS", value_delimiter = ',')]
    pub publish: Vec<String>,

    /// Grants the operators' endpoints and metrics
    #[arg(long)]
    pub admin: bool,

    /// Time until the token expires, in seconds or with a unit
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_span)]
    pub expires_in: Duration,

    /// Audience of the token (claim aud), as in the server's setting jwt_audience
    #[arg(long, value_name = "NAME")]
    pub audience: Option<String>,

    /// Issuer of the token (claim iss), as in the server's setting jwt_issuer
    #[arg(long, value_name = "NAME")]
    pub issuer: Option<String>,
}

/// Prints the token.
///
/// # Errors
/// When an argument is invalid, with its name and the reason, or when the output is closed.
pub fn run(args: &TokenArgs) -> io::Result<()> {
    let key = signing_key(args)?;
    for (flag, patterns) in [("--subscribe", &args.subscribe), ("--publish", &args.publish)] {
        Patterns::of_subject(patterns, args.sub.as_deref()).map_err(|error| invalid(flag, error))?;
    }
    if args.subscribe.is_empty() && args.publish.is_empty() && !args.admin {
        return Err(io::Error::other("the token grants nothing: add --subscribe, --publish or --admin"));
    }
    let end = SystemTime::now() + args.expires_in;
    let claims = Claims {
        sub: args.sub.clone(),
        exp: end.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        aud: args.audience.clone().map(Into::into),
        iss: args.issuer.clone(),
        fanline: Permissions { subscribe: args.subscribe.clone(), publish: args.publish.clone(), admin: args.admin },
    };
    let token = claims.sign(&key).map_err(io::Error::other)?;
    writeln!(io::stdout(), "{token}")
}

/// Parses the first of several secrets, as the server's setting may list them: the newest.
fn first(secrets: &str) -> Result<Secret, Invalid> {
    secrets.split(',').next().unwrap_or(secrets).trim().parse()
}

fn signing_key(args: &TokenArgs) -> io::Result<SigningKey> {
    if let Some(path) = &args.private_key {
        let named = |error: &dyn Display| invalid("--private-key", format!("{}: {error}", path.display()));
        let pem = std::fs::read(path).map_err(|error| named(&error))?;
        return SigningKey::private_pem(&pem).map_err(|error| named(&error));
    }
    let secret = args.secret.as_ref().ok_or_else(|| io::Error::other("add --secret or --private-key"))?;
    let bytes = secret.read().map_err(|error| invalid("--secret", error))?;
    SigningKey::secret(&bytes).map_err(|error| invalid("--secret", error))
}

fn invalid(flag: &str, reason: impl Display) -> io::Error {
    io::Error::other(format!("{flag}: {reason}"))
}
