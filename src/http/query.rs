//! The parameters of a subscription, from the query and the headers.

use std::time::Duration;

use hyper::header::HeaderMap;

use super::options::Options;
use super::problem::Problem;
use super::{accept, interval};
use crate::auth::{Grant, Tag};
use crate::conn::{Interval, OnLag};
use crate::hub::{Mode, Start, SubscriptionFilter};
use crate::presence::Transport;
use crate::topic::{Topic, TopicFilter};
use crate::wire::Format;

/// The heartbeat intervals that a client may request, in seconds.
const HEARTBEAT: std::ops::RangeInclusive<u16> = 1..=3600;
const MAX_NAME_BYTES: usize = 255;
const MAX_TAGS: usize = 32;

/// The parameters of a subscription.
#[derive(Debug)]
pub(crate) struct StreamQuery {
    pub(crate) filters: Vec<TopicFilter>,
    pub(crate) mode: Mode,
    pub(crate) start: Start,
    pub(crate) on_lag: OnLag,
    pub(crate) format: Format,
    /// In seconds; `None` means the server's default.
    pub(crate) heartbeat: Option<u16>,
    /// The least time between two writes of events; `None` means that events are written when they come.
    pub(crate) interval: Option<Interval>,
    pub(crate) name: Option<String>,
    pub(crate) tags: Vec<Tag>,
    /// Whether the client prefers a compressed stream, and may get one.
    pub(crate) is_compressed: bool,
}

impl StreamQuery {
    /// Parses the query and the [last event id](last_event_id). Unknown parameters are ignored, because
    /// proxies and browsers add some.
    pub(crate) fn parse(query: &str, headers: &HeaderMap, options: &Options) -> Result<Self, Problem> {
        let (mut filters, mut tags) = (Vec::new(), Vec::new());
        let (mut name, mut history, mut heartbeat, mut interval) = (None, None, None, None);
        let (mut mode, mut on_lag, mut format) = (Mode::default(), OnLag::default(), Format::default());
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "topics" | "topic" => {
                    for text in list(&value) {
                        let invalid = |e| invalid(&key, &format!("{text:?} is not a topic or pattern: {e}"));
                        filters.push(TopicFilter::new(text).map_err(invalid)?);
                    }
                }
                "client_name" => name = Some(label("client_name", &value)?).filter(|name| !name.is_empty()),
                "tags" => {
                    for tag in list(&value) {
                        tags.push(Tag::new(tag).map_err(|error| invalid("tags", &error.to_string()))?);
                    }
                }
                "history" => {
                    let invalid = |_| invalid("history", "expected a number of events, such as history=100");
                    history = Some(value.parse().map_err(invalid)?);
                }
                "mode" => mode = choice(&key, &value, ("events", Mode::Events), ("latest", Mode::Latest))?,
                "on_lag" => on_lag = choice(&key, &value, ("close", OnLag::Close), ("skip", OnLag::Skip))?,
                "format" => format = choice(&key, &value, ("plain", Format::Plain), ("envelope", Format::Envelope))?,
                "heartbeat" => {
                    let seconds = value.parse().ok().filter(|seconds| HEARTBEAT.contains(seconds));
                    let expected = format!("expected {} to {} seconds", HEARTBEAT.start(), HEARTBEAT.end());
                    heartbeat = Some(seconds.ok_or_else(|| invalid("heartbeat", &expected))?);
                }
                "interval" => {
                    interval = Some(interval::parse(&value, options).map_err(|detail| invalid("interval", &detail))?);
                }
                _ => {}
            }
        }
        check_filters(&filters, options).map_err(|detail| invalid("topics", &detail))?;
        if tags.len() > MAX_TAGS {
            return Err(invalid("tags", &format!("the limit is {MAX_TAGS} tags, and the request has {}", tags.len())));
        }
        let start = start_in(mode, start(last_event_id(query, headers).as_deref(), history))?;
        let is_compressed = accept::prefers_gzip(headers) && options.may_compress(&filters);
        Ok(Self { filters, mode, start, on_lag, format, heartbeat, interval, name, tags, is_compressed })
    }

    /// Adds the topic of the client's user. A stream without filters keeps everything else.
    pub(crate) fn add_user_topic(&mut self, grant: &Grant, transport: Transport) {
        let Some(own) = grant.user_topic().map(TopicFilter::Exact) else { return };
        if self.filters.is_empty() && transport == Transport::Sse {
            self.filters.push(TopicFilter::everything());
        }
        if !self.filters.contains(&own) {
            self.filters.push(own);
        }
    }

    /// What the filters match. Without filters, a WebSocket has no events, and a stream has all.
    pub(crate) fn filter(&self, transport: Transport) -> SubscriptionFilter {
        if self.is_bare(transport) {
            return SubscriptionFilter::nothing();
        }
        SubscriptionFilter::of(self.filters.iter().cloned())
    }

    /// The heartbeat interval in seconds, which is `default` unless the client requests another one.
    pub(crate) fn heartbeat_or(&self, default: Duration) -> u16 {
        let default = || default.as_secs().clamp((*HEARTBEAT.start()).into(), (*HEARTBEAT.end()).into()) as u16;
        self.heartbeat.unwrap_or_else(default)
    }

    /// Whether this is a WebSocket without filters.
    pub(crate) fn is_bare(&self, transport: Transport) -> bool {
        self.filters.is_empty() && transport == Transport::WebSocket
    }

    /// Whether heartbeats are sent as events: if the filters match everything or the topic `heartbeat`, and over WebSocket if the
    /// client sets the interval, because a page does not see pings.
    pub(crate) fn takes_heartbeats(&self, filter: &SubscriptionFilter, transport: Transport) -> bool {
        (transport == Transport::WebSocket && self.heartbeat.is_some())
            || filter.is_everything()
            || Topic::new("heartbeat").is_ok_and(|heartbeat| filter.matches(&heartbeat))
    }
}

