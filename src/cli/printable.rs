//! Escapes characters in lines that terminals or editors interpret.
//!
//! Client input is logged quoted, and JSON escapes the control characters below U+0020. Other text, such as errors of
//! other servers, may still have harmful characters: DEL, the C1 controls (U+009B starts a terminal command, U+0085
//! ends a line), line and paragraph separators, and marks that change the writing direction.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

/// The format of log lines.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// One JSON object.
    Json,
    /// Plain text.
    Plain,
    /// Text with terminal colours. The log escapes the escape characters in its arguments.
    Coloured,
}

/// Writes escaped lines to another writer.
pub struct Printable<W>(pub W, pub Syntax);

impl Syntax {
    fn forbids(self, c: char) -> bool {
        let is_interpreted = c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        is_interpreted && !(self == Self::Coloured && c == '\u{1b}')
    }

    fn escape(self, text: Cow<'_, str>) -> Cow<'_, str> {
        if !text.contains(|c| self.forbids(c)) {
            return text;
        }
        let mut escaped = String::with_capacity(text.len() + 32);
        for c in text.chars() {
            let _ = match self {
                _ if !self.forbids(c) => escaped.write_char(c),
                // In JSON they occur only inside strings.
                Self::Json => write!(escaped, "\\u{:04x}", u32::from(c)),
                _ => write!(escaped, "{}", c.escape_default()),
            };
        }
        escaped.into()
    }
}

/// Returns `text` as one line that a terminal shows as it is.
pub fn escape(text: &str) -> Cow<'_, str> {
    Syntax::Plain.escape(text.into())
}

impl<W: Write> Write for Printable<W> {
    /// Takes whole lines, as the log writes them.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line));
        match self.1.escape(text) {
            Cow::Borrowed(_) => self.0.write_all(line)?,
            Cow::Owned(escaped) => self.0.write_all((escaped + "\n").as_bytes())?,
        }
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
    fn json_line_has_the_same_value_after_escaping() {
        for text in TEXTS {
            let line = format!("{}\n", serde_json::json!({"message": text}));
            let written = written(&line, Syntax::Json);
            assert!(!written.trim_end().contains(|c| Syntax::Json.forbids(c)), "{written:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&written).unwrap()["message"], *text);
        }
    }

    #[test]
    fn text_line_stays_one_line() {
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
