//! Fuzz targets. A target parses arbitrary bytes as external input, and panics if an invariant is violated. The module
//! exists only in tests and with `--cfg fuzzing`, and is not part of the API.
//!
//! The targets run in two ways. `cargo test` runs them on the inputs of `tests/fuzz/corpus` and on inputs a few edits away from
//! these. `scripts/fuzz` runs them under libFuzzer, which starts with the same inputs and searches for inputs that reach
//! new code. Each finding becomes a file of the corpus, and remains a test.

/// Runs one input.
pub type Target = fn(&[u8]);

/// The targets by name. Each has a directory of inputs in `tests/fuzz/corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("topic", crate::topic::fuzz::topic),
    ("position", position),
    ("publication", crate::wire::fuzz::publication),
    ("lines", crate::wire::fuzz::lines),
    ("sse", crate::wire::fuzz::sse),
    ("websocket", crate::wire::websocket::reader::fuzz),
    ("query", crate::http::fuzz::query),
    ("history", crate::hub::fuzz::history),
    #[cfg(feature = "redis")]
    ("entry", crate::backbone::fuzz::entry),
    #[cfg(feature = "auth")]
    ("token", crate::auth::fuzz::token),
    #[cfg(feature = "auth")]
    ("keys", crate::auth::fuzz::keys),
    ("credentials", crate::auth::fuzz::credentials),
    ("subject", crate::auth::fuzz::subject),
    ("proxy_protocol", crate::conn::proxy_protocol::fuzz),
];

/// Runs the target `name`.
///
/// # Panics
/// If there is no such target, or the input violates an invariant.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target of this name");
    target(data);
}

/// A position has exactly one spelling.
fn position(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(position) = text.parse::<crate::position::StreamPosition>() {
        assert_eq!(position.to_string(), text);
    }
}

#[cfg(test)]
mod replay;
