//! Replies to messages of clients, and the codes of errors.

use serde::Serialize;
use serde_json::value::RawValue;

use super::super::problem::Problem;
use super::message::Ref;
use crate::conn::websocket::Reply;
use crate::hub::FeedError;
use crate::position::StreamPosition;
use crate::topic::TopicFilter;
use crate::wire::publication::InvalidPublication;

/// The code of an error, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Code {
    /// The message is not what its type requires.
    Malformed,
    UnknownType,
    InvalidTopic,
    TooManyTopics,
    /// Too many replays of added topics wait for their turn.
    TooManyReplays,
    Forbidden,
    RateLimited,
    TooLarge,
    /// A limit of the server, its backbone or the authorization service: likely to pass.
    Unavailable,
}

impl Code {
    /// The code on the wire and in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownType => "unknown_type",
            Self::InvalidTopic => "invalid_topic",
            Self::TooManyTopics => "too_many_topics",
            Self::TooManyReplays => "too_many_replays",
            Self::Forbidden => "forbidden",
            Self::RateLimited => "rate_limited",
            Self::TooLarge => "too_large",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Why a message was refused. It had no effect, unless the text says otherwise.
#[derive(Debug)]
pub(super) struct Refused {
    code: Code,
    message: String,
    /// Milliseconds after which a retry may succeed.
    retry: Option<u64>,
}

impl Refused {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry: None }
    }

    pub(super) fn code(&self) -> Code {
        self.code
    }

    pub(super) fn reply(&self, reference: &Ref) -> Reply {
        #[derive(Serialize)]
        struct Error<'a> {
            code: &'static str,
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            retry: Option<u64>,
        }
        let Self { code, message, retry } = self;
        reply("error", Error { code: code.as_str(), message, retry: *retry }, reference)
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        let code = match problem.status().as_u16() {
            400 => Code::Malformed,
            401 | 403 => Code::Forbidden,
            413 => Code::TooLarge,
            429 => Code::RateLimited,
            _ => Code::Unavailable,
        };
        let retry = problem.retry_after().map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1));
        Self { code, message: problem.detail().to_owned(), retry }
    }
}

impl From<InvalidPublication> for Refused {
    fn from(error: InvalidPublication) -> Self {
        let code = match error {
            InvalidPublication::Topic(_) => Code::InvalidTopic,
            _ if error.is_too_large() => Code::TooLarge,
            _ => Code::Malformed,
        };
        Self::new(code, error.to_string())
    }
}

impl From<FeedError> for Refused {
    fn from(error: FeedError) -> Self {
        let code = match error {
            FeedError::TooManyReplays => Code::TooManyReplays,
            FeedError::TooManySilentTopics => Code::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}

/// A reply of this type, with these fields and the `ref` of the message.
fn reply(kind: &'static str, fields: impl Serialize, reference: &Ref) -> Reply {
    #[derive(Serialize)]
    struct Message<'a, F> {
        r#type: &'static str,
        #[serde(flatten)]
        fields: F,
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<&'a RawValue>,
    }
    let reference = reference.as_deref().map(|json| serde_json::from_str(json).expect("it was read as JSON"));
    Reply::json(&Message { r#type: kind, fields, reference })
}

#[derive(Serialize)]
struct Topics<'a> {
    topics: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

fn names(filters: &[TopicFilter]) -> Vec<&str> {
    filters.iter().map(TopicFilter::as_str).collect()
}

/// The topics begin after `id`.
pub(super) fn subscribed(filters: &[TopicFilter], id: StreamPosition, reference: &Ref) -> Reply {
    reply("subscribed", Topics { topics: names(filters), id: Some(id.to_string()) }, reference)
}

pub(super) fn unsubscribed(filters: &[TopicFilter], reference: &Ref) -> Reply {
    reply("unsubscribed", Topics { topics: names(filters), id: None }, reference)
}

pub(super) fn published(id: StreamPosition, reference: &Ref) -> Reply {
    #[derive(Serialize)]
    struct Published {
        id: String,
    }
    reply("published", Published { id: id.to_string() }, reference)
}

pub(super) fn pong(reference: &Ref) -> Reply {
    #[derive(Serialize)]
    struct Nothing {}
    reply("pong", Nothing {}, reference)
}
