//! Rules by example, and the matcher against [`naive_match`].

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::fuzz::naive_match;
use super::*;

fn matches(filter: &str, topic: &str) -> bool {
    TopicFilter::new(filter).unwrap().matches(&Topic::new(topic).unwrap())
}

#[test]
fn topics_are_short_texts() {
    for text in ["metric", "comment:17", "a/b.c:d", "größe", "日本", "a::b", "%", "-"] {
        assert_eq!(Topic::new(text).unwrap().as_str(), text);
    }
    assert!(Topic::new(&"x".repeat(255)).is_ok());
}

#[test]
fn invalid_topics_are_rejected_with_the_rule() {
    assert_eq!(Topic::new(""), Err(InvalidTopic::Empty));
    assert_eq!(Topic::new(&"ü".repeat(128)), Err(InvalidTopic::TooLong(256)));
    assert_eq!(Topic::new("a*"), Err(InvalidTopic::Wildcard));
    for c in [' ', ',', '\n', '\r', '\0', '\u{7f}', '\u{85}', '\u{a0}', '\u{2028}'] {
        assert_eq!(Topic::new(&format!("a{c}b")), Err(InvalidTopic::Character(c)));
        assert_eq!(TopicFilter::new(&format!("a{c}*")), Err(InvalidTopic::Character(c)));
    }
}

#[test]
fn star_matches_exactly_one_segment() {
    assert!(matches("comment:*", "comment:17"));
    assert!(!matches("comment:*", "comment"));
    assert!(!matches("comment:*", "comment:"));
    assert!(!matches("comment:*", "comment:17:reply"));
    assert!(!matches("comment:*", "comment.17"));
    assert!(matches("*/line.*", "plant/line.2"));
    assert!(matches("*", "metric"));
    assert!(!matches("*", "metric.cpu"));
}

#[test]
fn two_stars_match_all_remaining_segments() {
    assert!(matches("metrics.**", "metrics.cpu"));
    assert!(matches("metrics.**", "metrics.cpu/0:user"));
    assert!(!matches("metrics.**", "metrics"));
    assert!(!matches("metrics.**", "metrics."));
    assert!(!matches("metrics.**", "metrics:cpu"));
    assert!(matches("**", "a.b.c"));
    assert!(matches("*.**", "a.b.c"));
    assert!(!matches("*.**", "a"));
}

#[test]
fn reserved_topics_match_only_filters_that_name_their_prefix() {
    for topic in ["user:anna", "user:anna:inbox", "user:a.b", "presence:room:1", "user:"] {
        assert!(Topic::new(topic).unwrap().is_reserved());
        for filter in ["**", "*", "*:*", "*:**", "*:anna", "*:anna:*", "*:a.b", "*:", "*:room:1"] {
            assert!(!matches(filter, topic), "{filter} {topic}");
        }
    }
    assert!(matches("user:*", "user:anna") && matches("user:**", "user:anna:inbox"));
    assert!(matches("presence:room:*", "presence:room:1") && matches("user:anna", "user:anna"));
    for topic in ["user", "user.anna", "user/anna", "users:anna", "my:user:anna", "presence.room"] {
        assert!(!Topic::new(topic).unwrap().is_reserved());
        assert!(matches("**", topic), "{topic}");
    }
}

#[test]
fn pattern_of_everything_does_not_cover_reserved_topics() {
    let covers = |one: &str, other: &str| TopicFilter::new(one).unwrap().covers(&TopicFilter::new(other).unwrap());
    for filter in ["user:anna", "user:*", "user:anna:**", "presence:**"] {
        assert!(!covers("**", filter) && !covers("*:**", filter), "{filter}");
        assert!(covers(filter, filter), "{filter}");
    }
    assert!(covers("user:**", "user:anna:*") && covers("**", "*:anna") && covers("**", "user.*"));
}

