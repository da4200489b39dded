//! Runs the fuzz targets on the inputs of `tests/fuzz/corpus`, and on inputs a few edits away from these.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{TestError, TestRunner};

use super::{TARGETS, run};

/// The text that an edit inserts: characters and words with a meaning in one of the formats.
const WORDS: &[&str] = &[
    "\n",
    "\r",
    "\0",
    "\u{1b}",
    "\u{7f}",
    "\u{85}",
    "\u{2028}",
    "\u{feff}",
    "\u{fffd}",
    "\u{1e}",
    "\u{1f}",
    "*",
    "**",
    ":",
    ".",
    "/",
    ",",
    "-",
    "+",
    "&",
    "=",
    ";",
    "%",
    "%0a",
    "%ff",
    "\"",
    "\\",
    "\\ud800",
    "\\u0000",
    "{",
    "}",
    "[",
    "]",
    "null",
    "1e400",
    "18446744073709551616",
    "00",
    "{sub}",
    "$1\r\n",
    "*1\r\n",
    "data: ",
    "id: ",
    "Bearer ",
    "none",
];

/// A change of an input. Positions are fractions of the input's length, in 65,536ths.
#[derive(Clone, Debug)]
enum Edit {
    Change(u16, u8),
    Insert(u16, Vec<u8>),
    Remove(u16, u8),
    /// Repeats this number of bytes this number of times.
    Repeat(u16, u8, u8),
    /// Drops the rest.
    Cut(u16),
}

impl Edit {
    fn apply(&self, data: &mut Vec<u8>) {
        let at = |place: u16, data: &[u8]| (usize::from(place) * (data.len() + 1)) >> 16;
        let end = |from: usize, length: u8, data: &[u8]| (from + usize::from(length)).min(data.len());
        match self {
            Self::Change(place, mask) => {
                let place = at(*place, data);
                data.get_mut(place).into_iter().for_each(|byte| *byte ^= mask);
            }
            Self::Insert(place, bytes) => {
                let place = at(*place, data);
                data.splice(place..place, bytes.iter().copied());
            }
            Self::Remove(place, length) => {
                let place = at(*place, data);
                data.drain(place..end(place, *length, data));
            }
            Self::Repeat(place, length, times) => {
                let place = at(*place, data);
                let again = data[place..end(place, *length, data)].repeat(usize::from(*times));
                data.splice(place..place, again);
            }
            Self::Cut(place) => data.truncate(at(*place, data)),
        }
    }
}

fn edit() -> impl Strategy<Value = Edit> {
    let place = any::<u16>;
    prop_oneof![
        3 => (place(), 1_u8..).prop_map(|(place, mask)| Edit::Change(place, mask)),
        4 => (place(), select(WORDS)).prop_map(|(place, word)| Edit::Insert(place, word.into())),
        1 => (place(), vec(any::<u8>(), 1..4)).prop_map(|(place, bytes)| Edit::Insert(place, bytes)),
        2 => (place(), 1_u8..20).prop_map(|(place, length)| Edit::Remove(place, length)),
        1 => (place(), 1_u8..20, 1_u8..).prop_map(|(place, length, times)| Edit::Repeat(place, length, times)),
        1 => place().prop_map(Edit::Cut),
    ]
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus")
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let files = fs::read_dir(directory().join(target)).unwrap_or_else(|error| panic!("inputs for {target}: {error}"));
    files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
}

/// Runs every input, and then `cases` inputs near them.
fn replay(target: &str, cases: u32) {
    let corpus = corpus(target);
    assert!(!corpus.is_empty());
    corpus.iter().for_each(|data| run(target, data));
    let inputs = (select(corpus), vec(edit(), 0..6)).prop_map(|(mut data, edits)| {
        edits.iter().for_each(|edit| edit.apply(&mut data));
        data
    });
    let config = ProptestConfig { failure_persistence: None, cases, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&inputs, |data| {
        run(target, &data);
        Ok(())
    });
    if let Err(TestError::Fail(reason, data)) = outcome {
        panic!("{target} of {:?}: {reason}", data.escape_ascii().to_string());
    }
}

macro_rules! replays {
    ($($(#[$attribute:meta])* $name:ident, $target:literal, $cases:literal;)*) => {
        $($(#[$attribute])* #[test]
        fn $name() {
            replay($target, $cases);
        })*

        #[test]
        fn every_target_is_replayed_and_has_a_corpus() {
            let names: BTreeSet<_> = TARGETS.iter().map(|(name, _)| name.to_string()).collect();
            let tried: BTreeSet<_> = [$($(#[$attribute])* $target),*].map(String::from).into();
            assert_eq!(tried, names);
            if cfg!(all(feature = "auth", feature = "redis")) {
                let entries = |path: PathBuf| {
                    let entries = fs::read_dir(path).unwrap();
                    let name = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
                    entries.map(|entry| name(entry.unwrap().path())).collect::<BTreeSet<_>>()
                };
                assert_eq!(entries(directory()), names);
            }
        }
    };
}

replays! {
    filters_match_like_the_reference_on_any_text, "topic", 2000;
    position_has_one_spelling, "position", 2000;
    publication_is_rejected_or_published_as_written, "publication", 2000;
    line_splitter_agrees_with_a_simple_one, "lines", 1000;
    encoded_event_is_parsed_back_unchanged, "sse", 1000;
    messages_do_not_depend_on_cuts, "websocket", 2000;
    parsed_query_is_within_its_limits, "query", 2000;
    saved_history_is_invalid_or_read_completely, "history", 200;
    #[cfg(feature = "redis")]
    stream_entry_is_a_valid_event_or_none, "entry", 2000;
    #[cfg(feature = "auth")]
    modified_token_is_rejected, "token", 300;
    #[cfg(feature = "auth")]
    key_text_is_a_usable_key_or_an_error, "keys", 300;
    credentials_are_parsed_without_panic, "credentials", 1000;
    subject_cannot_leave_its_topic_segment, "subject", 2000;
    proxy_header_ends_where_no_shorter_one_does, "proxy_protocol", 2000;
}
