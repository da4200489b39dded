//! A stream as an ordinary response, for an application that has its own listener.
//!
//! **Contract.** The parameters of the request, the refusals and the bytes of the body are those of `GET /stream`. The
//! application decides what its client may read. The connection, and with it the write timeout, the limit on connections, TLS and
//! the path, belong to the server that sends the response.
//!
//! **How.** [`StreamBody`] is the task of a server's stream with the body as its output. [`HubStreams`] is what the streams of one
//! hub share.

mod hub_streams;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use hub_streams::HubStreams;
pub use hub_streams::StreamStats;
use hyper::http::request::Parts;
use hyper::{Request, Response};

use super::fallback::Remote;
use super::options::Options;
use super::problem::Problem;
use super::query::StreamQuery;
use super::refusal::{self, Refusable, StreamRefusals};
use super::stream::{Opens, check_accept, identify, resolve, response};
use crate::auth::{Grant, Patterns, Refusal};
use crate::conn::{Request as ControlRequest, StreamBody, StreamOptions, StreamRequest};
use crate::hub::{Hub, Subscription};
use crate::limit::Limits;
use crate::limit::streams::too_many_silent_topics;
use crate::metrics::ConnectionGuard;
use crate::peer::PeerAddress;
use crate::presence::Transport;
use crate::topic::TopicFilter;

/// What a handler decides about a stream, and the limits that apply to it.
///
/// ```
/// use fanline::auth::Grant;
/// use fanline::http::StreamResponseOptions;
/// use fanline::topic::{Topic, TopicFilter};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // The comments of one article, whatever the request asks for.
/// let topic = Topic::new("article:17:comments")?;
/// let options = StreamResponseOptions::of([TopicFilter::Exact(topic)]);
///
/// // What the request asks for, as far as the session of a user allows it. A user also gets the events of `user:anna`.
/// let grant = Grant::new().with_user("anna").with_subscribe("news, article:**".parse()?);
/// let options = StreamResponseOptions { grant, ..StreamResponseOptions::default() };
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct StreamResponseOptions {
    /// The topics of the stream, in place of those that the request asks for. Default: empty, the request decides.
    pub topics: Vec<TopicFilter>,
    /// What the request may ask for, the user, and when the stream ends. A request for other topics is refused with 403; `topics`
    /// are not checked. Default: anonymous, everything but [reserved](crate::topic::Topic::is_reserved) topics.
    pub grant: Grant,
    /// The address of the client, for logs. Default: `None`, that of the [`Remote`] among the extensions of
    /// the request.
    pub client: Option<SocketAddr>,
    /// The time without events after which the stream gets a keep-alive, unless its client requests another one. Default: 30 s.
    pub heartbeat: Duration,
    /// The `retry` time of the client, spread by up to a fifth in both directions. Default: 5 s.
    pub retry: Duration,
    /// How long a request waits that resumes with an id that the backbone of a [relayed](Hub::relayed) hub has and this process
    /// does not have yet. Default: 2 s.
    pub resume_wait: Duration,
    /// The number of topics and patterns that a request may ask for. Default: 100.
    pub max_topics: usize,
    /// The number of patterns among them. Each event is compared with each pattern. Default: 20.
    pub max_patterns: usize,
    /// The number of wildcards in one pattern. Default: 8.
    pub max_wildcards: usize,
    /// The number of open streams of the hub. Further ones are refused with 503. Default: `None`, unlimited.
    pub max_streams: Option<usize>,
    /// The number of open streams of the hub that read everything or a pattern. Each of them costs CPU time for every event.
    /// Default: `None`, unlimited.
    pub max_firehose: Option<usize>,
    /// Topics of the hub with subscribers but without an event so far. Each of them takes about 400 bytes. Default: 500,000.
    pub max_silent_topics: Option<usize>,
    /// How a stream is refused when the reason is likely to pass. Default: in band.
    pub refusals: StreamRefusals,
}

impl Default for StreamResponseOptions {
    fn default() -> Self {
        let (http, streams, limits) = (Options::default(), StreamOptions::default(), Limits::default());
        Self {
            topics: Vec::new(),
            grant: Grant { subscribe: Patterns::everything(), ..Grant::anonymous(false) },
            client: None,
            heartbeat: streams.heartbeat,
            retry: streams.retry,
            resume_wait: http.resume_wait,
            max_topics: http.max_topics,
            max_patterns: http.max_patterns,
            max_wildcards: http.max_wildcards,
            max_streams: None,
            max_firehose: limits.max_firehose,
            max_silent_topics: limits.max_silent_topics,
            refusals: http.stream_refusals,
        }
    }
}

