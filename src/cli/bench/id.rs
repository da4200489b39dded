//! Ids `<number>-<number>`, which order events: those of fanline and of Redis streams.

use memchr::memmem;

/// An id that can be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventId(u64, u64);

impl EventId {
    /// No id, or one of another form.
    pub const NONE: Self = Self(0, 0);

    /// The id of a block.
    pub fn of(block: &[u8]) -> Self {
        Self::find(block).unwrap_or(Self::NONE)
    }

    fn find(block: &[u8]) -> Option<Self> {
        let value = match block.strip_prefix(b"id:") {
            Some(value) => value,
            None => &block[memmem::find(block, b"\nid:")? + 4..],
        };
        let (first, rest) = number(value.strip_prefix(b" ").unwrap_or(value))?;
        let (second, rest) = number(rest.strip_prefix(b"-")?)?;
        matches!(rest, [b'\r' | b'\n', ..]).then_some(Self(first, second))
    }
}

fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(digits);
    Some((str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_compared_as_numbers() {
        assert!(EventId::of(b"id: 9-10\ndata: x\n\n") > EventId::of(b"data: x\r\nid:9-9\r\n\r\n"));
        assert!(EventId::of(b"retry: 1\nid: 10-1\n\n") > EventId::of(b"id: 9-9\n\n"));
    }

    #[test]
    fn id_of_another_form_is_none() {
        for block in [&b"data: 1-2\n\n"[..], b"id: 7\n\n", b"id: 1-2-3\n\n", b"id: a-1\n\n", b"id: -\n\n", b"id:"] {
            assert_eq!(EventId::of(block), EventId::NONE, "{block:?}");
        }
    }
}
