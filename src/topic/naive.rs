//! The matcher of patterns against one that tries everything.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// What a pattern is made of, character by character.
#[derive(Clone, Copy)]
enum Token {
    This(char),
    /// `*`: some characters, none of them a separator.
    Segment,
    /// `**`: some characters.
    Rest,
}

fn tokens(pattern: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for c in pattern.chars() {
        match (c, tokens.last()) {
            ('*', Some(Token::Segment)) => *tokens.last_mut().unwrap() = Token::Rest,
            ('*', _) => tokens.push(Token::Segment),
            (c, _) => tokens.push(Token::This(c)),
        }
    }
    tokens
}

/// Tries every length that a token may have.
fn matches(pattern: &[Token], topic: &[char]) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return topic.is_empty() };
    match first {
        Token::This(c) => topic.first() == Some(c) && matches(rest, &topic[1..]),
        Token::Rest => (1..=topic.len()).any(|length| matches(rest, &topic[length..])),
        Token::Segment => (1..=topic.len())
            .take_while(|&length| !SEPARATORS.contains(&topic[length - 1]))
            .any(|length| matches(rest, &topic[length..])),
    }
}

/// Texts of few different segments and separators, so that many match.
fn text(segments: &'static [&'static str]) -> impl Strategy<Value = String> {
    let more = vec((select(&[":", ".", "/"][..]), select(segments)), 0..5);
    (select(segments), more).prop_map(|(first, more)| {
        more.into_iter().fold(first.to_owned(), |text, (separator, segment)| text + separator + segment)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn a_filter_takes_the_topics_that_trying_everything_finds(
        filter in text(&["a", "ü", "ab", "", "*", "*", "*", "**"])
            .prop_filter_map("a filter", |text| TopicFilter::new(&text).ok()),
        topic in text(&["a", "ü", "ab", "a", "ü", "ab", ""]).prop_filter_map("a topic", |text| Topic::new(&text).ok()),
    ) {
        let characters: Vec<_> = topic.as_str().chars().collect();
        prop_assert_eq!(filter.matches(&topic), matches(&tokens(filter.as_str()), &characters));
    }
}

#[test]
fn trying_everything_finds_matches_and_others() {
    let naive = |filter: &str, topic: &str| matches(&tokens(filter), &topic.chars().collect::<Vec<_>>());
    assert!(naive("a:*.**", "a:b.c/d") && naive("*", "ab") && naive("a", "a"));
    assert!(!naive("a:*", "a:") && !naive("a:*", "a:b:c") && !naive("**", "") && !naive("a", "ab"));
}
