//! The progress bar, for whoever looks at a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::crowd::Crowd;
use super::timeline::Timeline;

const STEP: Duration = Duration::from_millis(200);

/// What a run shows while it goes on. Standard output stays the report's.
pub struct Progress {
    bar: ProgressBar,
    phase: &'static str,
    next: Instant,
}

impl Progress {
    /// `indicatif` hides the bar where standard error is no terminal.
    pub fn new(is_shown: bool) -> Self {
        let bar = if is_shown { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let style =
            ProgressStyle::with_template("{prefix:>10} {bar:32.cyan/dim} {msg}").expect("the template is right");
        bar.set_style(style.progress_chars("━━─"));
        Self { bar, phase: "", next: Instant::now() }
    }

    pub fn prefill(&mut self, published: u64, of: u64) {
        self.show("prefill", published, of, || format!("{published} of {of} events"));
    }

    pub fn connect(&mut self, opened: usize, of: usize) {
        self.show("connect", opened as u64, of as u64, || format!("{opened} of {of} streams"));
    }

    pub fn publish(&mut self, at: u64, of: u64, crowd: &Crowd, timeline: &Timeline) {
        let phase = if timeline.first.at == 0 { "warm up" } else { "measure" };
        self.show(phase, at, of, || {
            let tally = &crowd.checker.tally;
            let seconds = Duration::from_nanos(at).as_secs_f64();
            let wrong = tally.duplicated + tally.out_of_order + tally.gaps + tally.corrupted + tally.malformed;
            let point = timeline.points.last();
            let latency = point.map_or(String::new(), |point| format!(", p99 {} µs", point.latency.p99_us));
            let rate = tally.deliveries as f64 / seconds.max(0.001);
            format!("{seconds:.0} s, {rate:.0} deliveries/s{latency}, {wrong} faults, {} closed", crowd.closed)
        });
    }

    pub fn drain(&mut self) {
        self.show("drain", 1, 1, || "what is under way".into());
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn show(&mut self, phase: &'static str, at: u64, of: u64, message: impl FnOnce() -> String) {
        let now = Instant::now();
        if self.bar.is_hidden() || (self.phase == phase && now < self.next) {
            return;
        }
        self.phase = phase;
        self.next = now + STEP;
        self.bar.set_prefix(phase);
        self.bar.set_length(of);
        self.bar.set_position(at);
        self.bar.set_message(message());
    }
}
