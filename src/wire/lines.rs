//! Splits a byte stream into lines, in bounded memory.
//!
//! A line ends with LF or CRLF; the end of the stream ends the last line too. A line that lies in one block is a slice
//! of that block, and only a line that crosses blocks is copied. A line over the limit is reported once, as soon as it
//! is known to be too long, and skipped up to its end.

use std::io::{self, ErrorKind, Read};

use bytes::{Buf, Bytes, BytesMut};

/// The size of one read: the capacity of a pipe on Linux.
const READ_SIZE: usize = 64 * 1024;

/// Cuts blocks of bytes into lines.
///
/// As an iterator it yields the lines that the blocks so far complete, without their ends, or [`LineTooLong`]. After
/// `None` it continues with the next block.
#[derive(Debug)]
pub struct LineSplitter {
    max_bytes: usize,
    /// The beginning of an incomplete line.
    open: BytesMut,
    /// The rest of the newest block.
    block: Bytes,
    /// The open line is too long, which has been reported.
    skips_line: bool,
    finished: bool,
}

/// A line exceeds the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the line is too long")]
pub struct LineTooLong;

impl LineSplitter {
    /// Splits into lines of at most `max_bytes` bytes, not counting the line end.
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, open: BytesMut::new(), block: Bytes::new(), skips_line: false, finished: false }
    }

    /// Adds a block. The lines of the previous block must have been taken.
    pub fn push(&mut self, block: Bytes) {
        debug_assert!(self.block.is_empty());
        self.block = block;
    }

    /// Marks the end of the stream, which completes the last line.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// Adds one read of `input`. Returns false, and finishes, at the end of the input.
    ///
    /// # Errors
    /// The error of the read, unless the read was only interrupted.
    pub fn fill(&mut self, input: &mut impl Read) -> io::Result<bool> {
        let mut buffer = [0; READ_SIZE];
        loop {
            match input.read(&mut buffer) {
                Ok(0) => {
                    self.finish();
                    return Ok(false);
                }
                Ok(length) => {
                    self.push(Bytes::copy_from_slice(&buffer[..length]));
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether a line has begun that is not complete.
    pub fn is_within_line(&self) -> bool {
        self.skips_line || !self.open.is_empty()
    }

    fn complete(&mut self, tail: Bytes) -> Result<Bytes, LineTooLong> {
        let mut line = tail;
        if !self.open.is_empty() {
            self.open.extend_from_slice(&line);
            line = self.open.split().freeze();
        }
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        if line.len() > self.max_bytes { Err(LineTooLong) } else { Ok(line) }
    }
}

impl Iterator for LineSplitter {
    type Item = Result<Bytes, LineTooLong>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(end) = memchr::memchr(b'\n', &self.block) {
            let tail = self.block.split_to(end);
            self.block.advance(1);
            if !std::mem::take(&mut self.skips_line) {
                return Some(self.complete(tail));
            }
        }
        let rest = std::mem::take(&mut self.block);
        if self.skips_line {
            return None;
        }
        // One byte over the limit may be the CR of the line's end.
        if self.open.len() + rest.len() > self.max_bytes + 1 {
            self.skips_line = true;
            self.open.clear();
            return Some(Err(LineTooLong));
        }
        self.open.extend_from_slice(&rest);
        (self.finished && !self.open.is_empty()).then(|| self.complete(Bytes::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Yields one of its blocks at each read.
    struct Blocks<'a>(&'a [&'a [u8]]);

    impl Read for Blocks<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            into[..first.len()].copy_from_slice(first);
            self.0 = rest;
            Ok(first.len())
        }
    }

    type Line = Result<String, LineTooLong>;

    /// The lines that each read completes, and those that the end completes.
    fn reads(max_bytes: usize, blocks: &[&str]) -> Vec<Vec<Line>> {
        let blocks: Vec<_> = blocks.iter().map(|block| block.as_bytes()).collect();
        let mut input = Blocks(&blocks);
        let mut lines = LineSplitter::new(max_bytes);
        let mut reads = Vec::new();
        let mut more = true;
        while more {
            more = lines.fill(&mut input).unwrap();
            let text = |line: Result<Bytes, _>| line.map(|line| String::from_utf8(line.to_vec()).unwrap());
            reads.push(lines.by_ref().map(text).collect());
        }
        reads
    }

    fn split(max_bytes: usize, blocks: &[&str]) -> Vec<Line> {
        reads(max_bytes, blocks).concat()
    }

    fn ok(lines: &[&str]) -> Vec<Line> {
        lines.iter().map(|&line| Ok(line.to_owned())).collect()
    }

    #[test]
    fn lines_are_found_wherever_the_blocks_end() {
        assert_eq!(split(9, &["a\nbc\r\n\nd"]), ok(&["a", "bc", "", "d"]));
        assert_eq!(split(9, &["a", "\nb", "c\r", "\n", "\nd"]), ok(&["a", "bc", "", "d"]));
        assert_eq!(split(9, &[]), ok(&[]));
        assert_eq!(split(9, &["\n"]), ok(&[""]));
    }

    #[test]
    fn each_read_yields_the_lines_it_completes() {
        let reads = reads(10, &["one\ntw", "o\r\n\nthr", "ee"]);
        assert_eq!(reads, [ok(&["one"]), ok(&["two", ""]), ok(&[]), ok(&["three"])]);
    }

    #[test]
    fn line_end_at_end_of_input_makes_no_empty_line() {
        assert_eq!(split(10, &["one\n"]), ok(&["one"]));
    }

    #[test]
    fn line_of_maximum_length_may_end_in_split_crlf() {
        assert_eq!(split(5, &["12345", "\r", "\n12345\n"]), ok(&["12345", "12345"]));
        assert_eq!(split(3, &["abc\r", "\nx"]), ok(&["abc", "x"]));
    }

    #[test]
    fn line_over_the_limit_is_reported_once_and_skipped() {
        assert_eq!(split(3, &["abc\nabcd\nab\n"]), [Ok("abc".into()), Err(LineTooLong), Ok("ab".into())]);
        assert_eq!(split(3, &["abcde", "fgh", "i\nab\n"]), [Err(LineTooLong), Ok("ab".into())]);
        assert_eq!(split(3, &["abcdef"]), [Err(LineTooLong)]);
        assert_eq!(split(3, &["abcd"]), [Err(LineTooLong)]);
    }

    #[test]
    fn line_over_the_limit_is_reported_by_the_read_that_exceeds_it() {
        let reads = reads(5, &["1234567", "89", "0\nok\n", "1234567"]);
        assert_eq!(reads, [vec![Err(LineTooLong)], vec![], ok(&["ok"]), vec![Err(LineTooLong)], vec![]]);
    }

    #[test]
    fn endless_line_takes_bounded_memory() {
        let mut lines = LineSplitter::new(10);
        for block in 0..1000 {
            lines.push(Bytes::from_static(&[b'x'; 1000]));
            assert_eq!(lines.next(), (block == 0).then_some(Err(LineTooLong)), "reported at once, and once");
            assert_eq!(lines.next(), None);
            assert!(lines.open.len() <= 11);
        }
    }
}
