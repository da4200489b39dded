//! The progress bar on a terminal. Standard output is left to the report.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::crowd::Crowd;
use super::timeline::Timeline;

pub struct Progress(ProgressBar);

impl Progress {
    /// `indicatif` hides the bar when standard error is not a terminal, and limits how often it is drawn.
    pub fn new(is_shown: bool) -> Self {
        let bar = if is_shown { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{prefix:>10} {bar:32.cyan/dim} {msg}").expect("a valid template");
        Self(bar.with_style(style.progress_chars("━━─")))
    }

    pub fn prefill(&self, published: u64, of: u64) {
        self.show("prefill", published, of, || format!("{published} of {of} events"));
    }

    pub fn connect(&self, opened: usize, of: usize) {
        self.show("connect", opened as u64, of as u64, || format!("{opened} of {of} streams"));
    }

    pub fn publish(&self, at: u64, of: u64, crowd: &Crowd, timeline: &Timeline) {
        let phase = if timeline.first.at == 0 { "warm up" } else { "measure" };
        self.show(phase, at, of, || {
            let tally = &crowd.checker.tally;
            let seconds = Duration::from_nanos(at).as_secs_f64();
            let faults = tally.duplicated + tally.out_of_order + tally.gaps + tally.corrupted + tally.malformed;
            let point = timeline.points.last();
            let latency = point.map_or(String::new(), |point| format!(", p99 {} µs", point.latency.p99_us));
            let rate = tally.deliveries as f64 / seconds.max(0.001);
            format!("{seconds:.0} s, {rate:.0} deliveries/s{latency}, {faults} faults, {} closed", crowd.closed)
        });
    }

    pub fn drain(&self) {
        self.show("drain", 1, 1, || "events in flight".into());
    }

    pub fn finish(&self) {
        self.0.finish_and_clear();
    }

    fn show(&self, phase: &'static str, at: u64, of: u64, message: impl FnOnce() -> String) {
        if !self.0.is_hidden() {
            self.0.set_prefix(phase);
            self.0.set_length(of);
            self.0.set_message(message());
            self.0.set_position(at);
        }
    }
}
