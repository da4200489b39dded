//! `GET /stream`: subscribes, and replies with a stream.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::body::Body;
use hyper::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, VARY};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode, Version};

use super::admit::{Source, auth_request};
use super::body::RequestBody;
use super::problem::Problem;
use super::query::StreamQuery;
use super::{Routes, accept};
use crate::auth::{Action, Grant};
use crate::backbone::State;
use crate::conn::reply::StreamReply;
use crate::conn::{Shard, StreamRequest};
use crate::hub::relay::NotCaughtUp;
use crate::hub::{Feed, Hub, Mode, Opening, Start, Subscription, SubscriptionFilter, TooManyTopics};
use crate::limit::ConnectionPermit;
use crate::peer::PeerAddress;
use crate::presence::{Account, ClientIds, Identity, Labels, Member, Members, Protocol, Transport};
use crate::topic::TopicFilter;

pub(super) const EVENT_STREAM: &str = "text/event-stream";

pub(super) async fn subscribe(
    routes: &Routes,
    head: &Parts,
    body: Option<&RequestBody>,
    source: Source<'_>,
) -> Result<StreamReply, Problem> {
    check(routes, head, body)?;
    let mut query = StreamQuery::parse(head.uri.query().unwrap_or(""), &head.headers, &routes.options)?;
    let (request, permit) = open::<Subscription>(routes, head, source, &mut query).await?;
    let (version, mut head) = (head.version, response(()).into_parts().0);
    announce_coding(&mut head.headers, query.is_compressed);
    Ok(StreamReply { head, version, request, format: query.format, is_compressed: query.is_compressed, permit })
}

/// What a client reads events from.
pub(super) trait Opens: Sized {
    const TRANSPORT: Transport;

    /// Whether its events can be compressed together with those of other clients.
    fn is_compressible(&self, _has_interval: bool) -> bool {
        false
    }

    /// Opens it at `start`, for at most this many topics without events.
    fn open(
        shard: &Shard,
        filters: &[TopicFilter],
        mode: Mode,
        start: Start,
        max_silent: usize,
    ) -> Result<(Self, Opening), TooManyTopics>;
}

impl Opens for Subscription {
    const TRANSPORT: Transport = Transport::Sse;

    fn is_compressible(&self, has_interval: bool) -> bool {
        self.is_compressible(has_interval)
    }

    fn open(
        shard: &Shard,
        filters: &[TopicFilter],
        mode: Mode,
        start: Start,
        max_silent: usize,
    ) -> Result<(Self, Opening), TooManyTopics> {
        let filter = SubscriptionFilter::of(filters.iter().cloned());
        shard.hub.subscribe_in(&shard.group, filter, mode, start, max_silent)
    }
}

impl Opens for Feed {
    const TRANSPORT: Transport = Transport::WebSocket;

    fn open(
        shard: &Shard,
        filters: &[TopicFilter],
        mode: Mode,
        start: Start,
        max_silent: usize,
    ) -> Result<(Self, Opening), TooManyTopics> {
        Self::open(&shard.hub, &shard.group, filters, mode, start, max_silent)
    }
}

/// Admits a client, and registers it. Returns the permit of its connection as well, unless the connection has it.
pub(super) async fn open<S: Opens>(
    routes: &Routes,
    head: &Parts,
    source: Source<'_>,
    query: &mut StreamQuery,
) -> Result<(StreamRequest<S>, Option<ConnectionPermit>), Problem> {
    let (shard, version, transport) = (&routes.shard, head.version, S::TRANSPORT);
    let action = if query.is_bare(transport) { Action::Connect } else { Action::Subscribe(&query.filters) };
    let permit = routes.admit(&auth_request(head, source, action)).await?;
    query.add_user_topic(&permit.grant, transport);
    // The wait comes first: permits must not be held meanwhile.
    let start = resolve(&shard.hub, query.mode, query.start, routes.options.resume_wait).await?;
    // Over HTTP/1 a direct connection has the permit of its only stream.
    let connection_permit = match version {
        Version::HTTP_2 => Some(routes.limiter.connect_stream(source.client)?),
        _ if source.is_forwarded() => Some(routes.limiter.connect_forwarded(source.client)?),
        _ => None,
    };
    let filter = query.filter(transport);
    let firehose = if filter.reads_firehose() { routes.limiter.admit_firehose()? } else { None };
    let takes_heartbeats = query.takes_heartbeats(&filter, transport);
    let (subscription, opening) = S::open(shard, &query.filters, query.mode, start, routes.limiter.max_silent_topics())
        .map_err(|_| routes.limiter.refuse_silent_topics())?;
    query.is_compressed &= subscription.is_compressible(query.interval.is_some());
    let identity =
        identify(&routes.ids, routes.members.as_ref(), &permit.grant, query, source.client, version, transport);
    let registration = shard.clients.register(identity);
    registration.client.set_topics(&query.filters, routes.members.as_ref());
    registration.client.control.set_mode(query.mode);
    // From here on, a change of the access rules applies to the registered client.
    if !query.is_bare(transport) {
        permit.check_subscription(&query.filters)?;
    }
    let heartbeat = query.heartbeat_or(shard.options.heartbeat);
    let (source, on_lag) = (subscription, query.on_lag);
    let (interval, retry) = (query.interval, shard.options.retry);
    let request =
        StreamRequest { source, opening, registration, on_lag, heartbeat, interval, retry, takes_heartbeats, firehose };
    Ok((request, connection_permit))
}

