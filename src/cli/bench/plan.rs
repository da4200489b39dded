//! The validated flags: URLs parsed, topics named, contradictions refused.

use std::borrow::Cow;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use hyper::{Request, Version};

use super::args::{BenchArgs, Distribution, Mode, Rate};
use super::websocket;
use crate::cli::target::{InvalidUrl, ServerUrl};
use crate::cli::transport::Transport;

/// How long one address of a server may take to accept before the next is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Ports that one source address surely has: the kernel's default range has 28,232, of which others take some.
const CLIENTS_PER_SOURCE: usize = 20_000;

/// The most numbers in all ledgers together: 2 GiB.
const MAX_NUMBERS: usize = 512 << 20;

/// All that a run needs to know.
#[derive(Debug)]
pub struct Plan {
    pub args: BenchArgs,
    pub sse: Endpoint,
    pub publish: Endpoint,
    pub topics: Vec<String>,
    sse_headers: String,
    publish_headers: String,
}

/// A URL whose path may have placeholders.
#[derive(Debug)]
pub struct Endpoint {
    pub server: ServerUrl,
    path: String,
}

/// Contradicting or meaningless flags.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}: {1}; {{url}} stands for the URL of --url")]
    Url(&'static str, InvalidUrl),
    #[error("{0}: the load generator has no TLS; give the http:// address that the TLS terminator forwards to")]
    Tls(&'static str),
    #[error("{0}: the load generator connects over TCP; give the http:// address of a server that listens on both")]
    Unix(&'static str),
    #[error("{0}: a URL has no spaces and no control characters; write %20 for a space")]
    Space(&'static str),
    #[error("{flag}: unknown placeholder {{{unknown}}}; expected one of {known}")]
    Placeholder { flag: &'static str, unknown: String, known: String },
    #[error("--body has no {{data}}: events are recognized by the payload")]
    NoData,
    #[error("--sse-url has neither {{topics}} nor {{topic}}, which --topics {0} requires")]
    NoTopics(usize),
    #[error("neither --publish-url nor --body has {{topic}}, which --topics {0} requires")]
    NoTopic(usize),
    #[error("--topics-per-client {0} is more than --topics {1}")]
    TooFewTopics(usize, usize),
    #[error(
        "{clients} subscribers with {topics} topics each and {publishers} publishers exceed the memory for checks; \
         use fewer --publishers"
    )]
    TooMuch { clients: usize, topics: usize, publishers: usize },
    #[error("--publishers {0} are more than the {1} keys or topics, of which each belongs to one publisher")]
    TooFewPlaces(usize, usize),
    #[error("neither --publish-url nor --body has {{key}}, which --keys requires")]
    NoKey,
    #[error("--prefill requires subscribers, and there are none with --clients 0")]
    PrefillWithoutClients,
    #[error("--stalled requires subscribers, and there are none with --clients 0")]
    StalledWithoutClients,
    #[error("--http2 carries no WebSocket; leave out --http2 or --transport ws")]
    WebSocketOverHttp2,
    #[error("--compressed requests gzip for event streams; leave out --compressed or --transport ws")]
    CompressedWebSocket,
    #[error("--sse-url or a header cannot be sent over HTTP/2: {0}")]
    Http2(hyper::http::Error),
    #[error("--clients 0 and --rate 0 leave nothing to do")]
    Nothing,
}

impl Plan {
    /// Validates the flags. An error names the flags that contradict each other, and the remedy.
    pub fn new(args: BenchArgs) -> Result<Self, Error> {
        check_placeholders("--body", &args.body, &["{topic}", "{key}", "{data}"])?;
        let token = args.server.token.as_ref();
        let token = token.map_or(String::new(), |token| format!("authorization: {}\r\n", token.header_value()));
        let headers = |own: &[String]| [&token[..], &args.headers.concat(), &own.concat()].concat();
        let base = &args.server.url;
        let plan = Self {
            sse: Endpoint::new("--sse-url", &sse_url(&args), base, &["{topics}", "{topic}", "{client}"])?,
            publish: Endpoint::new("--publish-url", &args.publish_url, base, &["{topic}", "{key}"])?,
            sse_headers: headers(&args.sse_headers),
            publish_headers: headers(&args.publish_headers),
            topics: match args.topics {
                1 => vec![args.topic.clone()],
                topics => (0..topics).map(|number| format!("{}-{number}", args.topic)).collect(),
            },
            args,
        };
        plan.check()?;
        Ok(plan)
    }

    fn check(&self) -> Result<(), Error> {
        let Self { args, sse, publish, .. } = self;
        if !args.body.contains("{data}") {
            return Err(Error::NoData);
        }
        if args.topics > 1 && !sse.path.contains("{topics}") && !sse.path.contains("{topic}") {
            return Err(Error::NoTopics(args.topics));
        }
        let publishes_topic = publish.path.contains("{topic}") || args.body.contains("{topic}");
        if args.topics > 1 && args.distribution != Distribution::One && !publishes_topic {
            return Err(Error::NoTopic(args.topics));
        }
        if args.keys.is_some() && !publish.path.contains("{key}") && !args.body.contains("{key}") {
            return Err(Error::NoKey);
        }
        if args.lanes_per_place() < args.publishers && args.places() < args.publishers {
            return Err(Error::TooFewPlaces(args.publishers, args.places()));
        }
        if args.topics_per_client > args.topics {
            return Err(Error::TooFewTopics(args.topics_per_client, args.topics));
        }
        let (clients, topics, publishers) = (args.clients, args.places_per_client(), args.lanes_per_place());
        let numbers = clients.max(1).saturating_mul(topics).max(args.places()).saturating_mul(publishers);
        if numbers > MAX_NUMBERS {
            return Err(Error::TooMuch { clients, topics, publishers });
        }
        if args.prefill > 0 && clients == 0 {
            return Err(Error::PrefillWithoutClients);
        }
        if args.stalled > 0 && clients == 0 {
            return Err(Error::StalledWithoutClients);
        }
        if args.http2.is_some() && args.transport == Transport::Ws {
            return Err(Error::WebSocketOverHttp2);
        }
        if args.compressed && args.transport == Transport::Ws {
            return Err(Error::CompressedWebSocket);
        }
        if args.http2.is_some() {
            self.subscribe_http2(0, &[0]).map_err(Error::Http2)?;
        }
        if clients == 0 && args.rate == Rate::PerSecond(0.0) {
            return Err(Error::Nothing);
        }
        Ok(())
    }

    /// The request of one subscriber for its topics, over HTTP/1.1.
    pub fn subscribe_request(&self, client: usize, topics: &[u32]) -> String {
        let (path, host, headers) =
            (self.stream_path(client, topics), self.sse.server.authority(), self.stream_headers());
        format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n")
    }

    /// The same request over HTTP/2.
    pub fn subscribe_http2(&self, client: usize, topics: &[u32]) -> Result<Request<()>, hyper::http::Error> {
        let url = format!("http://{}{}", self.sse.server.authority(), self.stream_path(client, topics));
        let headers = self.stream_headers();
        let fields = headers.lines().filter_map(|line| line.split_once(": "));
        fields
            .fold(Request::get(url).version(Version::HTTP_2), |request, (name, value)| request.header(name, value))
            .body(())
    }

    fn stream_path(&self, client: usize, topics: &[u32]) -> String {
        // All keys are of one topic.
        let topics = if self.args.keys.is_some() { &[0][..] } else { topics };
        let names: Vec<&str> = topics.iter().map(|topic| self.topics[*topic as usize].as_str()).collect();
        let path = self.sse.path.replace("{topics}", &names.join(",")).replace("{topic}", names[0]);
        path.replace("{client}", &client.to_string())
    }

    /// The headers of subscribers, as lines.
    fn stream_headers(&self) -> Cow<'_, str> {
        let headers = &self.sse_headers;
        if self.args.transport == Transport::Ws {
            return format!("{}{headers}", websocket::HANDSHAKE).into();
        }
        let is_missing = |name| !headers.lines().any(|line| line.starts_with(name));
        let accept = if is_missing("accept:") { "accept: text/event-stream\r\n" } else { "" };
        let encoding = if self.args.compressed { "accept-encoding: gzip\r\n" } else { "" };
        format!("{accept}{encoding}{headers}").into()
    }

    /// The request that publishes `payload` to a topic, or as the value of a key.
    pub fn publish_request(&self, place: u32, payload: &str) -> String {
        let key = format!("key-{place}");
        let topic = if self.args.keys.is_some() { &self.topics[0] } else { &self.topics[place as usize] };
        let path = self.publish.path.replace("{topic}", topic).replace("{key}", &key);
        let body = self.args.body.replace("{topic}", topic).replace("{key}", &key).replace("{data}", payload);
        let (host, headers) = (self.publish.server.authority(), &self.publish_headers);
        let BenchArgs { method, content_type, .. } = &self.args;
        let length = body.len();
        format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: {content_type}\r\n{headers}\
             content-length: {length}\r\n\r\n{body}"
        )
    }

    /// The source address of one subscriber, or `None` to leave the choice to the system.
    pub fn source(&self, client: usize, server: IpAddr) -> Option<IpAddr> {
        let given = &self.args.sources;
        if !given.is_empty() {
            return Some(given[client % given.len()]);
        }
        let is_loopback = matches!(server, IpAddr::V4(address) if address.is_loopback());
        if !is_loopback || self.args.clients <= CLIENTS_PER_SOURCE {
            return None;
        }
        let number = 1 + client / CLIENTS_PER_SOURCE;
        Some(Ipv4Addr::new(127, 0, (number / 250) as u8, (1 + number % 250) as u8).into())
    }
}

