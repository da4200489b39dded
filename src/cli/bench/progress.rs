//! The progress bar on a terminal. Standard output is left to the report.

use indicatif::{ProgressBar, ProgressStyle};

pub struct Progress(ProgressBar);

impl Progress {
    /// `indicatif` hides the bar when standard error is not a terminal, and limits how often it is drawn.
    pub fn new(is_shown: bool) -> Self {
        let bar = if is_shown { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{prefix:>10} {bar:32.cyan/dim} {msg}").expect("a valid template");
        Self(bar.with_style(style.progress_chars("━━─")))
    }

    pub fn show(&self, phase: &'static str, at: u64, of: u64, message: impl FnOnce() -> String) {
        if !self.0.is_hidden() {
            self.0.set_prefix(phase);
            self.0.set_length(of);
            self.0.set_message(message());
            self.0.set_position(at);
        }
    }

    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}
