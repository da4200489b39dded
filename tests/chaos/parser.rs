//! An `EventSource` parser for one connection, exactly as WHATWG HTML section 9.2.6 defines it.
//!
//! The last-event-ID buffer is empty at the beginning of each connection. Each blank line copies the buffer to the client's
//! last event ID, even if no event is dispatched because there is no data. Everything after the last blank line is
//! discarded, ids included.

/// One dispatched event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The last-event-ID buffer: the id of this block, or of an earlier one of the connection.
    pub last_id: String,
    /// Whether this block has an id of its own.
    pub has_id: bool,
    pub name: String,
    pub data: String,
}

/// The result of a blank line.
#[derive(Debug, PartialEq, Eq)]
pub enum Dispatch {
    Event(Block),
    /// A block without data, which only sets the last event ID.
    Id(String),
}

#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    /// The previous line ended with a CR, so that a following LF belongs to it.
    was_cr: bool,
    /// Number of complete lines. The first may begin with a byte order mark.
    lines: u64,
    id: String,
    has_id: bool,
    name: String,
    data: String,
    has_data: bool,
    /// The server's last `retry`, in milliseconds.
    pub retry: Option<u64>,
}

impl Parser {
    /// Parses bytes of the stream, and calls `dispatch` for each blank line until it returns false.
    pub fn feed(&mut self, bytes: &[u8], mut dispatch: impl FnMut(Dispatch) -> bool) {
        let mut rest = bytes;
        while let Some(&first) = rest.first() {
            if std::mem::take(&mut self.was_cr) && first == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
                self.line.extend_from_slice(rest);
                return;
            };
            self.line.extend_from_slice(&rest[..end]);
            self.was_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.line);
            let text = String::from_utf8_lossy(&line);
            let text = if self.lines == 0 { text.strip_prefix('\u{feff}').unwrap_or(&text) } else { &text };
            self.lines += 1;
            let dispatched = self.line(text);
            self.line = line;
            self.line.clear();
            if let Some(dispatched) = dispatched
                && !dispatch(dispatched)
            {
                return;
            }
        }
    }

    fn line(&mut self, line: &str) -> Option<Dispatch> {
        if line.is_empty() {
            return Some(self.blank());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
                self.has_data = true;
            }
            "id" if !value.contains('\0') => {
                value.clone_into(&mut self.id);
                self.has_id = true;
            }
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.retry = value.parse().ok();
            }
            _ => {}
        }
        None
    }

    fn blank(&mut self) -> Dispatch {
        let (name, mut data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
        let has_id = std::mem::take(&mut self.has_id);
        if !std::mem::take(&mut self.has_data) {
            return Dispatch::Id(self.id.clone());
        }
        data.pop();
        Dispatch::Event(Block { last_id: self.id.clone(), has_id, name, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pieces: &[&[u8]]) -> (Vec<Dispatch>, Parser) {
        let (mut parser, mut dispatched) = (Parser::default(), Vec::new());
        for piece in pieces {
            parser.feed(piece, |one| {
                dispatched.push(one);
                true
            });
        }
        (dispatched, parser)
    }

    fn event(last_id: &str, has_id: bool, name: &str, data: &str) -> Dispatch {
        let text = str::to_owned;
        Dispatch::Event(Block { last_id: text(last_id), has_id, name: text(name), data: text(data) })
    }

    #[test]
    fn cr_lf_and_crlf_end_lines_at_any_split() {
        let stream = "\u{feff}id: 1\revent:a\r\ndata: x\ndata:  y\r\n\r\n:comment\ndata\n\n".as_bytes();
        let expected = [event("1", true, "a", "x\n y"), event("1", false, "", "")];
        assert_eq!(parse(&[stream]).0, expected);
        for cut in 1..stream.len() {
            assert_eq!(parse(&[&stream[..cut], &stream[cut..]]).0, expected, "cut at {cut}");
        }
    }

    #[test]
    fn block_without_data_sets_last_event_id() {
        let (dispatched, _) = parse(&[b"id: 7\n\nevent: a\ndata: x\n\n"]);
        assert_eq!(dispatched, [Dispatch::Id("7".into()), event("7", false, "a", "x")]);
    }

    #[test]
    fn incomplete_block_is_discarded() {
        assert_eq!(parse(&[b"id: 7\ndata: x\n\nid: 8\ndata: y\n"]).0, [event("7", true, "", "x")]);
    }

    #[test]
    fn id_with_nul_and_non_digit_retry_are_ignored() {
        let (dispatched, parser) = parse(&[b"retry: 10\nretry: +5\nretry:\nid: a\0b\ndata: x\n\n"]);
        assert_eq!((dispatched, parser.retry), (vec![event("", false, "", "x")], Some(10)));
    }

    #[test]
    fn empty_id_clears_last_event_id() {
        assert_eq!(parse(&[b"id: 7\ndata: x\n\nid\ndata: y\n\n"]).0[1], event("", true, "", "y"));
    }
}
