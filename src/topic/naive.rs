//! A matcher of patterns that tries everything.

use super::SEPARATORS;

/// What a pattern is made of, character by character.
#[derive(Clone, Copy)]
enum Token {
    This(char),
    /// `*`: some characters, none of them a separator.
    Segment,
    /// `**`: some characters.
    Rest,
}

/// Whether `filter`, the text of one, takes `topic`.
pub(crate) fn takes(filter: &str, topic: &str) -> bool {
    matches(&tokens(filter), &topic.chars().collect::<Vec<_>>())
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
