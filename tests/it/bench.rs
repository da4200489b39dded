//! `fanline bench` against fanline, and against another server that can be made to misbehave.

mod compression;
mod gateway;
mod http2;
mod page;
mod peer;
mod websocket;

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Process, Server, TIMEOUT, fanline};
use peer::{Fault, Framing, Peer};

/// Runs `fanline bench ARGS… --json`. Returns the exit code, the report (null without one) and standard error.
fn bench(args: &[&str]) -> (Option<i32>, Value, String) {
    let (code, stdout, stderr) = Process::run(fanline(&[&["bench", "--json"], args].concat()));
    let report =
        if stdout.is_empty() { Value::Null } else { serde_json::from_str(&stdout).expect("the report is JSON") };
    (code, report, stderr)
}

/// Runs it against `peer`, with custom URLs and bodies.
fn bench_peer(peer: &Peer, args: &[&str]) -> (Option<i32>, Value, String) {
    bench_peer_at(peer.address, peer.address, args)
}

/// Runs it with subscribers at one address of a peer and publishers at another.
fn bench_peer_at(sse: SocketAddr, publish: SocketAddr, args: &[&str]) -> (Option<i32>, Value, String) {
    let sse = format!("http://{sse}/sub/{{topic}}");
    let publish = format!("http://{publish}/pub?channel={{topic}}");
    let to_peer = ["--sse-url", &sse, "--publish-url", &publish, "--method", "put", "--body", "<m>{data}</m>"];
    let form = ["--content-type", "text/xml", "--warmup", "0", "--patience", "6"];
    bench(&[&to_peer, &form[..], args].concat())
}

const SHORT: [&str; 8] = ["--clients", "5", "--publishers", "2", "--rate", "200", "--duration", "0.5"];

/// A short run against a misbehaving server, with either framing.
fn faulty(fault: Fault) -> Vec<(Option<i32>, Value, String)> {
    [Framing::Chunks, Framing::Plain].map(|framing| bench_peer(&Peer::start(framing, fault), &SHORT)).into()
}

/// The nonzero fault counts of a report.
fn faults(report: &Value) -> Vec<(&str, u64)> {
    let names = [
        "lost",
        "duplicated",
        "out_of_order",
        "ids_out_of_order",
        "gaps",
        "corrupted",
        "malformed",
        "closed",
        "refused",
    ];
    let more = ["unconnected", "publish_failures", "events_unsent"];
    let count = |name: &'static str| (name, report[name].as_u64().unwrap_or_else(|| panic!("{name} in {report}")));
    names.into_iter().chain(more).map(count).filter(|(_, count)| *count > 0).collect()
}

/// The problems of a report, as text.
fn problems(report: &Value) -> String {
    report["problems"].to_string()
}

/// Figures that are positive in a report of a short run.
const POSITIVE: [&str; 15] = [
    "connect_seconds",
    "window_seconds",
    "events_per_second",
    "deliveries_per_second",
    "latency_mean_us",
    "server_cpu_us_per_delivery",
    "deliveries_per_cpu_second",
    "server_cpu_percent",
    "load_cpu_percent",
    "rss_before_kb",
    "rss_connected_kb",
    "rss_end_kb",
    "slab_before_kb",
    "slab_connected_kb",
    "bytes_received",
];

/// Figures that may be 0.
const NUMBERS: [&str; 7] = [
    "listen_drops",
    "other_cpu_percent",
    "machine_cpu_percent",
    "late_send_p99_us",
    "heartbeats",
    "comments",
    "rss_bytes_per_client",
];

#[test]
fn faultless_run_reports_every_figure() {
    let server = Server::start(&[]);
    let pid = server.pid().to_string();
    let load = "--clients 20 --topics 4 --topics-per-client 2 --rate 400 --distribution zipf --warmup 0.2 --duration 1";
    let url = server.url();
    let args: Vec<_> = load.split(' ').chain(["--url", &url, "--pid", &pid]).collect();
    let (code, report, stderr) = bench(&args);
    assert_eq!((code, faults(&report), stderr.as_str()), (Some(0), vec![], ""), "{report}");
    assert_eq!((&report["ok"], &report["interrupted"]), (&true.into(), &false.into()));
    assert_eq!((&report["clients"], &report["connected"]), (&20.into(), &20.into()));
    let number = |name: &str| report[name].as_f64().unwrap_or_else(|| panic!("{name} is not a number in {report}"));
    // 480 events. Each topic has 10 of the 20 subscribers.
    assert_eq!((number("events_sent"), number("events_published"), number("deliveries")), (480.0, 480.0, 4800.0));
    for name in POSITIVE {
        assert!(number(name) > 0.0, "{name} in {report}");
    }
    for name in NUMBERS {
        number(name);
    }
    let latencies = ["p50", "p90", "p99", "p999", "max"].map(|name| number(&format!("latency_{name}_us")));
    assert!(latencies.is_sorted() && latencies[0] > 0.0, "{latencies:?}");
    // With four topics and two groups of subscribers, no single one is the last.
    assert!(report["last_client_p50_us"].is_null() && report["replay_seconds"].is_null());
    assert_eq!(report["options"]["sse_url"], format!("{}/stream?topics={{topics}}", server.url()));
    assert_eq!((&report["options"]["rate"], &report["options"]["distribution"]), (&400.0.into(), &"zipf".into()));

    let timeline = report["timeline"].as_array().expect("a list");
    assert!((4..=6).contains(&timeline.len()), "{timeline:?}");
    let sum = |name: &str| -> u64 { timeline.iter().map(|point| point[name].as_u64().expect("a count")).sum() };
    assert_eq!(sum("deliveries") as f64, number("window_deliveries"));
    assert_eq!(sum("events") as f64, number("window_events"));
    assert!(timeline.iter().all(|point| point["rss_kb"].is_u64() && point["server_cpu_percent"].is_f64()));
    let percentiles = report["percentiles"].as_array().expect("a list");
    assert_eq!(percentiles.last().expect("one")["us"].as_f64(), Some(latencies[4]));
}

