//! Presence: which users, and which clients without a user, subscribe to a topic by its name.
//!
//! **Contract.** For each topic that [`PresenceOptions::topics`] has, the topic `presence:{topic}` gets an event named `join`
//! when a member comes and one named `leave` when it goes. A member is a user with all its connections, or one client
//! without a user. It joins with its first connection, and leaves when it has had none for [`PresenceOptions::grace`]: a client
//! that reconnects in time causes no events.
//!
//! **Bounds.** A member takes one entry, whatever the number of its connections, and there are at most
//! [`PresenceOptions::max_members`]. The members beyond are not announced. An entry has at most one place in the queue of absences.
//!
//! **How.** Streams hold [`Memberships`], whose drop ends them. A server alone publishes what is [due](Members::due). With a
//! backbone, the servers share leases on their members, and the backbone decides what is a join and what is a leave.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::Notify;

use crate::auth::Patterns;
use crate::event::{Event, EventName, Payload};
use crate::hub::Hub;
use crate::metrics::Count;
use crate::sync::{Arc, Mutex, lock};
use crate::topic::{Topic, TopicFilter};

use super::ClientId;

/// The time between two looks at absences.
const INTERVAL: Duration = Duration::from_secs(1);

/// The number of events in one publication.
const BATCH: usize = 256;

/// Whose joins and leaves are published, and when.
#[derive(Clone, Debug)]
pub struct PresenceOptions {
    /// The topics whose subscribers are announced on `presence:{topic}`. Default: none.
    pub topics: Patterns,
    /// How long a member may be without a connection before it leaves. Default: 10 s.
    pub grace: Duration,
    /// The number of members of all topics on this server. Default: 100,000.
    pub max_members: usize,
}

impl Default for PresenceOptions {
    fn default() -> Self {
        Self { topics: Patterns::default(), grace: Duration::from_secs(10), max_members: 100_000 }
    }
}

/// The members of all topics on this server.
pub(crate) struct Members {
    pub(crate) options: PresenceOptions,
    table: Mutex<Table>,
    /// Notified when a member joins.
    joined: Notify,
    /// Memberships that are not announced, because there are too many.
    pub(crate) refused: Count,
}

/// A client that joins topics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    pub(crate) id: ClientId,
    pub(crate) name: Option<&'a str>,
    pub(crate) user: Option<&'a str>,
}

/// A member of one topic: the topic, and the user or the client.
pub(crate) type MemberKey = Arc<str>;

/// What is published of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announcement {
    pub(crate) key: MemberKey,
    /// `presence:{topic}`.
    pub(crate) topic: Topic,
    /// The payload of both events, as JSON.
    pub(crate) data: Arc<str>,
}

#[derive(Default)]
struct Table {
    members: HashMap<MemberKey, Entry>,
    /// Members that may have to be announced.
    joined: Vec<MemberKey>,
    /// Members that were without a connection at some time since, the first to expire first.
    absent: VecDeque<(Instant, MemberKey)>,
}

struct Entry {
    topic: Topic,
    data: Arc<str>,
    connections: u32,
    is_announced: bool,
    /// When it lost its last connection.
    absent_since: Option<Instant>,
    /// Whether it is in the queue of absences.
    is_queued: bool,
}

/// The joins and leaves that are due.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) joins: Vec<Announcement>,
    pub(crate) leaves: Vec<Announcement>,
}

impl Members {
    /// `None` if the options name no topics.
    pub(crate) fn new(options: &PresenceOptions) -> Option<Arc<Self>> {
        let new = || Self {
            options: options.clone(),
            table: Mutex::default(),
            joined: Notify::new(),
            refused: Count::default(),
        };
        (!options.topics.is_empty()).then(|| Arc::new(new()))
    }

    /// Adds `member` to the topics that `filters` name and whose members are announced. `None` if there are none.
    pub(crate) fn join(self: &Arc<Self>, filters: &[TopicFilter], member: &Member<'_>) -> Option<Memberships> {
        let mut memberships = Memberships { members: self.clone(), keys: Vec::new() };
        memberships.join(filters, member);
        (!memberships.keys.is_empty()).then_some(memberships)
    }

    /// The number of members.
    pub(crate) fn len(&self) -> usize {
        lock(&self.table).members.len()
    }

    /// Completes when a member has joined since the last call.
    pub(crate) async fn joined(&self) {
        self.joined.notified().await;
    }

