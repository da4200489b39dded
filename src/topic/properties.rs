//! The matcher of patterns against one that tries everything.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::naive::takes;
use super::*;

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
        prop_assert_eq!(filter.matches(&topic), takes(filter.as_str(), topic.as_str()));
    }
}

/// Every topic of up to four of these segments. `z` stands for all that no pattern names.
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

/// Filters of up to three segments, each of which a topic above has one more of.
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
    fn a_filter_covers_another_exactly_when_no_topic_of_the_other_is_left_out(
        one in short_filter(),
        other in short_filter(),
    ) {
        let takes = |filter: &TopicFilter, topic: &Topic| takes(filter.as_str(), topic.as_str());
        let left_out = topics().iter().find(|topic| takes(&other, topic) && !takes(&one, topic));
        prop_assert_eq!(one.covers(&other), left_out.is_none(), "{:?}", left_out);
    }
}

#[test]
fn some_filters_cover_others() {
    let covers = |one: &str, other: &str| TopicFilter::new(one).unwrap().covers(&TopicFilter::new(other).unwrap());
    for (one, other) in [("**", "**"), ("**", "a"), ("a:**", "a:*.b"), ("a:*", "a:*"), ("*.**", "*.*"), ("a", "a")] {
        assert!(covers(one, other), "{one} covers {other}");
    }
    for (one, other) in [("a:*", "a:**"), ("*", "**"), ("a", "*"), ("a.**", "a."), ("*", "a:b"), ("a:*", "**")] {
        assert!(!covers(one, other), "{one} does not cover {other}");
    }
}

#[test]
fn trying_everything_finds_matches_and_others() {
    assert!(takes("a:*.**", "a:b.c/d") && takes("*", "ab") && takes("a", "a"));
    assert!(!takes("a:*", "a:") && !takes("a:*", "a:b:c") && !takes("**", "") && !takes("a", "ab"));
}