#[test]
fn readers_of_latest_values_skip_and_end_with_the_newest() {
    let server = Server::start(&[]);
    let load = "--mode latest --interval 1s --keys 20 --clients 5 --rate 1000 --publishers 4 --warmup 0 --duration 1";
    for transport in ["sse", "ws"] {
        let url = server.url();
        let args: Vec<_> = load.split(' ').chain(["--url", &url, "--transport", transport]).collect();
        let (code, report, stderr) = bench(&args);
        assert_eq!((code, faults(&report), stderr.as_str()), (Some(0), vec![], ""), "{report}");
        let number = |name: &str| report[name].as_u64().unwrap();
        assert_eq!(number("events_published"), 1000);
        let deliveries = number("deliveries");
        assert!((100..2500).contains(&deliveries), "of 5,000 events, most are skipped: {deliveries}");
    }
}

#[test]
fn text_report_has_the_same_figures() {
    let server = Server::start(&[]);
    let args = ["bench", "--url", &server.url(), "--clients", "3", "--warmup", "0", "--duration", "0.3"];
    let (code, stdout, stderr) = Process::run(fanline(&args));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    for words in ["3 of 3 connected", "30 sent, 30 published", "latency              p50 ", "every stream whole"] {
        assert!(stdout.contains(words), "no {words:?} in {stdout}");
    }
}

#[test]
fn other_servers_are_measured_through_custom_urls_and_bodies() {
    for framing in [Framing::Chunks, Framing::Plain] {
        let peer = Peer::start(framing, Fault::None);
        let (code, report, _) =
            bench_peer(&peer, &[&SHORT[..], &["--topics", "2", "--sources", "127.0.0.2,127.0.0.3"]].concat());
        assert_eq!((code, faults(&report)), (Some(0), vec![]), "{report}");
        assert_eq!((report["events_published"].as_u64(), peer.published()), (Some(100), 100));
        // Five subscribers take the two topics in turn.
        assert!((200..=300).contains(&report["deliveries"].as_u64().unwrap()), "{report}");
        let mut sources = peer.sources();
        sources.sort();
        assert_eq!(
            sources.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [["127.0.0.2"; 3].as_slice(), &["127.0.0.3"; 2]].concat()
        );
    }
}

#[test]
fn dropped_event_counts_as_lost() {
    for (code, report, _) in faulty(Fault::Drop(7)) {
        assert_eq!((code, faults(&report), &report["deliveries"]), (Some(1), vec![("lost", 1)], &499.into()));
    }
}

#[test]
fn dropped_last_event_counts_as_lost() {
    for (code, report, _) in faulty(Fault::Drop(99)) {
        assert_eq!((code, faults(&report)), (Some(1), vec![("lost", 1)]));
    }
}

#[test]
fn repeated_event_counts_as_duplicated() {
    for (code, report, _) in faulty(Fault::Repeat(7)) {
        assert_eq!((code, faults(&report), &report["deliveries"]), (Some(1), vec![("duplicated", 1)], &500.into()));
    }
}

#[test]
fn swapped_events_count_as_out_of_order() {
    // One publisher, so that the next event comes from the same one.
    let peer = Peer::start(Framing::Chunks, Fault::Swap(7));
    let (code, report, _) = bench_peer(&peer, &[&SHORT[..2], &["--publishers", "1", "--duration", "0.5"]].concat());
    assert_eq!((code, faults(&report)), (Some(1), vec![("out_of_order", 1)]));
}

