//! `fanline key`: creates an API key.

use std::io::{self, Write};

use fanline::auth::{KeyDigest, Patterns, random_key};

/// The owner and the grant of the key.
#[derive(clap::Args, Clone, Debug)]
pub struct KeyArgs {
    /// Name of the key, as shown by `GET /clients`
    pub name: String,

    /// Topics and patterns that it may publish to, separated by commas; repeatable
    #[arg(long, value_name = "PATTERNS")]
    pub publish: Vec<Patterns>,

    /// Topics and patterns that it may subscribe to, separated by commas; repeatable
    #[arg(long, value_name = "PATTERNS")]
    pub subscribe: Vec<Patterns>,

    /// Grants the operators' endpoints and metrics
    #[arg(long)]
    pub admin: bool,
}

/// Prints the table of a new key, and the key itself on standard error: output appended to a file does not contain it.
///
/// # Errors
/// When an argument is invalid, when the system has no randomness, or when the output is closed.
pub fn run(args: &KeyArgs) -> io::Result<()> {
    if !args.admin && args.publish.is_empty() && args.subscribe.is_empty() {
        return Err(io::Error::other("the key grants nothing: add --publish, --subscribe or --admin"));
    }
    if args.name.trim().is_empty() || args.name.chars().any(char::is_control) {
        return Err(io::Error::other("the name must be one line of text"));
    }
    let key = random_key()?;
    let patterns = |lists: &[Patterns]| {
        let texts = lists.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        texts.split(',').map(str::to_owned).collect::<Vec<_>>()
    };
    let mut table = toml::Table::new();
    table.insert("name".into(), args.name.clone().into());
    table.insert("hash".into(), KeyDigest::of(&key).to_string().into());
    for (member, lists) in [("publish", &args.publish), ("subscribe", &args.subscribe)] {
        if !lists.is_empty() {
            table.insert(member.into(), patterns(lists).into());
        }
    }
    if args.admin {
        table.insert("admin".into(), true.into());
    }
    write!(io::stdout(), "\n[[keys]]\n{table}")?;
    writeln!(io::stderr(), "{key}")
}