/// The id of the client's last event, as it was sent: in the header `Last-Event-ID`, or else in the query. An empty one is none.
pub(super) fn last_event_id(query: &str, headers: &HeaderMap) -> Option<String> {
    let header = headers.get("last-event-id").map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
    let in_query = || {
        let is_id = |key: &str| matches!(key, "last_event_id" | "lastEventID" | "lastEventId");
        let ids = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| is_id(key));
        ids.last().map(|(_, id)| id.into_owned())
    };
    header.filter(|id| !id.is_empty()).or_else(in_query).filter(|id| !id.is_empty())
}

/// Checks the limits on the number of `filters` and their complexity.
pub(super) fn check_filters(filters: &[TopicFilter], options: &Options) -> Result<(), String> {
    let check = |count: usize, what: &str, max: usize, setting: &str| {
        let detail = || format!("the limit is {max} {what}, and the request has {count} (setting {setting})");
        if count > max { Err(detail()) } else { Ok(()) }
    };
    check(filters.len(), "topics", options.max_topics, "max_topics")?;
    let patterns = || filters.iter().filter(|filter| matches!(filter, TopicFilter::Pattern(_)));
    check(patterns().count(), "patterns", options.max_patterns, "max_patterns")?;
    for pattern in patterns() {
        let wildcards = pattern.wildcards();
        let what = format!("wildcards in {:?}", pattern.as_str());
        check(wildcards, &what, options.max_wildcards, "max_wildcards")?;
    }
    Ok(())
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn start(last_id: Option<&str>, history: Option<u64>) -> Start {
    match (last_id, history) {
        (Some("earliest"), _) => Start::Earliest,
        (Some(id), _) => id.trim().parse().map_or(Start::UnknownId, Start::After),
        (None, Some(count)) => Start::Newest(count),
        (None, None) => Start::Live,
    }
}

/// Where a subscription in `mode` starts. That of the latest values has them all, unless it resumes.
pub(super) fn start_in(mode: Mode, start: Start) -> Result<Start, Problem> {
    match (mode, start) {
        (Mode::Latest, Start::Live) => Ok(Start::Earliest),
        (Mode::Latest, Start::Newest(_)) => {
            Err(invalid("history", "mode=latest begins with the current values; leave it out, or ask for mode=events"))
        }
        (_, start) => Ok(start),
    }
}

/// The value that `text` names: `default` or `other`.
fn choice<T>(parameter: &str, text: &str, default: (&str, T), other: (&str, T)) -> Result<T, Problem> {
    match text {
        _ if text == default.0 => Ok(default.1),
        _ if text == other.0 => Ok(other.1),
        _ => Err(invalid(parameter, &format!("expected {} (the default) or {}", default.0, other.0))),
    }
}

fn label(parameter: &str, text: &str) -> Result<String, Problem> {
    if text.len() > MAX_NAME_BYTES {
        return Err(invalid(
            parameter,
            &format!("the limit is {MAX_NAME_BYTES} bytes, and the value has {}", text.len()),
        ));
    }
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(invalid(parameter, &format!("control characters such as {c:?} are not allowed"))),
        None => Ok(text.to_owned()),
    }
}

