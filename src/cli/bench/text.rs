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
    if report.compressed > 0 {
        let ratio = report.bytes_decoded as f64 / report.bytes_received as f64;
        row(
            "compression",
            format!("{} streams, {ratio:.2} bytes from each that was received", Count(report.compressed as u64)),
        )?;
    }
    let window = &report.window;
    let [events, rate] =
        [window.events_per_second, window.deliveries_per_second].map(|rate| Count(rate.round() as u64));
    row("measured", format!("{:.2} s, {events} events a second, {rate} deliveries a second", window.window_seconds))?;
    let nothing = "nothing was delivered in the measured time".to_owned();
    row("latency", if report.latency.is_known() { report.latency.to_string() } else { nothing })?;
    for (name, quantiles) in [("last subscriber", &report.last_client), ("sent late by", &report.late_send)] {
        if quantiles.is_known() {
            row(name, quantiles.to_string())?;
        }
    }
    if let Some(busy) = window.cpu.server_cpu_percent {
        let each = window.server_cpu_us_per_delivery.map(|each| format!(", {each:.3} µs a delivery"));
        let rate = window.deliveries_per_cpu_second.map(|rate| format!(", {} a CPU-second", Count(rate as u64)));
        row("server CPU", format!("{busy:.1} %{}{}", each.unwrap_or_default(), rate.unwrap_or_default()))?;
    }
    let memory = &report.memory;
    if let (Some(before), Some(connected), Some(end)) =
        (memory.rss_before_kb, memory.rss_connected_kb, memory.rss_end_kb)
    {
        let each = memory.rss_bytes_per_client.map(|each| format!("; {each:.0} bytes a subscriber"));
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