/// The URL of subscribers, with what they ask for.
fn sse_url(args: &BenchArgs) -> String {
    let mode = (args.mode == Mode::Latest).then(|| "mode=latest".to_owned());
    let interval = args.interval.map(|interval| format!("interval={}", interval.as_millis()));
    mode.into_iter().chain(interval).fold(args.sse_url.clone(), |url, parameter| {
        let separator = if url.contains('?') { '&' } else { '?' };
        format!("{url}{separator}{parameter}")
    })
}

impl Endpoint {
    /// Parses `text`, in which `{url}` stands for `base`, with these placeholders in its path.
    fn new(flag: &'static str, text: &str, base: &ServerUrl, placeholders: &[&str]) -> Result<Self, Error> {
        let text = text.replace("{url}", &base.to_string());
        if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(Error::Space(flag));
        }
        if text.starts_with("unix:") {
            return Err(Error::Unix(flag));
        }
        let host_at = text.find("://").map_or(0, |at| at + 3);
        let path_at = text[host_at..].find(['/', '?', '#']).map_or(text.len(), |at| host_at + at);
        let (server, path) = text.split_at(path_at);
        let path = path.split_once('#').map_or(path, |(path, _)| path);
        check_placeholders(flag, path, placeholders)?;
        let slash = if path.starts_with('/') { "" } else { "/" };
        let server: ServerUrl = match server.parse() {
            Err(InvalidUrl::Https(_)) => return Err(Error::Tls(flag)),
            parsed => parsed.map_err(|error| Error::Url(flag, error))?,
        };
        if server.is_https() {
            return Err(Error::Tls(flag));
        }
        Ok(Self { server, path: format!("{slash}{path}") })
    }

    /// The first address of the host that accepts a connection, or the error of the last one.
    pub fn resolve(&self) -> io::Result<SocketAddr> {
        let mut error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let Some(host) = self.server.host_and_port() else { return Err(error) };
        for address in host.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(_) => return Ok(address),
                Err(failed) => error = failed,
            }
        }
        Err(error)
    }
}

