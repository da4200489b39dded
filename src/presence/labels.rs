//! The name, tags and topics of a client, packed into one allocation to save memory for each client.
//!
//! Control characters separate the texts. The texts contain none: the query's parser and
//! [`TopicFilter`](crate::topic::TopicFilter) refuse them.

/// Between the name, the tags and the topics.
const PARTS: char = '\n';
/// Behind each tag and each topic.
const ENTRY: char = '\t';

/// A name, tags and topics.
pub(crate) struct Labels(Box<str>);

impl Labels {
    pub(crate) fn new<T, U>(name: Option<&str>, tags: T, topics: U) -> Self
    where
        T: IntoIterator<Item: AsRef<str>>,
        U: IntoIterator<Item: AsRef<str>>,
    {
        let mut text = String::from(name.unwrap_or(""));
        text.push(PARTS);
        add(&mut text, tags);
        text.push(PARTS);
        add(&mut text, topics);
        debug_assert_eq!(text.matches(PARTS).count(), 2, "a text contains a control character");
        if text.len() == 2 {
            // Nothing takes no memory.
            text.clear();
        }
        Self(text.into())
    }

    pub(crate) fn name(&self) -> Option<&str> {
        Some(self.part(0)).filter(|name| !name.is_empty())
    }

    pub(crate) fn tags(&self) -> impl Iterator<Item = &str> {
        self.part(1).split_terminator(ENTRY)
    }

    /// The topics as the client spelled them. None means everything.
    pub(crate) fn topics(&self) -> impl Iterator<Item = &str> {
        self.part(2).split_terminator(ENTRY)
    }

    fn part(&self, number: usize) -> &str {
        self.0.split(PARTS).nth(number).unwrap_or("")
    }
}

fn add(text: &mut String, entries: impl IntoIterator<Item: AsRef<str>>) {
    for entry in entries {
        text.push_str(entry.as_ref());
        text.push(ENTRY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_unpacked_as_given() {
        for (name, tags, topics) in [
            (Some("a name, größer"), vec!["x", "y z"], vec!["orders:*", "ü"]),
            (None, vec![], vec![]),
            (None, vec!["x"], vec![]),
            (Some("n"), vec![], vec!["a", "a"]),
        ] {
            let labels = Labels::new(name, &tags, &topics);
            assert_eq!(labels.name(), name);
            assert_eq!(labels.tags().collect::<Vec<_>>(), tags);
            assert_eq!(labels.topics().collect::<Vec<_>>(), topics);
        }
    }
}
