//! The blocks of Server-Sent Events. Each ends with a blank line.

use memchr::memchr_iter;

use super::journal::EventId;
use super::syntax::Kind;

/// Where the first block of `text` ends, after its blank line. Lines end with LF or CRLF.
pub fn block_end(text: &[u8]) -> Option<usize> {
    memchr_iter(b'\n', text).find_map(|at| match &text[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// The value of the field `id`.
pub fn event_id(block: &[u8]) -> EventId {
    let id = block.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"id:"))?;
    super::journal::event_id(id.trim_ascii())
}

/// What a block without a payload of this run is.
pub fn kind(block: &[u8]) -> Kind {
    let mut lines = block.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    match lines.clone().find_map(|line| line.strip_prefix(b"event:")).map(<[u8]>::trim_ascii_start) {
        Some(b"gap") => Kind::Gap,
        Some(b"heartbeat") => Kind::Heartbeat,
        Some(b"snapshot") => Kind::Snapshot,
        _ if lines.any(|line| line.starts_with(b"data")) => Kind::Foreign,
        _ => Kind::Comment,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_compared_as_numbers() {
        assert!(event_id(b"id: 9-10\ndata: x\n\n") > event_id(b"data: x\r\nid:9-9\r\n\r\n"));
        assert!(event_id(b"retry: 1\nid: 10-1\n\n") > event_id(b"id: 9-9\n\n"));
    }

    #[test]
    fn id_of_another_form_is_none() {
        for block in [&b"data: 1-2\n\n"[..], b"id: 7\n\n", b"id: 1-2-3\n\n", b"id: a-1\n\n", b"id: -\n\n", b"id:"] {
            assert_eq!(event_id(block), None, "{block:?}");
        }
    }
}
