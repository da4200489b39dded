//! The messages of one client: changes of its topics, and publishing.
//!
//! **Contract.** Each message has one answer, and the answers come in the order of the messages. A refused message has no
//! effect. Messages pass the same access rules, limits and quotas as requests: those that hold when the message arrives, and
//! for a subscription also when it takes effect. The topic of the client's user stays subscribed.

use std::sync::Arc;

use hyper::http::request::Parts;

use super::super::Routes;
use super::super::admit::{Source, auth_request};
use super::super::problem::Problem;
use super::super::publish::publish_one;
use super::super::query::{check_filters, start_in};
use super::super::stream::resolve;
use super::message::{self, Message, Ref};
use super::reply::{self, Code, Refused};
use crate::auth::{Access, Action, AuthRequest, Grant, Refusal};
use crate::conn::websocket::{Answer, Finish, Messages, Reply};
use crate::conn::{Client, Interval};
use crate::event::Event;
use crate::hub::{Feed, Mode, Start};
use crate::limit::Permit;
use crate::peer::{Peer, PeerAddress};
use crate::topic::TopicFilter;

/// Handles the messages of one client.
pub(super) struct Router {
    routes: Arc<Routes>,
    client: Arc<Client>,
    /// The permit of a client that reads every event of the hub.
    firehose: Option<Permit>,
    /// Whether the handshake was local: without credentials, only local clients may publish.
    is_local: bool,
    /// The handshake, if a service is asked about each subscription.
    handshake: Option<Arc<Handshake>>,
    /// The rules that held before the connection was granted.
    rules: Arc<Access>,
}

/// What authorization needs of the request that opened the connection.
struct Handshake {
    parts: Parts,
    peer: Peer,
    client: PeerAddress,
}

impl Handshake {
    fn request<'a>(&'a self, action: Action<'a>) -> AuthRequest<'a> {
        let Self { parts, peer, client } = self;
        AuthRequest { client: *client, ..AuthRequest::new(action, parts, peer) }
    }
}

impl Router {
    pub(super) fn new(
        routes: Arc<Routes>,
        client: Arc<Client>,
        firehose: Option<Permit>,
        head: &Parts,
        source: Source<'_>,
        rules: Arc<Access>,
    ) -> Self {
        let current = routes.access.load();
        // A message may publish: a page of another origin must not pass for local.
        let is_local = current.is_local(&auth_request(head, source, Action::Publish));
        let handshake = current
            .asks_for_each_subscription()
            .then(|| Arc::new(Handshake { parts: head.clone(), peer: source.peer.clone(), client: source.client }));
        drop(current);
        Self { routes, client, firehose, is_local, handshake, rules }
    }

    /// The grant of the connection.
    fn grant(&self) -> Grant {
        self.client.identity.grant().cloned().unwrap_or_else(|| Grant::anonymous(self.is_local))
    }

    /// Whether this is the topic of the client's user, which does not count and stays.
    fn is_own(&self, filter: &TopicFilter) -> bool {
        let own = self.client.identity.grant().and_then(Grant::user_topic);
        own.is_some_and(|own| filter.is_exactly(&own))
    }

    fn handle(&mut self, message: Message, reference: &Ref, feed: &mut Feed) -> Result<Answer, Refused> {
        match message {
            Message::Ping => Ok(Answer::Now(reply::pong(reference))),
            Message::Publish(event) => Ok(self.publish(*event, reference)),
            Message::Subscribe { filters, start, mode, interval } => {
                self.subscribe(filters, Reading { start, mode, interval }, reference, feed)
            }
            Message::Unsubscribe { filters } => self.unsubscribe(&filters, reference, feed),
        }
    }

    fn subscribe(
        &mut self,
        filters: Vec<TopicFilter>,
        reading: Reading,
        reference: &Ref,
        feed: &Feed,
    ) -> Result<Answer, Refused> {
        let Reading { start, mode, interval } = reading;
        let mode = mode.unwrap_or(feed.mode());
        check_mode(mode, feed)?;
        let start = start.map(|start| start_in(mode, start)).transpose()?;
        let permit = self.routes.renew(&self.grant(), &self.rules).map_err(refused)?;
        let (grant, rules) = (permit.grant, permit.rules);
        let too_many = |detail| Refused::new(Code::TooManyTopics, detail);
        let mut all = feed.with(&filters);
        all.retain(|filter| !self.is_own(filter));
        check_filters(&all, &self.routes.options).map_err(too_many)?;
        if let Some(missing) = grant.first_missing(&filters) {
            return Err(refused(Refusal::Forbidden(format!("subscribing to {missing:?} is not allowed"))));
        }
        let asked = match (self.routes.access.load().asks_for_each_subscription(), &self.handshake) {
            (false, _) => None,
            (true, Some(handshake)) => Some(handshake.clone()),
            (true, None) => {
                let detail = "the access rules changed: connect again to subscribe";
                return Err(refused(Refusal::InvalidCredentials(detail.into())));
            }
        };
        if self.firehose.is_none() && filters.iter().any(TopicFilter::is_pattern) {
            self.firehose = self.routes.limiter.admit_firehose().map_err(Problem::from)?;
        }
        let (routes, client, reference) = (self.routes.clone(), self.client.clone(), reference.clone());
        let change = Change { routes, client, filters, mode, interval, grant, rules, reference };
        Ok(Answer::Later(Box::pin(async move {
            let resolved = change.resolve(asked.as_deref(), start).await;
            Box::new(move |feed: &mut Feed| match resolved {
                Ok(start) => change.apply(feed, start),
                Err(refused) => change.routes.refuse_message(&refused, &change.reference),
            }) as Finish
        })))
    }