/// Turns `start` into one that the hub can serve. All latest values need no history.
pub(super) async fn resolve(hub: &Hub, mode: Mode, start: Start, wait: Duration) -> Result<Start, NotCaughtUp> {
    match (mode, start) {
        (Mode::Latest, Start::Earliest) => Ok(start),
        _ => hub.resolve(start, wait).await,
    }
}

/// The identity of a new client, which is logged. Over WebSocket its topics change, and are set later.
pub(super) fn identify(
    ids: &ClientIds,
    members: Option<&Arc<Members>>,
    grant: &Grant,
    query: &StreamQuery,
    remote: PeerAddress,
    version: Version,
    transport: Transport,
) -> Identity {
    let (id, name) = (ids.next(), query.name.as_deref());
    let changes = transport == Transport::WebSocket;
    let filters = if changes { &[][..] } else { &query.filters };
    let own_tags = query.tags.iter().filter(|tag| !grant.tags.contains(tag));
    let tags = grant.tags.iter().chain(own_tags);
    let member = Member { id, name, user: grant.user.as_deref() };
    let memberships = members.and_then(|members| members.join(filters, &member));
    let labels = Labels::new(name, tags, filters.iter().map(TopicFilter::as_str));
    tracing::debug!(
        client = %id, name, %remote, tags = ?labels.tags().collect::<Vec<_>>(),
        topics = ?query.filters.iter().map(TopicFilter::as_str).collect::<Vec<_>>(),
        "client connects"
    );
    Identity {
        id,
        labels,
        remote: remote.into(),
        protocol: protocol_of(version),
        transport,
        is_compressed: query.is_compressed,
        account: Account::new(grant, memberships, changes),
        connected_at: unix_milliseconds(),
    }
}

/// Checks what needs neither the query nor the access rules.
fn check(routes: &Routes, head: &Parts, body: Option<&RequestBody>) -> Result<(), Problem> {
    check_accept(&head.headers)?;
    check_body(body)?;
    check_backbone(routes)
}

/// Checks that the client accepts event streams.
pub(super) fn check_accept(headers: &HeaderMap) -> Result<(), Problem> {
    if accept::preferred(headers, &[EVENT_STREAM]).is_some() {
        return Ok(());
    }
    let detail = format!("this endpoint returns {EVENT_STREAM}, which the Accept header excludes");
    Err(Problem::new(StatusCode::NOT_ACCEPTABLE, detail))
}

/// Checks that the request has no body. `None` is the body of an application's request, which the application has.
pub(super) fn check_body(body: Option<&RequestBody>) -> Result<(), Problem> {
    if body.is_none_or(RequestBody::is_end_stream) {
        return Ok(());
    }
    Err(Problem::bad_request("a subscription cannot have a body; use the query parameters"))
}

/// Checks that the positions of the backbone are known.
pub(super) fn check_backbone(routes: &Routes) -> Result<(), Problem> {
    if routes.backbone.as_ref().is_some_and(|backbone| backbone.status().state() == State::Connecting) {
        return Err(Problem::unavailable("the server has not connected to its backbone yet"));
    }
    Ok(())
}

/// Says whether a stream is compressed, which depends on the request.
fn announce_coding(headers: &mut HeaderMap, is_compressed: bool) {
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if is_compressed {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
}

/// A response with `body` as its stream.
pub(super) fn response<B>(body: B) -> Response<B> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    // Disables the response buffering of nginx.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

fn protocol_of(version: Version) -> Protocol {
    match version {
        Version::HTTP_2 => Protocol::Http2,
        Version::HTTP_11 => Protocol::Http11,
        _ => Protocol::Http10,
    }
}

fn unix_milliseconds() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}
