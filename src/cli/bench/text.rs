//! The report for people, as text.

use std::io::{self, Write};

use indicatif::HumanCount as Count;

use super::report::Report;

/// Writes the report.
pub fn write(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let mut row = |name: &str, value: String| writeln!(out, "{name:<20} {value}");
    let connected = format!("{} of {}", Count(report.connected as u64), Count(report.clients as u64));
    row("subscribers", format!("{connected} connected in {:.3} s", report.connect_seconds))?;
    if let (Some(seconds), Some(deliveries)) = (report.replay_seconds, report.replay_deliveries) {
        let rate = Count((deliveries as f64 / seconds) as u64);
        row("replay", format!("{} deliveries in {seconds:.3} s, {rate} a second", Count(deliveries)))?;
    }
    let published = Count(report.events_published);
    row("events", format!("{} sent, {published} published", Count(report.events_sent)))?;
    row("deliveries", Count(report.tally.deliveries).to_string())?;
    row("measured", measured(report))?;
    row("latency", latency(report))?;
    if let (Some(p50), Some(p99), Some(max)) =
        (report.last_client_p50_us, report.last_client_p99_us, report.last_client_max_us)
    {
        row("last subscriber", format!("p50 {}  p99 {}  max {}", time(p50), time(p99), time(max)))?;
    }
    if let (Some(p99), Some(max)) = (report.late_send_p99_us, report.late_send_max_us) {
        row("sent late by", format!("p99 {}  max {}", time(p99), time(max)))?;
    }
    let window = &report.window;
    if let Some(busy) = window.cpu.server_cpu_percent {
        let each = window.server_cpu_us_per_delivery.map(|each| format!(", {each:.3} µs a delivery"));
        let rate = window.deliveries_per_cpu_second.map(|rate| format!(", {} a CPU-second", Count(rate as u64)));
        row("server CPU", format!("{busy:.1} %{}{}", each.unwrap_or_default(), rate.unwrap_or_default()))?;
    }
    let memory = &report.memory;
    if let (Some(before), Some(connected), Some(end)) =
        (memory.rss_before_kb, memory.rss_connected_kb, memory.rss_end_kb)
    {
        let each = report.rss_bytes_per_client.map(|each| format!("; {each:.0} bytes a subscriber"));
        let [before, connected, end] = [before, connected, end].map(Count);
        let steps = format!("{before} KB before, {connected} KB connected, {end} KB at the end");
        row("server memory", steps + &each.unwrap_or_default())?;
    }
    let others = window.cpu.other_cpu_percent.map(|others| format!(", others {others:.1} %"));
    row("load generator CPU", format!("{:.1} %{}", window.cpu.load_cpu_percent, others.unwrap_or_default()))?;
    for warning in &report.warnings {
        row("warning", warning.clone())?;
    }
    for problem in &report.problems {
        row("problem", format!("{} × {}", Count(problem.count), problem.what))?;
    }
    row("verdict", verdict(report))
}

/// Whether the run succeeded, in a sentence.
pub fn verdict(report: &Report) -> String {
    let faults = report.faults().into_iter().filter(|(_, count)| *count > 0);
    let faults: Vec<_> = faults.map(|(name, count)| format!("{name} {}", Count(count))).collect();
    let early = if report.interrupted { " (interrupted)" } else { "" };
    if faults.is_empty() {
        let but = if report.warnings.is_empty() { "" } else { ", but see the warnings" };
        format!("every stream whole{but}{early}")
    } else {
        format!("NOT WHOLE{early}: {}", faults.join(", "))
    }
}

fn measured(report: &Report) -> String {
    format!(
        "{:.2} s, {} events a second, {} deliveries a second",
        report.window.window_seconds,
        Count(report.window.events_per_second.round() as u64),
        Count(report.window.deliveries_per_second.round() as u64)
    )
}

fn latency(report: &Report) -> String {
    let points = [
        ("p50", report.latency_p50_us),
        ("p90", report.latency_p90_us),
        ("p99", report.latency_p99_us),
        ("p99.9", report.latency_p999_us),
        ("max", report.latency_max_us),
    ];
    let points: Vec<_> = points.iter().filter_map(|(name, us)| us.map(|us| format!("{name} {}", time(us)))).collect();
    if points.is_empty() { "nothing was delivered in the measured time".into() } else { points.join("  ") }
}

/// Microseconds with the unit that needs the fewest digits.
pub fn time(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.2} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!([0, 999, 1000, 1_234_567].map(|n| Count(n).to_string()), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 999, 1_500, 2_500_000].map(time), ["0 µs", "999 µs", "1.50 ms", "2.50 s"]);
    }
}
