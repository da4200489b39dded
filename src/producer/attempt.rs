//! What the producers share about publications that fail. A closed hub ends a producer, and an outage of the backbone
//! does not.

use fanline::Hub;
use fanline::event::Event;
use fanline::hub::{Outcome, PublishError};

/// What became of events that a producer published once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// They were published.
    Published,
    /// They were published, and a failover may lose them.
    NotReplicated(PublishError),
    /// They were not published: trying again duplicates nothing.
    NotPublished(PublishError),
    /// They may have been published, or may be yet.
    Unknown(PublishError),
    /// They were not published, and nothing will be: the server shuts down.
    Closed,
}

impl Attempt {
    /// Publishes `events` once.
    pub async fn publish(hub: &Hub, events: Vec<Event>) -> Self {
        match hub.publish_all(events).await {
            Ok(_) => Self::Published,
            Err(PublishError::Closed) => Self::Closed,
            Err(error) => match error.outcome() {
                Outcome::Published(_) => Self::NotReplicated(error),
                Outcome::NotPublished => Self::NotPublished(error),
                Outcome::Unknown => Self::Unknown(error),
            },
        }
    }
}

/// Whether something fails at present, so that it is logged once and not at each attempt.
#[derive(Debug, Default)]
pub struct Outage(bool);

impl Outage {
    /// Notes a failure; true for the first of an outage.
    pub fn begins(&mut self) -> bool {
        !std::mem::replace(&mut self.0, true)
    }

    /// Notes a success; true for the first after an outage.
    pub fn ends(&mut self) -> bool {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_begins_and_ends_once() {
        let mut outage = Outage::default();
        assert!(!outage.ends());
        assert_eq!([outage.begins(), outage.begins()], [true, false]);
        assert_eq!([outage.ends(), outage.ends()], [true, false]);
        assert!(outage.begins());
    }

    #[tokio::test]
    async fn a_closed_hub_is_not_an_outage() {
        let hub = Hub::default();
        assert_eq!(Attempt::publish(&hub, Vec::new()).await, Attempt::Published);
        hub.close();
        let event = Event::new("t".parse().unwrap(), fanline::event::Payload::text("x"));
        assert_eq!(Attempt::publish(&hub, vec![event]).await, Attempt::Closed);
    }
}
