//! Rules over several settings.

use fanline::server::{ListenAddress, Origins};

use super::error::Problem;
use super::kind::{Invalid, display_size};
use super::listen::Listen;
use super::settings::{Settings, StdinFormat};
use super::source::Values;

/// Combines settings that share a value. `host` and `port` change the first address, unless its source is stronger.
pub fn combine(settings: &mut Settings, values: &Values) {
    let overrides = |name| values.source(name).strength() >= values.source("listen").strength();
    settings.host = settings.host.filter(|_| overrides("host"));
    settings.port = settings.port.filter(|_| overrides("port"));
    if let Listen::Address(ListenAddress::Tcp(first)) = &mut settings.listen[0] {
        first.set_ip(settings.host.unwrap_or(first.ip()));
        first.set_port(settings.port.unwrap_or(first.port()));
    }
    if let Origins::Listed { credentials, .. } = &mut settings.http.origins {
        *credentials = settings.cors_credentials;
    }
    // 0 means the same as auto.
    settings.limits.max_connections = settings.limits.max_connections.filter(|&max| max > 0);
}

/// Returns the contradictions between settings.
pub fn check(settings: &Settings, values: &Values) -> Vec<Problem> {
    let mut problems: Vec<_> = check_stdin(settings, values).into_iter().collect();
    let mut conflict = |rule: String| problems.push(Problem::Conflict(rule));
    let Settings { http, access, .. } = settings;
    let (words, addresses) = (settings.proxy_protocol.len(), settings.listen.len());
    if ![1, addresses].contains(&words) {
        conflict(format!(
            "proxy_protocol has {words} words, and listen has {addresses} addresses: give one word for all of them, or one \
             for each"
        ));
    }
    for (name, is_given) in [("host", settings.host.is_some()), ("port", settings.port.is_some())] {
        let first = &settings.listen[0];
        if is_given && !matches!(first, Listen::Address(ListenAddress::Tcp(_))) {
            let source = values.source(name);
            conflict(format!(
                "{name} ({source}) replaces the one of the first address of listen, and {first} has none: \
                 remove it, or list a TCP address first"
            ));
        }
    }
    if settings.cors_credentials && !matches!(http.origins, Origins::Listed { .. }) {
        conflict(
            "cors_credentials = true needs origins by name, as in --cors-origin https://example.com: \
             browsers send no cookies to servers that accept any origin"
                .to_owned(),
        );
    }
    let event = http.max_event_bytes;
    for (name, noun, limit) in
        [("max_body_bytes", "body", Some(http.max_body_bytes)), ("max_line_bytes", "line", http.max_line_bytes)]
    {
        if let Some(limit) = limit.filter(|&limit| limit < event).map(display_size) {
            let event = display_size(event);
            conflict(format!(
                "{name} = {limit} is less than max_event_bytes = {event}: a {noun} must have room for the largest event"
            ));
        }
    }
    if settings.history_file.is_some() && settings.redis_url.is_some() {
        conflict(
            "history_file is for a server without redis: with it, the history is in Redis, and clients resume on any server"
                .to_owned(),
        );
    }
    let restricts_tokens = !access.tokens.audience.is_empty() || !access.tokens.issuer.is_empty();
    if restricts_tokens && !access.has_tokens() {
        conflict(
            "jwt_audience and jwt_issuer restrict tokens, but no setting verifies tokens: \
             add jwt_secret, jwt_public_key or jwks, or remove them"
                .to_owned(),
        );
    }
    problems
}

/// Lines need a topic, and NDJSON names its own. `stdin_format` without `stdin` is harmless.
fn check_stdin(settings: &Settings, values: &Values) -> Option<Problem> {
    let rule = match (settings.stdin, settings.stdin_format, &settings.topic) {
        (true, StdinFormat::Lines, None) => {
            let rule = "stdin needs a topic for its lines: \
                        add --topic log, or --stdin-format ndjson for lines that name their own";
            return Some(Problem::Conflict(rule.to_owned()));
        }
        (true, StdinFormat::Ndjson, Some(_)) => {
            "each line of stdin_format = \"ndjson\" names its own topic; remove one of the two"
        }
        (false, _, Some(_)) => "it is the topic of lines of standard input; add --stdin, or remove it",
        _ => return None,
    };
    let text = settings.topic.as_ref().map(|topic| topic.as_str().to_owned());
    Some(Problem::Value { name: "topic", text, place: values.source("topic").clone(), rule: Invalid::from(rule) })
}