impl StreamResponseOptions {
    /// A stream of these topics, whatever the request asks for.
    pub fn of(topics: impl IntoIterator<Item = TopicFilter>) -> Self {
        Self { topics: topics.into_iter().collect(), ..Self::default() }
    }

    fn query_limits(&self) -> Options {
        let Self { max_topics, max_patterns, max_wildcards, .. } = *self;
        Options { max_topics, max_patterns, max_wildcards, compression: false, ..Options::default() }
    }
}

/// Returns a response whose body is a stream of the hub's events, as `GET /stream` of a [`Server`](crate::Server) has it.
///
/// The request has the same parameters: `topics`, `last_event_id` or the header `Last-Event-ID`, `history`, `on_lag`, `format`,
/// `heartbeat`, `client_name` and `tags`. Invalid ones are refused with the same `application/problem+json`, and so is what
/// `options` does not allow. Method and path are left to the caller.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use fanline::Hub;
/// use fanline::event::{Event, Payload};
/// use fanline::http::{StreamResponseOptions, stream_response};
/// use fanline::topic::Topic;
/// use http_body_util::BodyExt;
/// use hyper::Request;
///
/// let hub = Hub::default();
/// let request = Request::get("/articles/events?topics=article:17").body(())?;
/// let response = stream_response(&hub, &request, StreamResponseOptions::default()).await;
/// assert_eq!(response.headers()["content-type"], "text/event-stream");
///
/// hub.publish(Event::new(Topic::new("article:17")?, Payload::text("changed"))).await?;
/// let mut body = response.into_body();
/// let hello = body.frame().await.expect("the stream is open")?.into_data().unwrap();
/// assert!(hello.starts_with(b"retry: "));
/// let event = body.frame().await.expect("the stream is open")?.into_data().unwrap();
/// assert!(event.ends_with(b"\ndata: changed\n\n"));
/// # Ok(())
/// # }
/// ```
///
/// In an axum application:
///
/// ```ignore
/// async fn events(State(hub): State<Hub>, request: Request) -> Response<StreamBody> {
///     stream_response(&hub, &request, StreamResponseOptions::default()).await
/// }
/// ```
///
/// **Shutdown.** The body ends only when the client leaves or the hub is [closed](Hub::close), and a server that shuts down
/// gracefully waits for it: call [`drain_streams`] first.
///
/// **Slow clients.** What a client has not read stays in the hub's history and costs no memory here, besides the buffers of its
/// connection. A client that reads nothing keeps its connection: set a write timeout, or `TCP_USER_TIMEOUT`, on the listener.
///
/// **Runtime.** The streams that are created on one Tokio runtime share a task on it for their wake-ups and times. A body must not
/// outlive that runtime.
///
/// # Panics
/// The future panics outside of a Tokio runtime, and on one without time (`enable_time`).
pub fn stream_response<B>(
    hub: &Hub,
    request: &Request<B>,
    options: StreamResponseOptions,
) -> impl Future<Output = Response<StreamBody>> + Send + use<B> {
    let hub = hub.clone();
    // Copied: the body of the request need not be Sync.
    let mut head = Request::new(()).into_parts().0;
    head.method = request.method().clone();
    head.uri = request.uri().clone();
    head.version = request.version();
    head.headers = request.headers().clone();
    let remote = request.extensions().get::<Remote>().map(|remote| remote.client);
    let client = options.client.map(PeerAddress::from).or(remote);
    async move {
        match open(&hub, &head, client, &options).await {
            Ok(body) => response(body),
            Err(problem) => refuse(&hub, &head, &options, problem),
        }
    }
}