    /// Returns the joins that were not announced, and the leaves whose grace is over.
    pub(crate) fn due(&self, now: Instant) -> Due {
        let mut table = lock(&self.table);
        let Table { members, joined, absent } = &mut *table;
        let mut due = Due::default();
        for key in joined.drain(..) {
            if let Some(entry) = members.get_mut(&key)
                && entry.connections > 0
                && !entry.is_announced
            {
                entry.is_announced = true;
                due.joins.push(entry.announcement(key));
            }
        }
        while let Some((since, _)) = absent.front()
            && *since + self.options.grace <= now
            && let Some((_, key)) = absent.pop_front()
        {
            let Some(entry) = members.get_mut(&key) else { continue };
            entry.is_queued = false;
            match entry.absent_since {
                None => {}
                Some(since) if since + self.options.grace > now => {
                    // It was back in between.
                    entry.is_queued = true;
                    absent.push_back((since, key));
                }
                Some(_) => {
                    if entry.is_announced {
                        due.leaves.push(entry.announcement(key.clone()));
                    }
                    members.remove(&key);
                }
            }
        }
        due
    }

    /// The members that have a connection.
    #[cfg(any(test, feature = "redis"))]
    pub(crate) fn present(&self) -> Vec<Announcement> {
        let table = lock(&self.table);
        let present = table.members.iter().filter(|(_, entry)| entry.connections > 0);
        present.map(|(key, entry)| entry.announcement(key.clone())).collect()
    }