/// Refuses placeholders that are not `known`. Braces around anything but lower-case letters are text, so that JSON needs
/// no escapes.
fn check_placeholders(flag: &'static str, text: &str, known: &[&str]) -> Result<(), Error> {
    for (open, _) in text.match_indices('{') {
        let name = text[open + 1..].split_once('}').map_or("", |(name, _)| name);
        let is_placeholder = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase());
        if is_placeholder && !known.contains(&format!("{{{name}}}").as_str()) {
            return Err(Error::Placeholder { flag, unknown: name.to_owned(), known: known.join(", ") });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn plan(line: &str) -> Result<Plan, Error> {
        Plan::new(Line::parse_from(["bench"].into_iter().chain(line.split_ascii_whitespace())).args)
    }

    fn plan_of_body(body: &str) -> Plan {
        Plan::new(Line::parse_from(["bench", "--body", body]).args).unwrap()
    }

    #[test]
    fn request_has_topics_and_headers() {
        let plan = plan("--topics 4 --topics-per-client 2 -H x-a:1 --sse-header x-b:2 --publish-header x-c:3").unwrap();
        assert_eq!(
            plan.subscribe_request(1, &[2, 3]),
            "GET /stream?topics=bench-2,bench-3 HTTP/1.1\r\nhost: 127.0.0.1:8000\r\naccept: text/event-stream\r\n\
             x-a: 1\r\nx-b: 2\r\n\r\n"
        );
        assert_eq!(plan.publish_headers, "x-a: 1\r\nx-c: 3\r\n");
        let compressed = self::plan("--compressed --sse-header accept:*/*").unwrap();
        assert_eq!(compressed.stream_headers(), "accept-encoding: gzip\r\naccept: */*\r\n");
    }

    #[test]
    fn event_is_published_in_the_given_form() {
        let plan =
            plan("--topics 2 --publish-url http://h/{topic} --method put --content-type text/xml --body <{data}>");
        assert_eq!(
            plan.unwrap().publish_request(1, "abc"),
            "PUT /bench-1 HTTP/1.1\r\nhost: h\r\ncontent-type: text/xml\r\ncontent-length: 5\r\n\r\n<abc>"
        );
        let json = plan_of_body(r#"{"t":"{topic}","d":{"{topic}":"{data}"},"e":{}}"#).publish_request(0, "abc");
        assert!(json.ends_with(r#"{"t":"bench","d":{"bench":"abc"},"e":{}}"#), "{json}");
    }

    #[test]
    fn readers_of_keys_ask_for_their_topic_in_the_mode() {
        let plan = plan("--keys 8 --mode latest --interval 0.25").unwrap();
        let request = plan.subscribe_request(1, &[0, 1, 2, 3, 4, 5, 6, 7]);
        assert!(request.starts_with("GET /stream?topics=bench&mode=latest&interval=250 HTTP/1.1\r\n"), "{request}");
        let event = plan.publish_request(5, "abc");
        assert!(event.ends_with(r#"{"topic":"bench","key":"key-5","data":"abc"}"#), "{event}");
    }

    #[test]
    fn token_is_sent_by_subscribers_and_publishers() {
        let plan = plan("--token secret --sse-url http://h/{topic}/{client}").unwrap();
        assert!(plan.subscribe_request(7, &[0]).starts_with("GET /bench/7 HTTP/1.1\r\nhost: h\r\n"));
        assert!(
            plan.sse_headers.contains("authorization: Bearer secret\r\n") && plan.sse_headers == plan.publish_headers
        );
    }

    #[test]
    fn contradicting_flags_are_named() {
        for (line, says) in [
            ("--body {topic}", "--body has no {data}"),
            ("--body {data}{x}", "--body: unknown placeholder {x}; expected one of {topic}, {key}, {data}"),
            ("--topics 2 --sse-url http://h/", "--sse-url has neither"),
            ("--topics 2 --body {data}", "neither --publish-url nor --body has {topic}"),
            ("--topics-per-client 2", "--topics-per-client 2 is more than --topics 1"),
            ("--keys 3", "--publishers 4 are more than the 3 keys or topics"),
            ("--mode latest", "--publishers 4 are more than the 1 keys or topics"),
            ("--keys 8 --body {topic}{data}", "neither --publish-url nor --body has {key}"),
            ("--sse-url /x", "--sse-url: it must begin with http://"),
            ("--sse-url http://{topic}.host/", "--sse-url: it must be http://host:port"),
            (
                "--sse-url http://h/{id}",
                "--sse-url: unknown placeholder {id}; expected one of {topics}, {topic}, {client}",
            ),
            ("--sse-url http://h/a\u{1}b", "--sse-url: a URL has no spaces"),
            ("--publish-url https://h/", "--publish-url: the load generator has no TLS"),
            ("--clients 0 --rate 0", "nothing to do"),
            ("--clients 0 --prefill 1", "--prefill"),
            ("--transport ws --compressed", "leave out --compressed or --transport ws"),
            ("--clients 1000000 --publishers 60000", "fewer --publishers"),
        ] {
            let error = plan(line).unwrap_err().to_string();
            assert!(error.contains(says), "{line}: {error}");
        }
        assert!(plan("--topics 2 --body {data} --distribution one").is_ok());
    }

    #[test]
    fn endpoint_has_a_host_and_a_path() {
        for (url, host, path) in [
            ("{url}/stream?topics={topic}", "127.0.0.1:8000", "/live/stream?topics={topic}"),
            ("http://host", "host", "/"),
            ("http://host:1?id={topic}#a", "host:1", "/?id={topic}"),
            ("http://[::1]:80/{topic}", "[::1]:80", "/{topic}"),
        ] {
            let sse = plan(&format!("--url http://127.0.0.1:8000/live --sse-url {url}")).unwrap().sse;
            assert_eq!((sse.server.authority(), sse.path.as_str()), (host, path));
        }
    }

    #[test]
    fn subscribers_on_loopback_are_spread_over_source_addresses() {
        let address = |plan: &Plan, client| plan.source(client, "127.0.0.1".parse().unwrap()).map(|ip| ip.to_string());
        let few = plan("--clients 20000").unwrap();
        assert_eq!(address(&few, 0), None);
        let many = plan("--clients 6000000").unwrap();
        assert_eq!(address(&many, 0).unwrap(), "127.0.0.2");
        assert_eq!(address(&many, 20_000).unwrap(), "127.0.0.3");
        assert_eq!(address(&many, 5_999_999).unwrap(), "127.0.1.51");
        assert_eq!(many.source(0, "10.0.0.1".parse().unwrap()), None);
        let given = plan("--clients 3 --sources 127.0.0.8,127.0.0.9").unwrap();
        assert_eq!(address(&given, 2).unwrap(), "127.0.0.8");
    }
}
