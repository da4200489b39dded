//! Log lines without characters that a terminal or an editor would obey.
//!
//! What others sent is logged as quoted text, and JSON escapes the control characters below U+0020. What is left does harm
//! as well to whoever looks at a log: the words of an error that repeat what a server elsewhere answered, DEL, the controls
//! of C1, of which U+009B begins a command to the terminal and U+0085 ends a line, the line and paragraph separators, and
//! the marks that turn the direction of writing.

use std::fmt::Write as _;
use std::io::{self, Write};

/// How a line is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// One JSON object.
    Json,
    /// For people.
    Plain,
    /// For people, with the colours of a terminal. The log itself escapes the escape character in what it is given.
    Coloured,
}

/// Writes lines to another writer.
pub struct Printable<W>(pub W, pub Syntax);

impl Syntax {
    fn forbids(self, c: char) -> bool {
        let is_obeyed = c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        is_obeyed && !(self == Self::Coloured && c == '\u{1b}')
    }
}

impl<W: Write> Write for Printable<W> {
    /// Takes whole lines: that is how the log gives them, one for each event.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Self(writer, syntax) = self;
        let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line));
        if !text.contains(|c| syntax.forbids(c)) {
            writer.write_all(line)?;
            return Ok(line.len());
        }
        let mut escaped = String::with_capacity(text.len() + 32);
        for c in text.chars() {
            let _ = match syntax {
                _ if !syntax.forbids(c) => escaped.write_char(c),
                // Outside of its strings JSON has none of them.
                Syntax::Json => write!(escaped, "\\u{:04x}", u32::from(c)),
                _ => write!(escaped, "{}", c.escape_default()),
            };
        }
        escaped.push('\n');
        writer.write_all(escaped.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: &[&str] =
        &["plain", "größe 😀", "a\u{85}b\u{7f}\u{9b}2J", "\u{202e}x\u{2028}\u{2066}", "a\nb\r\tc\u{1b}[0m", ""];

    fn written(line: &str, syntax: Syntax) -> String {
        let mut written = Vec::new();
        Printable(&mut written, syntax).write_all(line.as_bytes()).unwrap();
        String::from_utf8(written).unwrap()
    }

    #[test]
    fn a_json_line_says_the_same_without_what_a_terminal_obeys() {
        for text in TEXTS {
            let line = format!("{}\n", serde_json::json!({"message": text}));
            let written = written(&line, Syntax::Json);
            assert!(!written.trim_end().contains(|c| Syntax::Json.forbids(c)), "{written:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&written).unwrap()["message"], *text);
        }
    }

    #[test]
    fn a_line_for_people_stays_one() {
        for text in TEXTS {
            for syntax in [Syntax::Plain, Syntax::Coloured] {
                let written = written(&format!("INFO {text}\n"), syntax);
                let line = written.strip_suffix('\n').unwrap();
                assert!(!line.contains(|c| syntax.forbids(c)), "{line:?}");
            }
        }
        assert_eq!(written("INFO a\nb\u{9b}2J \u{1b}[0m\n", Syntax::Plain), "INFO a\\nb\\u{9b}2J \\u{1b}[0m\n");
        assert_eq!(written("\u{1b}[32mINFO\u{1b}[0m a\nb\n", Syntax::Coloured), "\u{1b}[32mINFO\u{1b}[0m a\\nb\n");
        assert_eq!(written("INFO größe 😀\n", Syntax::Plain), "INFO größe 😀\n");
    }
}