#[test]
fn changed_event_counts_as_corrupted() {
    for (code, report, _) in faulty(Fault::Change(7)) {
        assert_eq!((code, faults(&report)), (Some(1), vec![("lost", 1), ("corrupted", 1)]));
    }
}

#[test]
fn allowed_loss_is_reported_without_failing() {
    let peer = Peer::start(Framing::Chunks, Fault::Drop(7));
    let (code, report, _) = bench_peer(&peer, &[&SHORT[..], &["--allow-loss"]].concat());
    assert_eq!((code, &report["ok"], faults(&report)), (Some(0), &false.into(), vec![("lost", 1)]));
}

#[test]
fn ended_stream_is_reported() {
    for (code, report, _) in faulty(Fault::Close(7)) {
        assert_eq!((code, faults(&report)), (Some(1), vec![("closed", 1)]));
        assert!(
            problems(&report).contains("a stream ended: the server closed the connection"),
            "{}",
            problems(&report)
        );
    }
}

#[test]
fn server_stall_shows_in_the_latencies() {
    let stall = Duration::from_secs(1);
    let peer = Peer::start(Framing::Chunks, Fault::Stall(50, stall));
    let (code, report, _) = bench_peer(&peer, &["--clients", "5", "--rate", "100", "--duration", "2"]);
    assert_eq!((code, faults(&report), &report["events_published"]), (Some(0), vec![], &200.into()));
    // A hundred events became due during the stall, and each waited for the rest of it: a quarter of all events are
    // late by half of the stall.
    let latency = |name: &str| report[name].as_u64().unwrap();
    assert!(latency("latency_max_us") >= 1_000_000 && latency("latency_p90_us") >= 500_000, "{report}");
}

#[test]
fn missed_rate_is_a_warning_in_the_report() {
    // The first event delays all others beyond the window.
    let peer = Peer::start(Framing::Chunks, Fault::Stall(0, Duration::from_millis(600)));
    let (code, report, _) = bench_peer(&peer, &SHORT);
    assert_eq!((code, faults(&report), &report["events_published"]), (Some(0), vec![], &100.into()));
    let warnings = report["warnings"].as_array().expect("a list");
    let has = |words: &str| warnings.iter().any(|warning| warning.as_str().is_some_and(|text| text.contains(words)));
    assert!(has("0.00 of 200 events a second were reached") && has("events were sent late"), "{report}");
    assert!(report["late_send_max_us"].as_u64() >= Some(400_000), "{report}");
}

#[test]
fn rejected_subscribers_are_reported_and_the_rest_measured() {
    let peer = Peer::start(Framing::Chunks, Fault::RefuseOthers("429 Too Many Requests"));
    let (code, report, _) = bench_peer(&peer, &SHORT);
    assert_eq!((code, faults(&report), &report["deliveries"]), (Some(1), vec![("refused", 4)], &100.into()));
    assert!(problems(&report).contains("a subscriber was refused: 429 Too Many Requests: come later!"), "{report}");
}

#[test]
fn rejected_publish_is_reported_and_not_lost() {
    let peer = Peer::start(Framing::Chunks, Fault::RefusePublish(7, "403 Forbidden"));
    let (code, report, _) = bench_peer(&peer, &SHORT);
    assert_eq!((code, faults(&report), &report["deliveries"]), (Some(1), vec![("publish_failures", 1)], &495.into()));
    assert!(problems(&report).contains("a publish was refused: 403 Forbidden: ok"), "{report}");
}

#[test]
fn unacknowledged_publish_is_not_lost() {
    let peer = Peer::start(Framing::Chunks, Fault::RefusePublish(7, "502 Bad Gateway"));
    let (code, report, _) = bench_peer(&peer, &SHORT);
    assert_eq!((code, faults(&report)), (Some(1), vec![("publish_failures", 1)]));
}

#[test]
fn run_without_any_stream_fails_with_reason() {
    let peer = Peer::start(Framing::Chunks, Fault::Page);
    let (code, report, stderr) = bench_peer(&peer, &SHORT);
    assert_eq!((code, report), (Some(1), Value::Null));
    assert!(stderr.contains("no subscriber could connect") && stderr.contains("content type text/html"), "{stderr}");

    let url = format!("http://{}", peer.address);
    let (code, _, stderr) = bench(&["--url", &url]);
    assert!(code == Some(1) && stderr.contains("404 Not Found"), "{code:?} {stderr}");

    let (code, report, stderr) = bench(&["--url", "http://127.0.0.1:1"]);
    assert_eq!((code, report), (Some(1), Value::Null));
    assert!(stderr.contains("cannot connect to http://127.0.0.1:1: Connection refused"), "{stderr}");
}

