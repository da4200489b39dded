//! Subscription filters: topics by name, patterns, or no filter for everything.
//!
//! An event belongs to the filter that names its topic. Without such a filter it belongs to each pattern that matches. This
//! decides which filters a gap has to name.

/// Whether `pattern` matches `topic`: `*` is one segment, a final `**` is one or more.
fn matches(pattern: &str, topic: &str) -> bool {
    let (pattern, topic) = (segments(pattern), segments(topic));
    for (index, part) in pattern.iter().enumerate() {
        match (part.1, topic.get(index)) {
            (_, None) => return false,
            ("**", Some(found)) => return found.0 == part.0,
            ("*", Some(found)) if found.0 == part.0 && !found.1.is_empty() => {}
            (_, Some(found)) if found == part => {}
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

/// Whether an event of `topic` belongs to a filter in `named`, a subset of `all` filters of a subscription.
pub fn belongs_to(topic: &str, named: &[String], all: &[String]) -> bool {
    if all.iter().any(|filter| filter == topic) {
        return named.iter().any(|filter| filter == topic);
    }
    named.iter().any(|filter| matches(filter, topic))
}

/// Whether a subscription to `filters` receives events of `topic`. An empty list matches everything.
pub fn matches_any(filters: &[String], topic: &str) -> bool {
    filters.is_empty() || filters.iter().any(|filter| filter == topic || matches(filter, topic))
}

#[test]
fn pattern_matches_whole_segments() {
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
fn topic_with_exact_filter_does_not_belong_to_pattern() {
    let all = ["a:1".to_owned(), "a:*".to_owned()];
    assert!(
        !belongs_to("a:1", &all[1..], &all) && belongs_to("a:1", &all[..1], &all) && belongs_to("a:2", &all[1..], &all)
    );
}
