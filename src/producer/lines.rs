//! Splits an input into lines, in bounded memory.

use std::io::{ErrorKind, Read, Result};

/// How much is asked for with one read call: what a pipe of Linux holds.
const BLOCK: usize = 64 * 1024;

/// The lines of an input.
///
/// [`Lines::fill`] reads once, [`Lines::next`] then yields the lines that are complete. A line is borrowed from the
/// buffer; only the incomplete one at the end of a block is moved, to the front, before the next read. At most `longest`
/// bytes of a line are ever held, and one block.
#[derive(Debug)]
pub struct Lines<R> {
    input: R,
    longest: usize,
    buffer: Vec<u8>,
    /// Where the line that is read next begins.
    start: usize,
    /// Up to where there is no line end after `start`.
    searched: usize,
    /// Up to where the buffer was filled.
    filled: usize,
    /// Line ends passed so far.
    passed: u64,
    /// Whether the rest of a line is passed over because it was too long.
    in_long_line: bool,
    ended: bool,
}

/// A line.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// Its bytes, without LF or CRLF.
    Whole(&'a [u8]),
    /// It has more bytes than are held. It is said once, as soon as it is known.
    TooLong,
}

impl<R: Read> Lines<R> {
    /// The lines of `input`, of at most `longest` bytes without their ends.
    pub fn new(input: R, longest: usize) -> Self {
        Self {
            input,
            longest,
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            filled: 0,
            passed: 0,
            in_long_line: false,
            ended: false,
        }
    }

    /// Reads once; false at the end of the input. All complete lines have been taken before.
    ///
    /// # Errors
    /// What the input says, but for an interruption.
    pub fn fill(&mut self) -> Result<bool> {
        self.buffer.copy_within(self.start..self.filled, 0);
        self.filled -= self.start;
        self.searched -= self.start;
        self.start = 0;
        if self.buffer.len() < self.filled + BLOCK {
            self.buffer.resize(self.filled + BLOCK, 0);
        }
        let read = loop {
            match self.input.read(&mut self.buffer[self.filled..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.filled += read;
        self.ended = read == 0;
        Ok(read > 0)
    }

    /// The next line that is complete, with its number, counted from 1. At the end of the input the last line is
    /// complete without a line end.
    pub fn next(&mut self) -> Option<(u64, Line<'_>)> {
        loop {
            let Some(found) = memchr::memchr(b'\n', &self.buffer[self.searched..self.filled]) else {
                return self.incomplete();
            };
            let (start, end) = (self.start, self.searched + found);
            self.start = end + 1;
            self.searched = self.start;
            self.passed += 1;
            if !std::mem::take(&mut self.in_long_line) {
                let line = &self.buffer[start..end];
                return Some((self.passed, self.measured(line.strip_suffix(b"\r").unwrap_or(line))));
            }
        }
    }

    fn incomplete(&mut self) -> Option<(u64, Line<'_>)> {
        let (start, end) = (self.start, self.filled);
        self.searched = end;
        // One byte more than the longest: it may be the CR of a line end that has not arrived.
        let too_long = end - start > self.longest + 1;
        if self.in_long_line || too_long || self.ended {
            self.start = end;
        }
        let number = self.passed + 1;
        if self.in_long_line {
            None
        } else if too_long {
            self.in_long_line = true;
            Some((number, Line::TooLong))
        } else if self.ended && end > start {
            Some((number, self.measured(&self.buffer[start..end])))
        } else {
            None
        }
    }

    fn measured<'a>(&self, line: &'a [u8]) -> Line<'a> {
        if line.len() > self.longest { Line::TooLong } else { Line::Whole(line) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Yields the pieces, one for each read call.
    struct Pieces<'a>(&'a [&'a [u8]]);

    impl Read for Pieces<'_> {
        fn read(&mut self, into: &mut [u8]) -> Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            into[..first.len()].copy_from_slice(first);
            self.0 = rest;
            Ok(first.len())
        }
    }

    /// What each read call yields: the lines as text, `None` for one that is too long.
    fn split(pieces: &[&[u8]], longest: usize) -> Vec<Vec<(u64, Option<String>)>> {
        let mut lines = Lines::new(Pieces(pieces), longest);
        let mut reads = Vec::new();
        loop {
            let more = lines.fill().unwrap();
            let mut read = Vec::new();
            while let Some((number, line)) = lines.next() {
                read.push((
                    number,
                    match line {
                        Line::Whole(line) => Some(String::from_utf8(line.to_vec()).unwrap()),
                        Line::TooLong => None,
                    },
                ));
            }
            reads.push(read);
            if !more {
                return reads;
            }
        }
    }

    fn line(number: u64, text: &str) -> (u64, Option<String>) {
        (number, Some(text.to_owned()))
    }

    #[test]
    fn lines_are_yielded_by_the_read_call_that_completes_them() {
        let reads = split(&[b"one\ntw", b"o\r\n\nthr", b"ee"], 10);
        assert_eq!(reads, [vec![line(1, "one")], vec![line(2, "two"), line(3, "")], vec![], vec![line(4, "three")]]);
    }

    #[test]
    fn a_line_end_at_the_end_of_the_input_makes_no_empty_line() {
        assert_eq!(split(&[b"one\n"], 10).concat(), [line(1, "one")]);
        assert_eq!(split(&[], 10).concat(), []);
    }

    #[test]
    fn a_line_of_the_longest_length_may_end_in_crlf_that_comes_apart() {
        assert_eq!(split(&[b"12345", b"\r", b"\n12345\n"], 5).concat(), [line(1, "12345"), line(2, "12345")]);
    }

    #[test]
    fn a_line_that_is_too_long_is_said_once_and_passed_over() {
        assert_eq!(split(&[b"123456\nok\n"], 5).concat(), [(1, None), line(2, "ok")]);
        let reads = split(&[b"1234567", b"89", b"0\nok\n", b"1234567"], 5);
        assert_eq!(reads, [vec![(1, None)], vec![], vec![line(2, "ok")], vec![(3, None)], vec![]]);
        assert_eq!(split(&[b"123456"], 5).concat(), [(1, None)]);
    }

    #[test]
    fn an_endless_line_is_not_held() {
        let mut lines = Lines::new(std::io::repeat(b'x'), 100_000);
        for _ in 0..100 {
            lines.fill().unwrap();
            while lines.next().is_some() {}
        }
        assert!(lines.buffer.len() <= 100_001 + BLOCK, "{}", lines.buffer.len());
    }
}
