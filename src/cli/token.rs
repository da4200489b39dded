//! `fanline token`: makes a token, as an application's login would.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanline::auth::{Claims, Patterns, Permissions, SigningKey};

use super::hidden::Hidden;
use crate::config::Secret;

/// What the token says, and what it is signed with.
#[derive(clap::Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("signing key").required(true))]
pub struct TokenArgs {
    /// Secret that it is signed with (HS256), or @ and the path of a file that holds it; of several the first
    #[arg(long, env = "FANLINE_JWT_SECRET", hide_env_values = true, group = "signing key", value_parser = Hidden(first))]
    pub secret: Option<Secret>,

    /// PEM file with the private key that it is signed with: RSA (RS256), P-256, P-384 or Ed25519
    #[arg(long, value_name = "FILE", group = "signing key")]
    pub private_key: Option<PathBuf>,

    /// Whose it is (claim sub); {sub} in its patterns stands for this
    #[arg(long, value_name = "SUBJECT")]
    pub sub: Option<String>,

    /// Topics and patterns that it may subscribe to, separated by commas; repeatable
    #[arg(long, value_name = "PATTERNS", value_delimiter = ',')]
    pub subscribe: Vec<String>,

    /// Topics and patterns that it may publish to, separated by commas; repeatable
    #[arg(long, value_name = "PATTERNS", value_delimiter = ',')]
    pub publish: Vec<String>,

    /// It may see and do what is for operators, and read metrics
    #[arg(long)]
    pub admin: bool,

    /// How long it is good
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    pub expires_in: Duration,

    /// Whom it is for (claim aud): what the server's setting jwt_audience says
    #[arg(long, value_name = "NAME")]
    pub audience: Option<String>,

    /// Who made it (claim iss): what the server's setting jwt_issuer says
    #[arg(long, value_name = "NAME")]
    pub issuer: Option<String>,
}

/// Prints the token.
///
/// # Errors
/// A sentence that says which argument is wrong and why.
pub fn run(args: &TokenArgs) -> Result<(), String> {
    let key = signing_key(args)?;
    for (flag, patterns) in [("--subscribe", &args.subscribe), ("--publish", &args.publish)] {
        Patterns::of_subject(patterns, args.sub.as_deref()).map_err(|error| format!("{flag}: {error}"))?;
    }
    if args.subscribe.is_empty() && args.publish.is_empty() && !args.admin {
        return Err("the token allows nothing: add --subscribe, --publish or --admin".to_owned());
    }
    let end = SystemTime::now() + args.expires_in;
    let claims = Claims {
        sub: args.sub.clone(),
        exp: end.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as f64,
        aud: args.audience.clone().map(Into::into),
        iss: args.issuer.clone(),
        fanline: Permissions { subscribe: args.subscribe.clone(), publish: args.publish.clone(), admin: args.admin },
    };
    let token = claims.sign(&key)?;
    writeln!(io::stdout(), "{token}").map_err(|error| format!("standard output: {error}"))
}

/// The server's setting may list several, of which the first is the newest.
fn first(secrets: &str) -> Result<Secret, String> {
    secrets.split(',').next().unwrap_or(secrets).trim().parse()
}

fn signing_key(args: &TokenArgs) -> Result<SigningKey, String> {
    if let Some(path) = &args.private_key {
        let named = |error: &dyn std::fmt::Display| format!("--private-key: {}: {error}", path.display());
        let pem = std::fs::read(path).map_err(|error| named(&error))?;
        return SigningKey::private_pem(&pem).map_err(|error| named(&error));
    }
    let secret = args.secret.as_ref().ok_or("--secret or --private-key is needed")?;
    let bytes = secret.read().map_err(|error| format!("--secret: {error}"))?;
    SigningKey::secret(&bytes).map_err(|error| format!("--secret: {error}"))
}