#[test]
fn parts_become_segments_and_nothing_else() {
    let topic = |parts: &[&str]| Topic::of(parts);
    assert_eq!(topic(&["comment", "17", "created"]), Topic::new("comment:17:created"));
    assert_eq!(topic(&["metric"]), Topic::new("metric"));
    let separator = |part, separator| Err(InvalidTopic::Separator { part, separator });
    assert_eq!(topic(&["comment", "1:7"]), separator(2, ':'));
    assert_eq!(topic(&["v1.2", "x"]), separator(1, '.'));
    assert_eq!(topic(&["a", "b", "c/d"]), separator(3, '/'));
    assert_eq!(topic(&["comment", ""]), Err(InvalidTopic::EmptyPart(2)));
    assert_eq!(topic(&[]), Err(InvalidTopic::Empty));
    assert_eq!(topic(&["comment", "*"]), Err(InvalidTopic::Wildcard));
    assert_eq!(topic(&["comment", "1 7"]), Err(InvalidTopic::Character(' ')));
    assert_eq!(topic(&["x", &"y".repeat(254)]), Err(InvalidTopic::TooLong(256)));
}

#[test]
fn user_topic_is_no_subtopic_of_another_user() {
    let of_user = |user: &str| Topic::of_user(user).map(|topic| topic.to_string());
    for user in ["anna", "anna@example.com", "auth0|17", "a/b", "größe"] {
        assert_eq!(of_user(user), Some(format!("user:{user}")));
    }
    for user in ["", "anna:inbox", ":", "an na", "a,b", "*", "a\n", &"x".repeat(251)] {
        assert_eq!(of_user(user), None, "{user}");
    }
}

#[test]
fn filter_without_star_matches_only_its_topic() {
    assert!(matches("a.b", "a.b"));
    assert!(!matches("a.b", "a.b.c"));
    assert!(matches!(TopicFilter::new("a.b"), Ok(TopicFilter::Exact(_))));
}

#[test]
fn star_beside_other_characters_is_rejected() {
    for text in ["a*", "a.b*", "*a.b", "***", "**.a", "a.**.b", "a.*b"] {
        assert_eq!(TopicFilter::new(text), Err(InvalidTopic::MisplacedWildcard), "{text}");
    }
}