pub(super) fn invalid(parameter: &str, detail: &str) -> Problem {
    Problem::bad_request(detail).at(&format!("parameter {parameter}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str, last_id: Option<&str>) -> Result<StreamQuery, Problem> {
        let headers = last_id.map(|id| ("last-event-id".parse().unwrap(), id.parse().unwrap())).into_iter().collect();
        let options = Options { max_topics: 5, max_patterns: 2, max_wildcards: 3, ..Options::default() };
        StreamQuery::parse(query, &headers, &options)
    }

    fn topics(query: &str) -> Vec<String> {
        parse(query, None).unwrap().filters.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn topics_may_be_one_list_or_several_parameters() {
        assert_eq!(topics("topics=a,b:*&topic=c&topics=%2A%2A"), ["a", "b:*", "c", "**"]);
        assert_eq!(topics("topics=gr%C3%B6%C3%9Fe,%20b"), ["größe", "b"]);
        assert_eq!(topics("topics=&utm=1"), [""; 0]);
        assert!(parse("", None).unwrap().filter(Transport::Sse).is_everything());
        assert!(!parse("", None).unwrap().filter(Transport::WebSocket).is_everything());
    }

    #[test]
    fn the_header_overrides_the_query() {
        let at = |text: &str| Start::After(text.parse().unwrap());
        assert_eq!(parse("last_event_id=7-1", Some("7-2")).unwrap().start, at("7-2"));
        assert_eq!(parse("lastEventID=7-1&history=3", None).unwrap().start, at("7-1"));
        assert_eq!(parse("lastEventId=7-1", None).unwrap().start, at("7-1"));
        assert_eq!(parse("last_event_id=earliest", Some("")).unwrap().start, Start::Earliest);
        assert_eq!(parse("last_event_id=abc", None).unwrap().start, Start::UnknownId);
        assert_eq!(parse("history=3", None).unwrap().start, Start::Newest(3));
        assert_eq!(parse("", None).unwrap().start, Start::Live);
    }

    #[test]
    fn latest_values_start_complete_or_after_an_id() {
        let start = |query| {
            let query = parse(query, None).unwrap();
            (query.mode, query.start)
        };
        assert_eq!(start("mode=events"), (Mode::Events, Start::Live));
        assert_eq!(start("mode=latest"), (Mode::Latest, Start::Earliest));
        assert_eq!(start("last_event_id=7-2&mode=latest"), (Mode::Latest, Start::After("7-2".parse().unwrap())));
        assert_eq!(start("mode=latest&last_event_id=?"), (Mode::Latest, Start::UnknownId));
    }

    #[test]
    fn format_is_plain_by_default() {
        let format = |query| parse(query, None).unwrap().format;
        assert_eq!(
            [format(""), format("format=plain"), format("format=envelope")],
            [Format::Plain, Format::Plain, Format::Envelope]
        );
    }

    #[test]
    fn an_error_names_the_parameter() {
        for (query, expected) in [
            ("topics=a*b", "parameter topics: \\\"a*b\\\" is not a topic"),
            ("topics=a%00b", "control character"),
            ("topic=a,b,c,d,e,f", "the limit is 5 topics, and the request has 6 (setting max_topics)"),
            ("topics=a.*,b.*,*.c,d", "the limit is 2 patterns, and the request has 3 (setting max_patterns)"),
            (
                "topics=*.*.*.**",
                "the limit is 3 wildcards in \\\"*.*.*.**\\\", and the request has 4 (setting max_wildcards)",
            ),
            ("history=-1", "parameter history"),
            ("mode=last", "parameter mode: expected events (the default) or latest"),
            ("mode=latest&history=5", "parameter history: mode=latest begins with the current values"),
            ("on_lag=drop", "parameter on_lag: expected close"),
            ("format=json", "parameter format: expected plain (the default) or envelope"),
            ("format=", "parameter format: expected plain"),
            ("heartbeat=0", "parameter heartbeat: expected 1 to 3600 seconds"),
            ("heartbeat=1.5", "parameter heartbeat"),
            ("interval=5", "parameter interval: expected a time from 10ms to 1m, such as 100ms or 1s"),
            ("interval=2min", "parameter interval: expected a time from 10ms to 1m"),
            ("interval=", "parameter interval"),
            ("interval=fast", "parameter interval"),
            ("client_name=a%0Ab", "parameter client_name"),
        ] {
            let error = format!("{:?}", parse(query, None).unwrap_err());
            assert!(error.contains(expected), "{query}: {error}");
        }
    }
}
