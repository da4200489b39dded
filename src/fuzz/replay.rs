//! The inputs of `tests/fuzz/corpus`, and what is a few edits away from one of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{TestError, TestRunner};

use super::{TARGETS, run};

/// What an edit puts in: characters that mean something to one of the formats.
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

/// Places are fractions of the input's length, in 65,536ths.
#[derive(Clone, Debug)]
enum Edit {
    Change(u16, u8),
    Insert(u16, Vec<u8>),
    Remove(u16, u8),
    /// So many bytes come again so many times.
    Repeat(u16, u8, u8),
    /// What is behind goes away.
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

/// Tries every input, and then `cases` near them.
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
    filters_agree_with_the_reference_on_any_texts, "topic", 2000;
    an_id_is_read_in_its_one_spelling, "position", 2000;
    a_publication_is_refused_or_means_what_it_says, "publication", 2000;
    lines_are_those_that_a_simple_reader_finds, "lines", 1000;
    an_event_is_read_back_whatever_is_in_it, "sse", 1000;
    a_query_gives_nothing_that_it_must_not_hold, "query", 2000;
    #[cfg(feature = "redis")]
    an_entry_that_anybody_wrote_is_an_event_or_none, "entry", 2000;
    #[cfg(feature = "auth")]
    a_token_that_was_touched_is_refused, "token", 300;
    #[cfg(feature = "auth")]
    a_text_is_a_usable_key_or_an_error, "keys", 300;
    credentials_are_found_or_not, "credentials", 1000;
    a_subject_stays_within_its_segment, "subject", 2000;
}