/// Texts of few different segments and separators, so that many match each other.
fn text(segments: &'static [&'static str]) -> impl Strategy<Value = String> {
    let more = vec((select(&[":", ".", "/"][..]), select(segments)), 0..5);
    (select(segments), more).prop_map(|(first, more)| {
        more.into_iter().fold(first.to_owned(), |text, (separator, segment)| text + separator + segment)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn filter_matches_what_the_naive_matcher_matches(
        filter in text(&["a", "ü", "ab", "", "*", "*", "*", "**"])
            .prop_filter_map("a filter", |text| TopicFilter::new(&text).ok()),
        topic in text(&["a", "ü", "ab", "a", "ü", "ab", ""]).prop_filter_map("a topic", |text| Topic::new(&text).ok()),
    ) {
        prop_assert_eq!(filter.matches(&topic), naive_match(filter.as_str(), topic.as_str()));
    }

    #[test]
    fn topic_has_the_prefix_of_each_pattern_that_matches(
        pattern in text(&["a", "ü", "ab", "", "*", "*", "**"])
            .prop_filter_map("a pattern", |text| TopicFilter::new(&text).ok()),
        topic in text(&["a", "ü", "ab", "a", "ü", "ab", ""]).prop_filter_map("a topic", |text| Topic::new(&text).ok()),
    ) {
        let TopicFilter::Pattern(pattern) = pattern else { return Ok(()) };
        if naive_match(pattern.0.as_ref(), topic.as_str()) {
            let prefix = pattern.prefix();
            prop_assert!(prefix.is_empty() || topic.prefixes().any(|other| other == prefix), "{:?} {:?}", pattern, topic);
        }
    }
}

#[test]
fn prefixes_by_example() {
    let prefix = |text: &str| match TopicFilter::new(text) {
        Ok(TopicFilter::Pattern(pattern)) => pattern.prefix().to_owned(),
        other => panic!("{other:?} is not a pattern"),
    };
    let cases =
        [("a:*", "a:"), ("a:b.**", "a:b."), ("a:*.b", "a:"), ("*", ""), ("*:a", ""), ("**", ""), ("a::*", "a::")];
    for (pattern, expected) in cases {
        assert_eq!(prefix(pattern), expected);
    }
    assert_eq!(prefix("a:b:c:d:e:f:g:h:i:*"), "a:b:c:d:e:f:g:h:");
    let topic = Topic::new("a:b:c:d:e:f:g:h:i:j").unwrap();
    assert_eq!(topic.prefixes().last(), Some("a:b:c:d:e:f:g:h:"));
    assert_eq!(Topic::new("user:17/x.").unwrap().prefixes().collect::<Vec<_>>(), ["user:", "user:17/", "user:17/x."]);
}

/// Every topic of up to four of these segments. `z` stands for segments that no pattern names.
fn topics() -> &'static [Topic] {
    static TOPICS: std::sync::OnceLock<Vec<Topic>> = std::sync::OnceLock::new();
    TOPICS.get_or_init(|| {
        let (mut texts, mut last) = (Vec::new(), vec![String::new()]);
        for length in 0..4 {
            let separators: &[&str] = if length == 0 { &[""] } else { &[":", "."] };
            let longer = |text: &String| {
                let ends =
                    separators.iter().flat_map(|separator| ["a", "b", "z", ""].map(|end| format!("{separator}{end}")));
                ends.map(|end| format!("{text}{end}")).collect::<Vec<_>>()
            };
            last = last.iter().flat_map(longer).collect();
            texts.extend(last.iter().cloned());
        }
        texts.iter().filter_map(|text| Topic::new(text).ok()).collect()
    })
}

/// Filters of up to three segments: the topics above have one more.
fn short_filter() -> impl Strategy<Value = TopicFilter> {
    let segment = || select(&["a", "b", "", "*", "*", "**"][..]);
    let more = vec((select(&[":", "."][..]), segment()), 0..3);
    (segment(), more).prop_filter_map("a filter", |(first, more)| {
        let text = more.into_iter().fold(first.to_owned(), |text, (separator, segment)| text + separator + segment);
        TopicFilter::new(&text).ok()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2048, ..ProptestConfig::default() })]

    #[test]
    fn filter_covers_another_when_it_matches_all_its_topics(
        one in short_filter(),
        other in short_filter(),
    ) {
        let matches = |filter: &TopicFilter, topic: &Topic| naive_match(filter.as_str(), topic.as_str());
        let left_out = topics().iter().find(|topic| matches(&other, topic) && !matches(&one, topic));
        prop_assert_eq!(one.covers(&other), left_out.is_none(), "{:?}", left_out);
    }
}

#[test]
fn covering_by_example() {
    let covers = |one: &str, other: &str| TopicFilter::new(one).unwrap().covers(&TopicFilter::new(other).unwrap());
    for (one, other) in [("**", "**"), ("**", "a"), ("a:**", "a:*.b"), ("a:*", "a:*"), ("*.**", "*.*"), ("a", "a")] {
        assert!(covers(one, other), "{one} covers {other}");
    }
    for (one, other) in [("a:*", "a:**"), ("*", "**"), ("a", "*"), ("a.**", "a."), ("*", "a:b"), ("a:*", "**")] {
        assert!(!covers(one, other), "{one} does not cover {other}");
    }
}

#[test]
fn naive_matcher_by_example() {
    assert!(naive_match("a:*.**", "a:b.c/d") && naive_match("*", "ab") && naive_match("a", "a"));
    assert!(
        !naive_match("a:*", "a:") && !naive_match("a:*", "a:b:c") && !naive_match("**", "") && !naive_match("a", "ab")
    );
}
