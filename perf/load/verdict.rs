//! What a run showed, as numbers.

use std::io;

use serde::Serialize;

use crate::client::Phase;
use crate::run::Run;

#[derive(Serialize)]
pub struct Verdict {
    pub ok: bool,
    pub clients: usize,
    pub stuck: usize,
    pub connect_seconds: f64,
    pub hello_seconds: f64,
    pub listen_overflows: u64,
    pub listen_drops: u64,
    pub events_sent: usize,
    pub events_published: u64,
    pub publish_failures: u64,
    pub deliveries: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub disordered: u64,
    pub gaps: u64,
    pub malformed: u64,
    pub contradictions: u64,
    pub closed: u64,
    pub heartbeats: u64,
    pub comments: u64,
    pub foreign: u64,
    pub window_seconds: f64,
    pub window_events: u64,
    pub window_deliveries: u64,
    pub deliveries_per_second: f64,
    pub latency_p50_us: u64,
    pub latency_p90_us: u64,
    pub latency_p99_us: u64,
    pub latency_p999_us: u64,
    pub latency_max_us: u64,
    pub late_send_p99_us: u64,
    pub late_send_max_us: u64,
    pub server_cpu_us_per_delivery: Option<f64>,
    pub deliveries_per_cpu_second: Option<f64>,
    pub server_cpu_percent: Option<f64>,
    pub load_cpu_percent: f64,
    /// Of one processor: what neither the server nor the load generator used. It makes the other numbers worse.
    pub other_cpu_percent: Option<f64>,
    pub rss_before_kb: Option<u64>,
    pub rss_connected_kb: Option<u64>,
    pub rss_end_kb: Option<u64>,
    pub rss_bytes_per_client: Option<f64>,
    /// Bytes that wait in the server's sockets of stuck clients.
    pub stuck_unsent_bytes: u64,
    /// Stuck clients that the server has cut off.
    pub stuck_closed: usize,
}

impl Verdict {
    pub fn of(run: &Run) -> io::Result<Self> {
        let tally = &run.checker.tally;
        let journal = &run.checker.journal;
        let latency = &run.checker.latency;
        let (first, last) = run.window;
        let seconds = (last.at - first.at) as f64 / 1e9;
        let deliveries = last.deliveries - first.deliveries;
        let cpu = last.server_cpu.zip(first.server_cpu).map(|(last, first)| (last - first) as f64);
        let turned_away = run.turned_away()?;
        let memory = &run.memory;
        let held = run.clients.len() + run.stuck.len();
        let growth = memory.connected.zip(memory.before).map(|(after, before)| (after as f64 - before as f64) * 1024.0);
        let (stuck_unsent_bytes, stuck_closed) = run.stuck.unsent(run.options.target)?;
        let (order_faults, published_twice) = faults_of_order(run);
        let mut verdict = Self {
            ok: false,
            clients: run.clients.len(),
            stuck: run.stuck.len(),
            connect_seconds: run.heads_time.as_secs_f64(),
            hello_seconds: run.hello_time.as_secs_f64(),
            listen_overflows: turned_away.overflows,
            listen_drops: turned_away.drops,
            events_sent: run.senders.len(),
            events_published: run.published,
            publish_failures: run.senders.len() as u64 - run.published,
            deliveries: tally.deliveries,
            lost: run.clients.iter().map(|client| client.stream.lost(journal)).sum(),
            duplicated: tally.duplicated + published_twice,
            disordered: tally.disordered + order_faults,
            gaps: tally.gaps,
            malformed: tally.malformed,
            contradictions: journal.contradictions,
            closed: run.clients.iter().filter(|client| client.phase == Phase::Closed).count() as u64,
            heartbeats: tally.heartbeats,
            comments: tally.comments,
            foreign: tally.foreign,
            window_seconds: seconds,
            window_events: last.published - first.published,
            window_deliveries: deliveries,
            deliveries_per_second: ratio(deliveries as f64, seconds).unwrap_or(0.0),
            latency_p50_us: latency.quantile(0.5),
            latency_p90_us: latency.quantile(0.9),
            latency_p99_us: latency.quantile(0.99),
            latency_p999_us: latency.quantile(0.999),
            latency_max_us: latency.highest(),
            late_send_p99_us: run.lateness.quantile(0.99),
            late_send_max_us: run.lateness.highest(),
            server_cpu_us_per_delivery: cpu.and_then(|cpu| ratio(cpu / 1e3, deliveries as f64)),
            deliveries_per_cpu_second: cpu.and_then(|cpu| ratio(deliveries as f64, cpu / 1e9)),
            server_cpu_percent: cpu.and_then(|cpu| ratio(cpu / 1e7, seconds)),
            load_cpu_percent: ratio((last.own_cpu - first.own_cpu) as f64 / 1e7, seconds).unwrap_or(0.0),
            other_cpu_percent: cpu.and_then(|cpu| {
                let own = (last.own_cpu - first.own_cpu) as f64;
                ratio(((last.all_cpu - first.all_cpu) as f64 - own - cpu).max(0.0) / 1e7, seconds)
            }),
            rss_before_kb: memory.before,
            rss_connected_kb: memory.connected,
            rss_end_kb: memory.end,
            rss_bytes_per_client: growth.and_then(|bytes| ratio(bytes, held as f64)),
            stuck_unsent_bytes,
            stuck_closed,
        };
        verdict.ok = [
            verdict.publish_failures,
            verdict.lost,
            verdict.duplicated,
            verdict.disordered,
            verdict.gaps,
            verdict.malformed,
            verdict.contradictions,
            verdict.closed,
        ]
        .iter()
        .all(|faults| *faults == 0);
        Ok(verdict)
    }
}

/// Events whose sequence does not follow their publisher's order, and events that have two sequences.
fn faults_of_order(run: &Run) -> (u64, u64) {
    let mut newest: Vec<Option<u64>> = vec![None; run.options.publishers];
    let mut seen = vec![false; run.senders.len()];
    let (mut disordered, mut twice) = (0, 0);
    for number in run.checker.journal.order() {
        let Some(sender) = usize::try_from(number).ok().and_then(|number| run.senders.get(number)) else {
            disordered += 1;
            continue;
        };
        if std::mem::replace(&mut seen[number as usize], true) {
            twice += 1;
        } else if newest[*sender].replace(number).is_some_and(|newest| newest > number) {
            disordered += 1;
        }
    }
    (disordered, twice)
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}
