//! The validated flags: templates parsed, topics named, contradictions refused.

use std::net::{IpAddr, Ipv4Addr};

use super::args::{BenchArgs, Distribution, Rate};
use super::endpoint::{Endpoint, InvalidEndpoint};
use super::http::HeaderLine;
use super::template::{Template, UnknownPlaceholder};
use super::topics;

/// Placeholders of `--sse-url`; the third is the subscriber's number.
const SSE_TOPICS: usize = 0;
const SSE_TOPIC: usize = 1;
/// Placeholders of `--publish-url` and `--body`.
const TOPIC: usize = 0;
pub const DATA: usize = 1;

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
    pub body: Template,
    pub topics: Vec<String>,
    /// Header lines, with their line ends.
    pub sse_headers: String,
    pub publish_headers: String,
}

/// Contradicting or meaningless flags.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("--sse-url: {0}")]
    SseUrl(InvalidEndpoint),
    #[error("--publish-url: {0}")]
    PublishUrl(InvalidEndpoint),
    #[error("--body: {0}")]
    Body(UnknownPlaceholder),
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
    #[error("--prefill requires subscribers, and there are none with --clients 0")]
    PrefillWithoutClients,
    #[error("--clients 0 and --rate 0 leave nothing to do")]
    Nothing,
}

impl Plan {
    /// Validates the flags. An error names the flags that contradict each other, and the remedy.
    pub fn new(args: BenchArgs) -> Result<Self, Error> {
        let base = &args.server.url;
        let sse = Endpoint::new(&args.sse_url, base, &["topics", "topic", "client"]).map_err(Error::SseUrl)?;
        let publish = Endpoint::new(&args.publish_url, base, &["topic"]).map_err(Error::PublishUrl)?;
        let body = Template::new(&args.body, &["topic", "data"]).map_err(Error::Body)?;
        let token = args.server.token.as_ref().map(|token| format!("authorization: {}\r\n", token.header_value()));
        let headers = |own: &[HeaderLine]| {
            let mut lines = token.clone().unwrap_or_default();
            for header in args.headers.iter().chain(own) {
                lines.push_str(header.as_str());
                lines.push_str("\r\n");
            }
            lines
        };
        let plan = Self {
            sse_headers: headers(&args.sse_headers),
            publish_headers: headers(&args.publish_headers),
            topics: topics::names(&args),
            sse,
            publish,
            body,
            args,
        };
        plan.check()?;
        Ok(plan)
    }

    fn check(&self) -> Result<(), Error> {
        let Self { args, sse, publish, body, .. } = self;
        if !body.has(DATA) {
            return Err(Error::NoData);
        }
        if args.topics > 1 && !sse.path.has(SSE_TOPICS) && !sse.path.has(SSE_TOPIC) {
            return Err(Error::NoTopics(args.topics));
        }
        if args.topics > 1 && args.distribution != Distribution::One && !publish.path.has(TOPIC) && !body.has(TOPIC) {
            return Err(Error::NoTopic(args.topics));
        }
        if args.topics_per_client > args.topics {
            return Err(Error::TooFewTopics(args.topics_per_client, args.topics));
        }
        let (clients, topics, publishers) = (args.clients, args.topics_per_client, args.publishers);
        let numbers = clients.max(1).saturating_mul(topics).max(args.topics).saturating_mul(publishers);
        if numbers > MAX_NUMBERS {
            return Err(Error::TooMuch { clients, topics, publishers });
        }
        if args.prefill > 0 && clients == 0 {
            return Err(Error::PrefillWithoutClients);
        }
        if clients == 0 && args.rate == Rate::PerSecond(0.0) {
            return Err(Error::Nothing);
        }
        Ok(())
    }

    /// The request of one subscriber for its topics.
    pub fn subscribe_request(&self, client: usize, topics: &[u32]) -> String {
        let name = |topic: u32| self.topics[topic as usize].as_str();
        let path = self.sse.path.render_text(|placeholder| match placeholder {
            SSE_TOPICS => topics.iter().map(|topic| name(*topic)).collect::<Vec<_>>().join(",").into(),
            SSE_TOPIC => name(topics[0]).into(),
            _ => client.to_string().into(),
        });
        let accept = if self.args.headers.iter().chain(&self.args.sse_headers).any(is_accept) {
            ""
        } else {
            "accept: text/event-stream\r\n"
        };
        format!("GET {path} HTTP/1.1\r\nhost: {}\r\n{accept}{}\r\n", self.sse.server.authority(), self.sse_headers)
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

fn is_accept(header: &HeaderLine) -> bool {
    header.as_str().get(..7).is_some_and(|name| name.eq_ignore_ascii_case("accept:"))
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

    #[test]
    fn request_has_topics_and_headers() {
        let plan = plan("--topics 4 --topics-per-client 2 -H x-a:1 --sse-header x-b:2 --publish-header x-c:3").unwrap();
        assert_eq!(
            plan.subscribe_request(1, &[2, 3]),
            "GET /stream?topics=bench-2,bench-3 HTTP/1.1\r\nhost: 127.0.0.1:8000\r\naccept: text/event-stream\r\n\
             x-a: 1\r\nx-b: 2\r\n\r\n"
        );
        assert_eq!(plan.publish_headers, "x-a: 1\r\nx-c: 3\r\n");
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
            ("--body {data}{x}", "--body: unknown placeholder {x}; expected one of {topic}, {data}"),
            ("--topics 2 --sse-url http://h/", "--sse-url has neither"),
            ("--topics 2 --body {data}", "neither --publish-url nor --body has {topic}"),
            ("--topics-per-client 2", "--topics-per-client 2 is more than --topics 1"),
            ("--sse-url /x", "--sse-url: it must begin with http://"),
            ("--publish-url https://h/", "--publish-url: https is not supported"),
            ("--clients 0 --rate 0", "nothing to do"),
            ("--clients 0 --prefill 1", "--prefill"),
            ("--clients 1000000 --publishers 60000", "fewer --publishers"),
        ] {
            let error = plan(line).unwrap_err().to_string();
            assert!(error.contains(says), "{line}: {error}");
        }
        assert!(plan("--topics 2 --body {data} --distribution one").is_ok());
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
