//! Rules over several settings.

use fanline::server::Origins;

use super::error::Problem;
use super::kind::{Invalid, display_size};
use super::settings::{Settings, StdinFormat};
use super::source::Sources;

/// Combines settings that share a value. `host` and `port` change the first address unless it is from a stronger source.
pub fn combine(settings: &mut Settings, sources: &Sources) {
    let overrides = |name| sources.of(name).strength() >= sources.of("listen").strength();
    settings.host = settings.host.filter(|_| overrides("host"));
    settings.port = settings.port.filter(|_| overrides("port"));
    if let Some(host) = settings.host {
        settings.listen[0].set_ip(host);
    }
    if let Some(port) = settings.port {
        settings.listen[0].set_port(port);
    }
    if let Origins::Listed { credentials, .. } = &mut settings.http.origins {
        *credentials = settings.cors_credentials;
    }
    // 0 means the same as auto.
    settings.limits.max_connections = settings.limits.max_connections.filter(|&max| max > 0);
}

/// Returns the contradictions between settings.
pub fn check(settings: &Settings, sources: &Sources) -> Vec<Problem> {
    let access = &settings.access;
    let names_claims = !access.tokens.audience.is_empty() || !access.tokens.issuer.is_empty();
    let rules = [
        (
            settings.cors_credentials && !matches!(settings.http.origins, Origins::Listed { .. }),
            "cors_credentials = true needs origins by name, as in --cors-origin https://example.com: \
             browsers send no cookies to servers that accept any origin",
        ),
        (
            names_claims && !access.has_tokens(),
            "jwt_audience and jwt_issuer restrict tokens, but no setting verifies tokens: \
             add jwt_secret, jwt_public_key or jwks, or remove them",
        ),
    ];
    let broken = rules.into_iter().filter(|(is_broken, _)| *is_broken);
    let mut problems: Vec<_> = broken.map(|(_, rule)| Problem::Conflict(rule.to_owned())).collect();
    problems.extend(check_sizes(settings).map(Problem::Conflict));
    problems.extend(check_stdin(settings, sources));
    problems
}

/// The limits of a body and of a line have room for the largest event.
fn check_sizes(settings: &Settings) -> impl Iterator<Item = String> {
    let http = &settings.http;
    let event = http.max_event_bytes;
    let limits =
        [("max_body_bytes", "body", Some(http.max_body_bytes)), ("max_line_bytes", "line", http.max_line_bytes)];
    limits.into_iter().filter_map(move |(name, noun, limit)| {
        let limit = display_size(limit.filter(|&limit| limit < event)?);
        let event = display_size(event);
        Some(format!(
            "{name} = {limit} is less than max_event_bytes = {event}: a {noun} must have room for the largest event"
        ))
    })
}

/// Lines need a topic, and NDJSON names its own. `stdin_format` without `stdin` is harmless.
fn check_stdin(settings: &Settings, sources: &Sources) -> Option<Problem> {
    let rule = match (settings.stdin, settings.stdin_format, &settings.topic) {
        (true, StdinFormat::Lines, None) => {
            let rule = "stdin needs a topic for its lines: add --topic log, or --stdin-format ndjson for lines that name theirs";
            return Some(Problem::Conflict(rule.to_owned()));
        }
        (true, StdinFormat::Ndjson, Some(_)) => {
            "each line of stdin_format = \"ndjson\" names its own topic; remove one of the two"
        }
        (false, _, Some(_)) => "it is the topic of lines of standard input; add --stdin, or remove it",
        _ => return None,
    };
    let text = settings.topic.as_ref().map(|topic| topic.as_str().to_owned());
    Some(Problem::Value { name: "topic", text, place: sources.of("topic").clone(), rule: Invalid::from(rule) })
}
