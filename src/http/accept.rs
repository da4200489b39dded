//! The headers `Accept` and `Accept-Encoding` (RFC 9110, sections 12.5.1 and 12.5.3).

use std::cmp::Reverse;

use hyper::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderValue};

/// Returns the offered media type that the client prefers, or `None` if it accepts none of them.
///
/// For each offer the most specific range decides. Among offers of the same quality the one whose range comes first in the
/// header wins, then the first offer. Without the header every offer is acceptable.
pub(super) fn preferred(headers: &HeaderMap, offers: &[&'static str]) -> Option<&'static str> {
    if !headers.contains_key(ACCEPT) {
        return offers.first().copied();
    }
    let ranges: Vec<_> = headers.get_all(ACCEPT).iter().flat_map(ranges).collect();
    let quality = |offer: &str| {
        let matching = ranges
            .iter()
            .enumerate()
            .filter_map(|(place, (range, quality))| Some((specificity(range, offer)?, *quality, Reverse(place))));
        matching.max().map(|(_, quality, place)| (quality, place)).filter(|(quality, _)| *quality > 0)
    };
    let acceptable = offers.iter().rev().filter_map(|offer| Some((quality(offer)?, *offer)));
    acceptable.max_by_key(|(quality, _)| *quality).map(|(_, offer)| offer)
}

/// Whether the client accepts `media_type` by name, and not by a wildcard alone.
pub(super) fn names(headers: &HeaderMap, media_type: &str) -> bool {
    let ranges = headers.get_all(ACCEPT).iter().flat_map(ranges);
    ranges.into_iter().any(|(range, quality)| range.eq_ignore_ascii_case(media_type) && quality > 0)
}

/// Whether the client accepts gzip, and does not prefer no coding. One that does not say so gets no coding.
pub(super) fn prefers_gzip(headers: &HeaderMap) -> bool {
    let codings: Vec<_> = headers.get_all(ACCEPT_ENCODING).iter().flat_map(ranges).collect();
    let quality_of = |name: &str| codings.iter().find(|(coding, _)| coding.eq_ignore_ascii_case(name));
    let gzip = ["gzip", "x-gzip", "*"].into_iter().find_map(quality_of);
    let identity = quality_of("identity").map_or(0, |(_, quality)| *quality);
    gzip.is_some_and(|(_, quality)| *quality > 0 && *quality >= identity)
}

/// Returns the ranges of a header value, with their quality in thousandths.
fn ranges(value: &HeaderValue) -> impl Iterator<Item = (&str, u16)> {
    value.to_str().unwrap_or("").split(',').map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let range = parts.next().unwrap_or("");
        let quality = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        let quality: f32 = quality.and_then(|quality| quality.parse().ok()).unwrap_or(1.0);
        (range, (quality.clamp(0.0, 1.0) * 1000.0).ceil() as u16)
    })
}

fn specificity(range: &str, offer: &str) -> Option<u8> {
    if range.eq_ignore_ascii_case(offer) {
        return Some(2);
    }
    let (kind, offered) = (range.strip_suffix("/*")?, offer.split('/').next()?);
    if kind == "*" { Some(0) } else { kind.eq_ignore_ascii_case(offered).then_some(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preferred_of(accept: Option<&str>, offers: &[&'static str]) -> Option<&'static str> {
        preferred(&accept.map(|accept| (ACCEPT, accept.parse().unwrap())).into_iter().collect(), offers)
    }

    #[test]
    fn the_most_specific_range_decides_whether_a_type_is_acceptable() {
        for (accept, expected) in [
            (None, true),
            (Some("*/*"), true),
            (Some("text/event-stream"), true),
            (Some("text/html, text/*;q=0.5"), true),
            (Some("application/json"), false),
            (Some("*/*, text/event-stream;q=0"), false),
            (Some("text/event-stream, */*;q=0"), true),
            (Some(""), false),
        ] {
            assert_eq!(preferred_of(accept, &["text/event-stream"]).is_some(), expected, "{accept:?}");
        }
    }

    #[test]
    fn a_wildcard_names_no_type() {
        for (accept, expected) in [
            ("text/event-stream", true),
            ("text/html, Text/Event-Stream;q=0.1", true),
            ("text/event-stream;q=0", false),
            ("text/*, */*", false),
            ("", false),
        ] {
            let headers = [(ACCEPT, accept.parse().unwrap())].into_iter().collect();
            assert_eq!(names(&headers, "text/event-stream"), expected, "{accept:?}");
        }
        assert!(!names(&HeaderMap::new(), "text/event-stream"));
    }

    #[test]
    fn gzip_is_preferred_if_it_is_named_or_any_coding_is_unless_none_is_better() {
        for (codings, expected) in [
            (&[][..], false),
            (&[""], false),
            (&["identity"], false),
            (&["br, GZip;q=0.5, deflate"], true),
            (&["br", "x-gzip"], true),
            (&["*"], true),
            (&["gzip;q=0, *"], false),
            (&["*;q=0"], false),
            (&["*;q=0, gzip"], true),
            (&["gzip, identity"], true),
            (&["gzip;q=0.5, identity"], false),
            (&["identity;q=0.5, gzip;q=0.8"], true),
            (&["gzip;q=0.2, identity;q=0"], true),
        ] {
            let headers = codings.iter().map(|codings| (ACCEPT_ENCODING, codings.parse().unwrap())).collect();
            assert_eq!(prefers_gzip(&headers), expected, "{codings:?}");
        }
    }

    #[test]
    fn the_highest_quality_wins_and_then_the_first_range_and_then_the_first_offer() {
        const OFFERS: [&str; 3] = ["text/plain", "application/openmetrics-text", "application/json"];
        for (accept, expected) in [
            (None, Some(0)),
            (Some("*/*"), Some(0)),
            (Some("application/json, text/plain, */*"), Some(2)),
            (Some("Application/JSON;q=0.2, text/plain;version=0.0.4;q=0.3"), Some(0)),
            (Some("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.4,*/*;q=0.1"), Some(1)),
            (Some("text/*;q=0.1, application/*;Q=0.2"), Some(1)),
            (Some("text/html"), None),
            (Some("text/plain;q=0"), None),
        ] {
            assert_eq!(preferred_of(accept, &OFFERS), expected.map(|place: usize| OFFERS[place]), "{accept:?}");
        }
    }
}
