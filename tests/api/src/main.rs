//! Prints the public API that a file of rustdoc's JSON describes, one item a line.
//!
//! Left out: implementations of traits for all types, and of traits such as `Unpin` that the compiler adds, except `Send` and
//! `Sync`.

use std::error::Error;
use std::io::{self, Write};

/// The traits that the compiler adds, without `Send` and `Sync`.
const AUTO_TRAITS: [&str; 6] = [
    "marker::Freeze",
    "marker::StructuralPartialEq",
    "marker::Unpin",
    "marker::UnsafeUnpin",
    "panic::unwind_safe::RefUnwindSafe",
    "panic::unwind_safe::UnwindSafe",
];

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: fanline-api FILE")?;
    let api = public_api::Builder::from_rustdoc_json(path).omit_blanket_impls(true).build()?;
    let is_left_out = |item: &str| AUTO_TRAITS.iter().any(|name| item.contains(&format!("core::{name} for ")));
    let items: Vec<_> = api.items().map(|item| format!("{item}\n")).filter(|item| !is_left_out(item)).collect();
    io::stdout().write_all(items.concat().as_bytes())?;
    Ok(())
}
