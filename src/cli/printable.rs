//! Log lines for programs, without characters that a terminal or an editor would obey.
//!
//! JSON must escape the control characters below U+0020 only. What is left does harm as well to whoever looks at a log:
//! DEL, the controls of C1, of which U+009B begins a command to the terminal and U+0085 ends a line, the line and paragraph
//! separators, and the marks that turn the direction of writing.

use std::fmt::Write as _;
use std::io::{self, Write};

/// Writes JSON to another writer.
pub struct Printable<W>(pub W);

fn is_obeyed(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

impl<W: Write> Write for Printable<W> {
    /// Takes whole lines: that is how the log gives them, one for each event.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        if !text.contains(is_obeyed) {
            self.0.write_all(line)?;
            return Ok(line.len());
        }
        let mut escaped = String::with_capacity(text.len() + 32);
        for c in text.chars() {
            // Outside of its strings JSON has none of them.
            if is_obeyed(c) {
                let _ = write!(escaped, "\\u{:04x}", u32::from(c));
            } else {
                escaped.push(c);
            }
        }
        self.0.write_all(escaped.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_the_same_without_what_a_terminal_obeys() {
        for text in ["plain", "größe 😀", "a\u{85}b\u{7f}\u{9b}2J", "\u{202e}x\u{2028}\u{2066}", "\n\t\u{1b}[0m"] {
            let line = format!("{}\n", serde_json::json!({"message": text}));
            let mut written = Vec::new();
            Printable(&mut written).write_all(line.as_bytes()).unwrap();
            let written = String::from_utf8(written).unwrap();
            assert!(!written.trim_end().contains(is_obeyed), "{written:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&written).unwrap()["message"], text);
            assert!(written == line || text.contains(is_obeyed));
        }
    }
}
