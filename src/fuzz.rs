//! What fuzzers call. A target takes any bytes as something that came from outside, and panics where a promise is broken:
//! it is no API, and only there in tests and with `--cfg fuzzing`.
//!
//! The same targets run in two ways. `cargo test` feeds them the inputs of `tests/fuzz/corpus`, and what is a few edits away from
//! one of those. `scripts/fuzz` has libFuzzer look for inputs that reach new code, beginning with the same ones. A finding
//! becomes a file there, so that it is tried for ever.

/// Takes an input.
pub type Target = fn(&[u8]);

/// The targets by their names, which are those of the directories of `tests/fuzz/corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("topic", crate::topic::fuzz::topic),
    ("position", position),
    ("publication", crate::wire::fuzz::publication),
    ("lines", crate::wire::fuzz::lines),
    ("sse", crate::wire::fuzz::sse),
    ("query", crate::http::fuzz::query),
    #[cfg(feature = "redis")]
    ("entry", crate::backbone::fuzz::entry),
    #[cfg(feature = "auth")]
    ("token", crate::auth::fuzz::token),
    #[cfg(feature = "auth")]
    ("keys", crate::auth::fuzz::keys),
    ("credentials", crate::auth::fuzz::credentials),
    ("subject", crate::auth::fuzz::subject),
];

/// Runs the target that is called `name`.
///
/// # Panics
/// When there is none, or a promise is broken.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target of this name");
    target(data);
}

/// An id has one spelling, and is read in no other.
fn position(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(position) = text.parse::<crate::position::StreamPosition>() {
        assert_eq!(position.to_string(), text);
    }
}

#[cfg(test)]
mod replay;