    fn unsubscribe(&mut self, filters: &[TopicFilter], reference: &Ref, feed: &mut Feed) -> Result<Answer, Refused> {
        let removed: Vec<_> = filters.iter().filter(|filter| !self.is_own(filter)).cloned().collect();
        feed.unsubscribe(&removed)?;
        self.client.set_topics(feed.filters(), self.routes.members.as_ref());
        Ok(Answer::Now(reply::unsubscribed(filters, reference)))
    }

    fn publish(&self, event: Event, reference: &Ref) -> Answer {
        let (routes, reference, grant, rules) =
            (self.routes.clone(), reference.clone(), self.grant(), self.rules.clone());
        let address = PeerAddress::from(self.client.identity.remote);
        Answer::Later(Box::pin(async move {
            let published = match routes.renew(&grant, &rules) {
                Ok(permit) => publish_one(&routes, permit, address, event).await,
                Err(refusal) => Err(refusal.into()),
            };
            let reply = match published {
                Ok(id) => reply::published(id, &reference),
                Err(problem) => {
                    routes.shard.metrics.publish_errors.add(problem.reason());
                    routes.refuse_message(&problem.into(), &reference)
                }
            };
            Box::new(move |_: &mut Feed| reply) as Finish
        }))
    }
}

impl Messages for Router {
    fn receive(&mut self, text: &str, feed: &mut Feed) -> Answer {
        if !feed.reads_firehose() {
            // Also that of a subscription that was refused in the end.
            self.firehose = None;
        }
        let (reference, message) = message::parse(text, &self.routes.options);
        let charged = self.routes.limiter.charge_message(self.client.identity.id.number());
        let message = charged.map_err(|exceeded| Problem::from(exceeded).into()).and(message);
        let answer = message.and_then(|message| self.handle(message, &reference, feed));
        answer.unwrap_or_else(|refused| Answer::Now(self.routes.refuse_message(&refused, &reference)))
    }
}

impl Routes {
    /// Counts and logs a refused message, and returns the reply.
    fn refuse_message(&self, refused: &Refused, reference: &Ref) -> Reply {
        tracing::debug!(?refused, "message refused");
        self.shard.metrics.websocket_errors.add(refused.code().as_str());
        refused.reply(reference)
    }
}

/// How the events of added filters are read.
struct Reading {
    start: Option<Start>,
    mode: Option<Mode>,
    interval: Option<Interval>,
}

/// Checks that `feed` has this mode, or no filters.
fn check_mode(mode: Mode, feed: &Feed) -> Result<(), Refused> {
    if mode == feed.mode() || feed.filters().is_empty() {
        return Ok(());
    }
    let (own, mode) = (feed.mode().as_str(), mode.as_str());
    let detail = format!(
        "\"mode\": the topics of this connection have the mode {own}: unsubscribe from them first, or open another \
         connection with /ws?mode={mode}"
    );
    Err(Refused::new(Code::Malformed, detail))
}

/// A subscription that was allowed.
struct Change {
    routes: Arc<Routes>,
    client: Arc<Client>,
    filters: Vec<TopicFilter>,
    mode: Mode,
    interval: Option<Interval>,
    grant: Grant,
    /// The rules that allow it.
    rules: Arc<Access>,
    reference: Ref,
}

impl Change {
    /// Asks the authorization service, if there is one, and turns `start` into one that the hub can serve.
    async fn resolve(&self, asked: Option<&Handshake>, start: Option<Start>) -> Result<Option<Start>, Refused> {
        if let Some(handshake) = asked {
            let permit = self.routes.admit(&handshake.request(Action::Subscribe(&self.filters))).await?;
            let ends_earlier = |expires| self.grant.expires.is_none_or(|own| expires < own);
            if permit.grant.expires.is_some_and(ends_earlier) {
                let detail =
                    "this subscription would end before the connection does: connect with these topics instead";
                return Err(refused(Refusal::Forbidden(detail.into())));
            }
        }
        let Some(start) = start else { return Ok(None) };
        let resolved = resolve(&self.routes.shard.hub, self.mode, start, self.routes.options.resume_wait).await;
        Ok(Some(resolved.map_err(Problem::from)?))
    }

    fn apply(&self, feed: &mut Feed, start: Option<Start>) -> Reply {
        let before = feed.filters().to_vec();
        let mode = feed.mode();
        if self.mode != mode {
            feed.set_mode(self.mode);
        }
        let opening = match feed.subscribe(&self.filters, start) {
            Ok(opening) => opening,
            Err(error) => {
                if self.mode != mode {
                    feed.set_mode(mode);
                }
                return self.routes.refuse_message(&error.into(), &self.reference);
            }
        };
        self.client.set_topics(feed.filters(), self.routes.members.as_ref());
        // From here on, a change of the access rules applies to these topics.
        let current = self.routes.access.load();
        if !Arc::ptr_eq(&current, &self.rules) && !current.still_holds(&self.grant, &self.filters) {
            let added: Vec<_> = self.filters.iter().filter(|filter| !before.contains(filter)).cloned().collect();
            // Refused only while many changes wait. The connection is closed anyway: its topics are not allowed.
            let _ = feed.unsubscribe(&added);
            self.client.set_topics(feed.filters(), self.routes.members.as_ref());
            let detail = "the access rules changed, and do not allow this subscription";
            let refused = refused(Refusal::InvalidCredentials(detail.into()));
            return self.routes.refuse_message(&refused, &self.reference);
        }
        self.client.control.set_mode(self.mode);
        if let Some(interval) = self.interval {
            self.client.control.set_interval(interval);
        }
        reply::subscribed(&self.filters, opening.id, &self.reference)
    }
}

fn refused(refusal: Refusal) -> Refused {
    Problem::from(refusal).into()
}
