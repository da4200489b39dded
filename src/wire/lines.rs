//! Lines out of a stream of blocks, without copying those that stand in one block, and without holding more than one
//! line's worth of a stream that never ends one.

use bytes::{Buf, Bytes, BytesMut};

/// Cuts blocks into lines that end with LF or CRLF.
pub(crate) struct Lines {
    max_bytes: usize,
    /// The beginning of a line whose end has not come yet.
    open: BytesMut,
    /// The block that is being cut.
    block: Bytes,
    /// Whether the beginning of the open line was refused, and what follows of it is passed over.
    is_refused: bool,
}

/// A line longer than the limit: told as soon as that is known, which may be before its end. It is passed over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Lines {
    /// Lines of at most `max_bytes`, the line's end not counted.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, open: BytesMut::new(), block: Bytes::new(), is_refused: false }
    }

    /// Adds the next block; the lines of the last one must have been taken.
    pub(crate) fn push(&mut self, block: Bytes) {
        debug_assert!(self.block.is_empty());
        self.block = block;
    }

    /// The next line that is complete, without its end; or that there is one that is too long.
    pub(crate) fn next(&mut self) -> Option<Result<Bytes, TooLong>> {
        while let Some(end) = memchr::memchr(b'\n', &self.block) {
            let tail = self.block.split_to(end);
            self.block.advance(1);
            if !std::mem::take(&mut self.is_refused) {
                return Some(self.complete(tail));
            }
        }
        let rest = std::mem::take(&mut self.block);
        if self.is_refused {
            return None;
        }
        // One byte more than the limit, for a CR that may belong to the line's end.
        if self.open.len() + rest.len() > self.max_bytes + 1 {
            self.is_refused = true;
            self.open.clear();
            return Some(Err(TooLong));
        }
        self.open.extend_from_slice(&rest);
        None
    }

    /// Whether a line has begun whose end has not come.
    pub(crate) fn is_within_one(&self) -> bool {
        self.is_refused || !self.open.is_empty()
    }

    /// The last line, when the stream ended without ending it.
    pub(crate) fn finish(&mut self) -> Option<Result<Bytes, TooLong>> {
        debug_assert!(self.block.is_empty());
        if self.open.is_empty() { None } else { Some(self.complete(Bytes::new())) }
    }

    fn complete(&mut self, tail: Bytes) -> Result<Bytes, TooLong> {
        let mut line = if self.open.is_empty() {
            tail
        } else {
            self.open.extend_from_slice(&tail);
            self.open.split().freeze()
        };
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        if line.len() > self.max_bytes { Err(TooLong) } else { Ok(line) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(max_bytes: usize, blocks: &[&'static str]) -> Vec<Result<String, TooLong>> {
        let mut lines = Lines::new(max_bytes);
        let mut found = Vec::new();
        let text = |line: Result<Bytes, _>| line.map(|line| String::from_utf8(line.to_vec()).unwrap());
        for block in blocks {
            lines.push(Bytes::from_static(block.as_bytes()));
            while let Some(line) = lines.next() {
                found.push(text(line));
            }
        }
        found.extend(lines.finish().map(text));
        found
    }

    fn ok(lines: &[&str]) -> Vec<Result<String, TooLong>> {
        lines.iter().map(|&line| Ok(line.to_owned())).collect()
    }

    #[test]
    fn lines_are_found_wherever_the_blocks_end() {
        assert_eq!(cut(9, &["a\nbc\r\n\nd"]), ok(&["a", "bc", "", "d"]));
        assert_eq!(cut(9, &["a", "\nb", "c\r", "\n", "\nd", ""]), ok(&["a", "bc", "", "d"]));
        assert_eq!(cut(9, &[]), ok(&[]));
        assert_eq!(cut(9, &["\n"]), ok(&[""]));
    }

    #[test]
    fn a_line_over_the_limit_is_told_once_and_the_next_one_is_whole() {
        assert_eq!(cut(3, &["abc\nabcd\nab\n"]), [Ok("abc".into()), Err(TooLong), Ok("ab".into())]);
        assert_eq!(cut(3, &["abcde", "fgh", "i\nab\n"]), [Err(TooLong), Ok("ab".into())]);
        assert_eq!(cut(3, &["abc\r", "\nx"]), ok(&["abc", "x"]));
        assert_eq!(cut(3, &["abcdef"]), [Err(TooLong)]);
    }

    #[test]
    fn a_line_that_never_ends_is_not_held() {
        let mut lines = Lines::new(10);
        for block in 0..1000 {
            lines.push(Bytes::from_static(&[b'x'; 1000]));
            assert_eq!(lines.next(), (block == 0).then_some(Err(TooLong)), "it is told at once, and once");
            assert_eq!(lines.next(), None);
            assert!(lines.open.len() <= 11);
        }
    }
}
