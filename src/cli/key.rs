//! `fanline key`: makes an API key.

use std::io::{self, Write};

use fanline::auth::{KeyDigest, Patterns, random_key};

/// What the key is for.
#[derive(clap::Args, Clone, Debug)]
pub struct KeyArgs {
    /// Whose it is: a name for `/clients` and for you
    pub name: String,

    /// Topics and patterns that it may publish to, separated by commas; repeatable
    #[arg(long, value_name = "PATTERNS")]
    pub publish: Vec<Patterns>,

    /// Topics and patterns that it may subscribe to, separated by commas; repeatable
    #[arg(long, value_name = "PATTERNS")]
    pub subscribe: Vec<Patterns>,

    /// It may see and do what is for operators, and read metrics
    #[arg(long)]
    pub admin: bool,
}

/// Prints the table of a new key, and the key on standard error: what is appended to a file does not hold it.
///
/// # Errors
/// When there is no randomness, or nobody to print to.
pub fn run(args: &KeyArgs) -> io::Result<()> {
    if !args.admin && args.publish.is_empty() && args.subscribe.is_empty() {
        return Err(io::Error::other("the key may do nothing: add --publish, --subscribe or --admin"));
    }
    if args.name.trim().is_empty() || args.name.chars().any(char::is_control) {
        return Err(io::Error::other("the name must be a text of one line"));
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
