//! A verdict for people.

use std::io::{self, Write};

use crate::verdict::Verdict;

pub fn write(out: &mut impl Write, v: &Verdict) -> io::Result<()> {
    let mut row = |name: &str, value: String| writeln!(out, "{name:<26} {value}");
    row("clients", format!("{} (and {} stuck)", v.clients, v.stuck))?;
    row("connect", format!("{:.3} s to the last head, {:.3} s to the last hello", v.connect_seconds, v.hello_seconds))?;
    row("turned away", format!("ListenOverflows +{}, ListenDrops +{}", v.listen_overflows, v.listen_drops))?;
    row("memory (VmRSS)", memory(v))?;
    if v.events_sent > 0 {
        row(
            "events",
            format!("{} sent, {} published, {} failed", v.events_sent, v.events_published, v.publish_failures),
        )?;
        row(
            "streams",
            format!(
                "{} deliveries; {} lost, {} duplicated, {} disordered, {} gaps, {} malformed, {} contradictions, {} closed",
                v.deliveries, v.lost, v.duplicated, v.disordered, v.gaps, v.malformed, v.contradictions, v.closed
            ),
        )?;
        row("besides", format!("{} heartbeats, {} comments, {} foreign events", v.heartbeats, v.comments, v.foreign))?;
        row(
            "measured window",
            format!(
                "{:.2} s, {} events, {} deliveries, {:.0} a second",
                v.window_seconds, v.window_events, v.window_deliveries, v.deliveries_per_second
            ),
        )?;
        row(
            "latency from due, µs",
            format!(
                "p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
                v.latency_p50_us, v.latency_p90_us, v.latency_p99_us, v.latency_p999_us, v.latency_max_us
            ),
        )?;
        row("sent late by, µs", format!("p99 {}  max {}", v.late_send_p99_us, v.late_send_max_us))?;
        if let (Some(each), Some(rate), Some(busy)) =
            (v.server_cpu_us_per_delivery, v.deliveries_per_cpu_second, v.server_cpu_percent)
        {
            row("server CPU", format!("{each:.3} µs a delivery, {rate:.0} deliveries a CPU-second, {busy:.1} % busy"))?;
        }
        row("load generator CPU", format!("{:.1} % busy", v.load_cpu_percent))?;
        if let Some(other) = v.other_cpu_percent {
            row("CPU used by others", format!("{other:.1} % of one processor"))?;
        }
    }
    if v.stuck > 0 {
        row("stuck clients", format!("{} bytes wait unsent, {} cut off", v.stuck_unsent_bytes, v.stuck_closed))?;
    }
    row("verdict", if v.ok { "every stream whole".into() } else { "NOT WHOLE".into() })
}

fn memory(v: &Verdict) -> String {
    let kilobytes = |value: Option<u64>| value.map_or("?".to_owned(), |value| value.to_string());
    let each = v.rss_bytes_per_client.map_or("?".to_owned(), |bytes| format!("{bytes:.0}"));
    format!(
        "{} KB before, {} KB connected, {} KB at the end; {each} bytes a client",
        kilobytes(v.rss_before_kb),
        kilobytes(v.rss_connected_kb),
        kilobytes(v.rss_end_kb)
    )
}
