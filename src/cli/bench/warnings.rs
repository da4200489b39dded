//! Whether the run was as asked, and whether the load generator and the machine could keep up.

use indicatif::HumanCount as Count;

use super::args::{BenchArgs, Rate};
use super::latency::{Latency, time};
use super::timeline::Window;

/// The share of the events that a run may publish after its window.
const SHORTFALL: f64 = 0.02;
const LATE_MICROSECONDS: u64 = 10_000;
const LOAD_PERCENT: f64 = 90.0;
const OTHERS_PERCENT: f64 = 10.0;
const MACHINE_PERCENT: f64 = 95.0;

/// Why the results do not describe the server alone. `late` is from when events were due until they were sent.
pub fn warnings(args: &BenchArgs, window: &Window, late: &Latency) -> Vec<String> {
    let cpu = &window.cpu;
    let is_load_busy = cpu.load_cpu_percent >= LOAD_PERCENT;
    let mut warnings = Vec::new();
    if let Rate::PerSecond(asked) = args.rate {
        // The last event of each publisher may have its answer after the window.
        let least = asked * window.window_seconds * (1.0 - SHORTFALL) - args.publishers as f64;
        if (window.window_events as f64) < least {
            let (reached, asked) = (rate(window.events_per_second), rate(asked));
            let mut warning = format!("{reached} of {asked} events a second were reached");
            if !is_load_busy {
                let publishers = args.publishers;
                warning += &format!(
                    ": each publisher waits for its answers, and more than --publishers {publishers} may help"
                );
            }
            warnings.push(warning);
        }
    }
    if let (Some(p99 @ LATE_MICROSECONDS..), Some(max)) = (late.quantile(0.99), late.quantile(1.0)) {
        let (p99, max) = (time(p99), time(max));
        warnings.push(format!("events were sent late, which latencies include: p99 {p99}, longest {max}"));
    }
    if is_load_busy {
        let percent = cpu.load_cpu_percent;
        warnings.push(format!("the load generator used {percent:.0} % of a processor, and has one thread"));
    }
    match (cpu.other_cpu_percent, cpu.machine_cpu_percent) {
        (Some(others), _) if others > OTHERS_PERCENT => {
            warnings.push(format!("other programs used {others:.0} % of one processor"));
        }
        (None, Some(machine)) if machine > MACHINE_PERCENT => {
            warnings.push(format!("the processors of this machine were busy for {machine:.0} % of the time"));
        }
        _ => {}
    }
    warnings
}

fn rate(per_second: f64) -> String {
    if per_second < 10.0 { format!("{per_second:.2}") } else { Count(per_second.round() as u64).to_string() }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::timeline::Cpu;
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: BenchArgs,
    }

    /// The warnings of ten seconds at a rate of 1,000, with 4 publishers.
    fn of(window_events: u64, late_ms: u64, cpu: Cpu) -> Vec<String> {
        let args = Line::parse_from(["bench", "--rate", "1000"]).args;
        let events_per_second = window_events as f64 / 10.0;
        let window = Window { window_seconds: 10.0, window_events, events_per_second, cpu, ..Window::default() };
        let mut late = Latency::new(1);
        late.measure(0, 1);
        late.record(0, late_ms * 1_000_000);
        warnings(&args, &window, &late)
    }

    const QUIET: Cpu = Cpu {
        server_cpu_percent: Some(30.0),
        load_cpu_percent: 30.0,
        other_cpu_percent: Some(5.0),
        machine_cpu_percent: Some(33.0),
    };

    #[test]
    fn quiet_run_has_no_warning() {
        assert_eq!(of(9_797, 9, QUIET), [""; 0]);
    }

    #[test]
    fn missed_rate_and_late_events_are_named() {
        assert_eq!(
            of(1_775, 24_000, QUIET),
            [
                "178 of 1,000 events a second were reached: each publisher waits for its answers, and more than --publishers 4 may help",
                "events were sent late, which latencies include: p99 24.00 s, longest 24.00 s",
            ]
        );
    }

    #[test]
    fn busy_processors_are_named() {
        let load = Cpu { load_cpu_percent: 97.2, ..QUIET };
        assert_eq!(of(10_000, 0, load), ["the load generator used 97 % of a processor, and has one thread"]);
        assert_eq!(of(9_000, 0, load)[0], "900 of 1,000 events a second were reached");
        let others = Cpu { other_cpu_percent: Some(120.0), machine_cpu_percent: Some(99.0), ..QUIET };
        assert_eq!(of(10_000, 0, others), ["other programs used 120 % of one processor"]);
        let machine = Cpu { other_cpu_percent: None, ..others };
        assert_eq!(of(10_000, 0, machine), ["the processors of this machine were busy for 99 % of the time"]);
    }
}
