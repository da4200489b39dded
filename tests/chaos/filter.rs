//! What a client subscribes to: topics by name, patterns, or everything.
//!
//! An event belongs to the filter that names its topic, if there is one, and else to each pattern that matches. This
//! decides which filters a gap has to name.

/// Whether `pattern` matches `topic`: `*` is one segment, `**` at the end is one or more.
fn matches(pattern: &str, topic: &str) -> bool {
    let (pattern, topic) = (segments(pattern), segments(topic));
    for (place, part) in pattern.iter().enumerate() {
        match (part.1, topic.get(place)) {
            (_, None) => return false,
            ("**", Some(there)) => return there.0 == part.0,
            ("*", Some(there)) if there.0 == part.0 && !there.1.is_empty() => {}
            (_, Some(there)) if there == part => {}
            _ => return false,
        }
    }
    pattern.len() == topic.len()
}

/// The segments of a name, each with the separator before it.
fn segments(name: &str) -> Vec<(Option<char>, &str)> {
    let mut segments = Vec::new();
    let (mut begin, mut before) = (0, None);
    for (at, c) in name.char_indices().filter(|(_, c)| [':', '.', '/'].contains(c)) {
        segments.push((before, &name[begin..at]));
        (begin, before) = (at + c.len_utf8(), Some(c));
    }
    segments.push((before, &name[begin..]));
    segments
}

/// Whether an event of `topic` belongs to one of `named`, which are some of `all` the filters of a subscription.
pub fn belongs(topic: &str, named: &[String], all: &[String]) -> bool {
    if all.iter().any(|filter| filter == topic) {
        return named.iter().any(|filter| filter == topic);
    }
    named.iter().any(|filter| matches(filter, topic))
}

/// Whether a subscription to `filters` gets events of `topic`. No filter is everything.
pub fn takes(filters: &[String], topic: &str) -> bool {
    filters.is_empty() || filters.iter().any(|filter| filter == topic || matches(filter, topic))
}

#[test]
fn a_pattern_matches_segments() {
    for (pattern, topic, expected) in [
        ("a:*", "a:1", true),
        ("a:*", "a", false),
        ("a:*", "a.1", false),
        ("a:*", "a:1:2", false),
        ("a.**", "a.1:2", true),
        ("a.**", "a", false),
        ("**", "a", true),
        ("*:1", "a:1", true),
    ] {
        assert_eq!(matches(pattern, topic), expected, "{pattern} {topic}");
    }
}

#[test]
fn a_named_topic_does_not_belong_to_a_pattern() {
    let all = ["a:1".to_owned(), "a:*".to_owned()];
    assert!(!belongs("a:1", &all[1..], &all) && belongs("a:1", &all[..1], &all) && belongs("a:2", &all[1..], &all));
}
