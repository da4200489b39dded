use super::naive::takes;
use super::{Topic, TopicFilter};

/// Two filters and a topic, a line each.
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
            assert_eq!(filter.matches(&topic), takes(filter.as_str(), topic.as_str()), "{filter} of {topic}");
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
