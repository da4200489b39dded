//! The fuzz target of topics and filters, and the naive matcher that it compares with.

use super::{SEPARATORS, Topic, TopicFilter};

/// Input: two filters and a topic, one per line.
pub(crate) fn topic(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    check(text);
    let mut lines = text.splitn(3, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let texts = [line(), line(), line()];
    texts.iter().for_each(|text| check(text));
    let [one, other, topic] = texts;
    let (one, other) = (TopicFilter::new(one), TopicFilter::new(other));
    if let Ok(topic) = Topic::new(topic) {
        for filter in [&one, &other].into_iter().flatten() {
            assert_eq!(filter.matches(&topic), naive_match(filter.as_str(), topic.as_str()), "{filter} of {topic}");
            assert_eq!(filter.covers(&TopicFilter::Exact(topic.clone())), filter.matches(&topic));
        }
        if let (Ok(one), Ok(other)) = (&one, &other) {
            assert!(!one.covers(other) || !other.matches(&topic) || one.matches(&topic), "{one}, {other}, {topic}");
        }
    }
}

fn check(text: &str) {
    let (topic, filter) = (Topic::new(text), TopicFilter::new(text));
    if let Ok(topic) = &topic {
        assert_eq!(topic.as_str(), text);
        assert_eq!(filter.as_ref(), Ok(&TopicFilter::Exact(topic.clone())));
        assert!(!text.contains('*'));
    }
    if let Ok(filter) = &filter {
        assert_eq!(filter.as_str(), text);
        assert!((1..=Topic::MAX_BYTES).contains(&text.len()));
        assert!(!text.contains(|c: char| c == ',' || c.is_control() || c.is_whitespace()));
        assert!(filter.covers(filter));
        assert_eq!(topic.is_ok(), matches!(filter, TopicFilter::Exact(_)));
    }
}

/// A token of a pattern.
#[derive(Clone, Copy)]
enum Token {
    This(char),
    /// `*`: one or more characters that are not separators.
    Segment,
    /// `**`: one or more characters.
    Rest,
}

/// Whether `topic` matches `filter`, by exhaustive search.
pub(crate) fn naive_match(filter: &str, topic: &str) -> bool {
    let is_reserved = ["user:", "presence:"].iter().any(|prefix| topic.starts_with(prefix));
    !(is_reserved && filter.starts_with('*')) && matches(&tokens(filter), &topic.chars().collect::<Vec<_>>())
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

/// Tries every length of each token.
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