/// Ends the streams of [`stream_response`] on this hub, one after the other over `window`, so that their clients do not all
/// reconnect at once. Returns when all have ended, at the latest after `window`, or 200 ms if that is longer.
///
/// Each client gets the notice of a restart at once, and gets what is published until its stream ends. Requests for new
/// streams are refused from now on. Publishing goes on until [`Hub::close`].
///
/// ```no_run
/// # async fn serve(hub: fanline::Hub, stop: impl Future<Output = ()>) {
/// use std::time::Duration;
/// use fanline::http::drain_streams;
///
/// # let serve_until = |_| async {};
/// let shutdown = async {
///     stop.await;
///     drain_streams(&hub, Duration::from_secs(5)).await;
/// };
/// serve_until(shutdown).await; // such as axum's `serve(…).with_graceful_shutdown(shutdown)`
/// hub.close();
/// # }
/// ```
pub async fn drain_streams(hub: &Hub, window: Duration) {
    hub.companion::<HubStreams>().drain(window).await;
}

/// Returns the counts of the streams of [`stream_response`] on this hub.
pub fn stream_stats(hub: &Hub) -> StreamStats {
    hub.companion::<HubStreams>().stats()
}

/// Opens a stream, or returns why it is refused.
async fn open(
    hub: &Hub,
    head: &Parts,
    client: Option<PeerAddress>,
    options: &StreamResponseOptions,
) -> Result<StreamBody, Problem> {
    let streams = hub.companion::<HubStreams>();
    check_accept(&head.headers)?;
    let mut query = StreamQuery::parse(head.uri.query().unwrap_or(""), &head.headers, &options.query_limits())?;
    permit(&mut query, options)?;
    streams.check_open(hub)?;
    // The wait comes first: permits must not be held meanwhile.
    let start = resolve(hub, query.mode, query.start, options.resume_wait).await?;
    let permit = streams.limits.admit(options.max_streams.unwrap_or(usize::MAX))?;
    let filter = query.filter(Transport::Sse);
    let max_firehose = options.max_firehose.unwrap_or(usize::MAX);
    let firehose = filter.reads_firehose().then(|| streams.limits.admit_firehose(max_firehose)).transpose()?;
    let runtime_shard = streams.shard(hub);
    let shard = runtime_shard.shard();
    let max_silent = options.max_silent_topics.unwrap_or(usize::MAX);
    let (source, opening) = <Subscription as Opens>::open(shard, &query.filters, query.mode, start, max_silent)
        .map_err(|_| too_many_silent_topics(max_silent))?;
    let client = client.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into());
    let identity = identify(&streams.ids, None, &options.grant, &query, client, head.version, Transport::Sse);
    let registration = shard.clients.register(identity);
    registration.client.control.set_mode(query.mode);
    if streams.is_draining() {
        // The drain may have looked at the clients before this one was registered.
        registration.client.control.raise(ControlRequest::Drain);
    }
    let guard = ConnectionGuard::of_body(streams.metrics.clone(), permit, 0);
    let request = StreamRequest {
        source,
        opening,
        registration,
        on_lag: query.on_lag,
        heartbeat: query.heartbeat_or(options.heartbeat),
        interval: query.interval,
        retry: options.retry,
        takes_heartbeats: query.takes_heartbeats(&filter, Transport::Sse),
        firehose,
    };
    Ok(StreamBody::stream(runtime_shard, guard, query.format, request))
}

/// Checks what the request asks for, or replaces it by what the handler has fixed.
fn permit(query: &mut StreamQuery, options: &StreamResponseOptions) -> Result<(), Problem> {
    let grant = &options.grant;
    if grant.has_expired() {
        return Err(Refusal::expired().into());
    }
    if !options.topics.is_empty() {
        query.filters.clone_from(&options.topics);
    } else if let Some(missing) = grant.first_missing(&query.filters) {
        let what = if query.filters.is_empty() { "everything".to_owned() } else { format!("{missing:?}") };
        return Err(Refusal::Forbidden(format!("subscribing to {what} is not allowed here")).into());
    }
    query.add_user_topic(grant, Transport::Sse);
    Ok(())
}

/// Counts and logs a refusal, and returns its response.
fn refuse(hub: &Hub, head: &Parts, options: &StreamResponseOptions, problem: Problem) -> Response<StreamBody> {
    let streams = hub.companion::<HubStreams>();
    tracing::debug!(path = head.uri.path(), ?problem, "stream refused");
    streams.metrics.refusals.add((problem.status().as_u16(), problem.reason()));
    let next_id = || streams.ids.next();
    let in_band = Refusable::of(head)
        .and_then(|request| refusal::in_band(&request, &problem, options.refusals, options.retry, next_id));
    match in_band {
        Some(body) => response(StreamBody::refusal(body)),
        None => problem.into_bytes().map(StreamBody::refusal),
    }
}