#[test]
fn server_exit_ends_the_run_and_is_reported() {
    let mut server = Server::start(&[]);
    let args = ["--url", &server.url(), "--clients", "5", "--warmup", "0", "--duration", "600", "--patience", "5"];
    let mut process = Process::start(fanline(&[&["bench", "--json"][..], &args].concat()));
    server.wait_for_streams(5);
    let mut http = server.http();
    // The last responses may be lost with the server.
    while http.get("/").json()["history_size"].as_u64() < Some(20) {}
    server.signal(Signal::KILL);
    server.wait(TIMEOUT);
    let code = process.wait(TIMEOUT).code();
    let report: Value = serde_json::from_str(&process.lines().iter().collect::<String>()).expect("the report is JSON");
    assert_eq!((code, &report["ok"], &report["closed"]), (Some(1), &false.into(), &5.into()), "{report}");
    assert!(
        report["events_published"].as_u64() >= Some(10) && problems(&report).contains("a stream ended"),
        "{report}"
    );
}

#[test]
fn interrupted_run_reports_partial_results() {
    let server = Server::start(&[]);
    let args = ["bench", "--json", "--url", &server.url(), "--clients", "5", "--warmup", "0", "--duration", "600"];
    let mut process = Process::start(fanline(&args));
    server.wait_for_streams(5);
    let mut http = server.http();
    while http.get("/").json()["history_size"].as_u64() < Some(10) {}
    process.signal(Signal::INT);
    let code = process.wait(TIMEOUT).code();
    let report: Value = serde_json::from_str(&process.lines().iter().collect::<String>()).expect("the report is JSON");
    assert_eq!((code, &report["interrupted"], faults(&report)), (Some(0), &true.into(), vec![]), "{report}");
    assert!(report["deliveries"].as_u64() >= Some(50) && report["window_seconds"].as_f64() < Some(60.0), "{report}");
}

#[test]
fn publishers_at_maximum_rate_are_verified() {
    let server = Server::start(&["--history", "100000"]);
    let args = ["--url", &server.url(), "--clients", "10", "--rate", "max", "--publishers", "16", "--duration", "1"];
    let (code, report, _) = bench(&args);
    assert_eq!((code, faults(&report), &report["options"]["rate"]), (Some(0), vec![], &"max".into()), "{report}");
    let events = report["events_published"].as_u64().unwrap();
    assert!(events > 200 && report["deliveries"] == 10 * events, "{report}");
    assert!(report["last_client_max_us"].as_u64() > Some(0));
}

#[test]
fn events_published_before_the_subscribers_must_be_replayed() {
    let server = Server::start(&[]);
    let args = ["--url", &server.url(), "--clients", "10", "--prefill", "300", "--warmup", "0", "--duration", "0.2"];
    let (code, report, _) = bench(&[&args[..], &["--sse-header", "last-event-id: earliest"]].concat());
    assert_eq!((code, faults(&report), &report["replay_deliveries"]), (Some(0), vec![], &3000.into()), "{report}");
    assert!(report["replay_seconds"].as_f64() > Some(0.0));

    // Without a request for the replay.
    let (code, report, _) = bench(&[&args[..], &["--patience", "1"]].concat());
    assert_eq!((code, faults(&report)), (Some(1), vec![("lost", 3000)]), "{report}");
    assert!(report["replay_seconds"].is_null());
}

#[test]
fn runs_without_publishers_or_without_subscribers_succeed() {
    let server = Server::start(&[]);
    let (code, report, _) = bench(&["--url", &server.url(), "--clients", "7", "--rate", "0", "--duration", "0.2"]);
    assert_eq!((code, &report["connected"], &report["events_sent"]), (Some(0), &7.into(), &0.into()), "{report}");
    assert!(report["latency_p50_us"].is_null());

    let (code, report, _) = bench(&["--url", &server.url(), "--clients", "0", "--duration", "0.2", "--warmup", "0"]);
    assert_eq!(
        (code, &report["events_published"], &report["deliveries"]),
        (Some(0), &20.into(), &0.into()),
        "{report}"
    );
}

#[test]
fn invalid_flags_are_rejected_with_remedy() {
    for (args, says) in [
        (&["--rate", "fast"][..], "expected events a second"),
        (&["--payload", "10"], "10 is not in 48..="),
        (&["--duration", "soon"], "expected seconds"),
        (&["--topic", "a b"], "ASCII letters"),
        (&["--body", "nothing"], "--body has no {data}"),
        (&["--topics-per-client", "2"], "more than --topics 1"),
        (&["--sse-url", "https://h/"], "the load generator has no TLS"),
        (&["--header", "host: x"], "set by the load generator"),
    ] {
        let (code, report, stderr) = bench(args);
        assert!(code == Some(2) && report.is_null() && stderr.contains(says), "{args:?}: {code:?} {stderr}");
    }
    let (code, _, stderr) = bench(&["--clients", "100000000", "--topic", "t"]);
    assert!(code == Some(1) && stderr.contains("open files are needed"), "{stderr}");
}