    /// Publishes joins and leaves in `hub`, which has no backbone, until it is closed.
    pub(crate) async fn announce(&self, hub: &Hub) {
        loop {
            let Due { joins, leaves } = self.due(Instant::now());
            let joins = joins.into_iter().map(|member| member.event("join"));
            let mut events = joins.chain(leaves.into_iter().map(|member| member.event("leave"))).peekable();
            while events.peek().is_some() {
                if hub.publish_all(events.by_ref().take(BATCH).collect()).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
            tokio::select! {
                () = self.joined() => {}
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }

    fn enter(&self, key: &MemberKey, new: impl FnOnce() -> Entry) -> bool {
        let mut table = lock(&self.table);
        let Table { members, joined, .. } = &mut *table;
        let is_full = members.len() >= self.options.max_members;
        let entry = match members.entry(key.clone()) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(_) if is_full => return false,
            std::collections::hash_map::Entry::Vacant(place) => place.insert(new()),
        };
        entry.connections += 1;
        entry.absent_since = None;
        if entry.connections == 1 && !entry.is_announced {
            joined.push(key.clone());
            self.joined.notify_one();
        }
        true
    }

    fn leave(&self, key: &MemberKey) {
        let mut table = lock(&self.table);
        let Table { members, absent, .. } = &mut *table;
        let Some(entry) = members.get_mut(key) else { return };
        entry.connections -= 1;
        if entry.connections > 0 {
            return;
        }
        let now = Instant::now();
        entry.absent_since = Some(now);
        if !entry.is_queued {
            entry.is_queued = true;
            absent.push_back((now, key.clone()));
        }
    }
}

impl Entry {
    fn announcement(&self, key: MemberKey) -> Announcement {
        Announcement { key, topic: self.topic.clone(), data: self.data.clone() }
    }
}

impl Announcement {
    fn event(self, name: &str) -> Event {
        let name = EventName::new(name).expect("a valid name");
        Event::new(self.topic, Payload::json_unchecked(&*self.data)).named(name)
    }
}

/// A client's memberships, until they are dropped.
pub(crate) struct Memberships {
    members: Arc<Members>,
    keys: Vec<(Topic, MemberKey)>,
}

impl Memberships {
    /// Joins the topics that `filters` name and whose members are announced. Others, and those joined before, are ignored.
    pub(crate) fn join(&mut self, filters: &[TopicFilter], member: &Member<'_>) {
        for filter in filters {
            let TopicFilter::Exact(topic) = filter else { continue };
            let is_member = self.keys.iter().any(|(joined, _)| joined == topic);
            if is_member || !self.members.options.topics.matches(topic) {
                continue;
            }
            let Some(presence) = topic.of_presence() else { continue };
            let key: MemberKey = match member.user {
                Some(user) => format!("{topic}\nuser\n{user}"),
                None => format!("{topic}\nclient\n{}", member.id),
            }
            .into();
            let new = || Entry {
                topic: presence,
                data: member.data(topic),
                connections: 0,
                is_announced: false,
                absent_since: None,
                is_queued: false,
            };
            if self.members.enter(&key, new) {
                self.keys.push((topic.clone(), key));
            } else {
                self.members.refused.add_shared(1);
                tracing::debug!(%topic, client = %member.id, "too many members (max_presence_members)");
            }
        }
    }

    /// Leaves the topics of which `is_left` is true.
    pub(crate) fn leave(&mut self, is_left: impl Fn(&Topic) -> bool) {
        let members = &self.members;
        self.keys.retain(|(topic, key)| {
            let is_left = is_left(topic);
            if is_left {
                members.leave(key);
            }
            !is_left
        });
    }
}

impl Drop for Memberships {
    fn drop(&mut self) {
        self.leave(|_| true);
    }
}

impl Member<'_> {
    /// The payload of the events of this member.
    fn data(&self, topic: &Topic) -> Arc<str> {
        let id = self.id.to_string();
        json!({"topic": topic.as_str(), "client_id": id, "client_name": self.name, "user": self.user})
            .to_string()
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::ClientIds;

    const GRACE: Duration = Duration::from_secs(10);

    fn members(max_members: usize) -> Arc<Members> {
        let options = PresenceOptions { topics: "room:*, user:*".parse().unwrap(), grace: GRACE, max_members };
        Members::new(&options).unwrap()
    }

    /// A new connection to these topics.
    fn enter(members: &Arc<Members>, ids: &ClientIds, user: Option<&str>, topics: &[&str]) -> Option<Memberships> {
        let filters: Vec<_> = topics.iter().map(|topic| TopicFilter::new(topic).unwrap()).collect();
        members.join(&filters, &Member { id: ids.next(), name: Some("screen"), user })
    }

    fn topics(announcements: &[Announcement]) -> Vec<&str> {
        announcements.iter().map(|one| one.topic.as_str()).collect()
    }

    #[test]
    fn user_joins_with_the_first_and_leaves_after_the_last_connection() {
        let (members, ids) = (members(10), ClientIds::new());
        let one = enter(&members, &ids, Some("anna"), &["room:1", "other", "room:*", "room:1"]);
        let two = enter(&members, &ids, Some("anna"), &["room:1"]);
        let due = members.due(Instant::now());
        assert_eq!((topics(&due.joins), due.leaves.len()), (vec!["presence:room:1"], 0));
        let data: serde_json::Value = serde_json::from_str(&due.joins[0].data).unwrap();
        assert_eq!(
            (&data["topic"], &data["user"], &data["client_name"]),
            (&"room:1".into(), &"anna".into(), &"screen".into())
        );
        assert_eq!(members.due(Instant::now()), Due::default());
        drop(one);
        assert_eq!(members.due(Instant::now() + 2 * GRACE), Due::default(), "the second connection is there");
        drop(two);
        assert_eq!(members.due(Instant::now()), Due::default());
        let left = members.due(Instant::now() + GRACE);
        assert_eq!((left.leaves, left.joins.len(), members.len()), (due.joins, 0, 0));
    }

    #[test]
    fn reconnection_within_the_grace_is_no_event() {
        let (members, ids) = (members(10), ClientIds::new());
        let anna = || enter(&members, &ids, Some("anna"), &["room:1"]);
        drop(anna());
        assert_eq!(members.due(Instant::now() + GRACE / 2), Due::default(), "it came and went unannounced");
        let first = anna();
        assert_eq!(members.due(Instant::now()).joins.len(), 1);
        drop(first);
        let second = anna();
        assert_eq!(members.due(Instant::now() + 2 * GRACE), Due::default());
        drop(second);
        assert_eq!(lock(&members.table).absent.len(), 1, "one place in the queue");
        assert_eq!(members.due(Instant::now() + GRACE).leaves.len(), 1);
        assert_eq!(members.len(), 0);
    }

    #[test]
    fn clients_without_a_user_are_members_of_their_own() {
        let (members, ids) = (members(10), ClientIds::new());
        let _clients = [(); 3].map(|()| enter(&members, &ids, None, &["room:1"]));
        let joins = members.due(Instant::now()).joins;
        assert_eq!((joins.len(), members.present().len()), (3, 3));
        assert!(joins[0].data.contains("\"user\":null") && joins[0].data != joins[1].data);
    }

    #[test]
    fn left_topic_is_left_and_the_others_are_kept() {
        let (members, ids) = (members(10), ClientIds::new());
        let mut anna = enter(&members, &ids, Some("anna"), &["room:1", "room:2"]).unwrap();
        assert_eq!(members.due(Instant::now()).joins.len(), 2);
        anna.leave(|topic| topic.as_str() == "room:2");
        assert_eq!(topics(&members.due(Instant::now() + GRACE).leaves), ["presence:room:2"]);
        assert_eq!(topics(&members.present()), ["presence:room:1"]);
    }

    #[test]
    fn members_beyond_the_limit_are_counted_and_not_announced() {
        let (members, ids) = (members(2), ClientIds::new());
        let _anna = enter(&members, &ids, Some("anna"), &["room:1", "room:2", "room:3"]);
        let again = enter(&members, &ids, Some("anna"), &["room:1"]);
        assert_eq!((members.due(Instant::now()).joins.len(), members.refused.get()), (2, 1));
        assert!(again.is_some(), "it is a member already");
        assert!(enter(&members, &ids, Some("bert"), &["room:1", "other"]).is_none());
    }
}
