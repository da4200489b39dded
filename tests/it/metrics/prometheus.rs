//! Prometheus reads the metrics, the rules and the queries of the dashboard.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use std::{fs, thread};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::process::{Process, Server, Stream, TIMEOUT, wait_until};

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/deploy");

/// Causes at least one of each counted thing. Returns the streams, to keep them open.
fn traffic(server: &Server) -> [Stream; 2] {
    drop(server.stream("topics=metric"));
    let streams = [server.stream("topics=t"), Stream::open(server.address(), "topics=t", Some("7-7"))];
    server.publish("t", "text");
    server.get("/nothing");
    server.http().post("/publish", "application/json", b"{}");
    streams
}

fn promtool(args: &[&str]) -> Command {
    let mut command = Command::new("promtool");
    command.args(args).current_dir(Path::new(DEPLOY).join("prometheus"));
    command
}

fn assert_success(mut command: Command) {
    let output = command.stdin(Stdio::null()).output().expect("promtool runs");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

#[test]
#[ignore = "needs promtool; run scripts/test"]
fn metrics_pass_promtool() {
    let server = Server::start(&["--demo"]);
    let _streams = traffic(&server);
    let text = server.get("/metrics").body;
    assert!(text.contains("fanline_socket_latency_seconds_bucket") && text.contains("fanline_publish_errors_total{"));
    let file = std::env::temp_dir().join(format!("fanline-metrics-{}", std::process::id()));
    fs::write(&file, text).unwrap();
    let mut check = promtool(&["check", "metrics"]);
    let output = check.stdin(fs::File::open(&file).unwrap()).output().expect("promtool runs");
    fs::remove_file(&file).unwrap();
    assert!(output.status.success() && output.stderr.is_empty() && output.stdout.is_empty(), "{output:?}");
}

#[test]
#[ignore = "needs promtool; run scripts/test"]
fn alert_rules_and_configuration_pass_promtool() {
    assert_success(promtool(&["check", "rules", "fanline.rules.yml"]));
    assert_success(promtool(&["check", "config", "prometheus.yml"]));
    assert_success(promtool(&["test", "rules", "fanline.rules.test.yml"]));
}

/// A Prometheus with the configuration of examples/deploy, in its own directory.
struct Prometheus {
    _process: Process,
    url: String,
    directory: std::path::PathBuf,
}

impl Prometheus {
    fn scraping(server: &Server) -> Self {
        let directory = std::env::temp_dir().join(format!("fanline-prometheus-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let deploy = Path::new(DEPLOY).join("prometheus");
        fs::copy(deploy.join("fanline.rules.yml"), directory.join("fanline.rules.yml")).unwrap();
        let config = fs::read_to_string(deploy.join("prometheus.yml")).unwrap();
        let config = config.replace("fanline:8000", &server.address().to_string()).replace("15s", "200ms");
        fs::write(directory.join("prometheus.yml"), config).unwrap();
        // It does not report its port, so it gets one that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new("prometheus");
        command.current_dir(&directory).args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"]);
        command.arg(format!("--web.listen-address={address}"));
        let process = Process::start(command);
        process.log.wait_for("ready to receive web requests");
        Self { _process: process, url: format!("http://{address}"), directory }
    }

    fn get(&self, path: &str) -> Value {
        // It may answer with chunks, which the tests' client does not support.
        let output =
            Command::new("curl").args(["-sS", "--fail", &format!("{}{path}", self.url)]).output().expect("curl runs");
        assert!(output.status.success(), "{path}: {output:?}");
        serde_json::from_slice::<Value>(&output.stdout).expect("the response is JSON")["data"].take()
    }

    /// The current samples of `query`.
    fn query(&self, query: &str) -> Vec<Value> {
        let path = format!("/api/v1/query?query={}", utf8_percent_encode(query, NON_ALPHANUMERIC));
        self.get(&path)["result"].as_array().expect("a vector").clone()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[test]
#[ignore = "needs prometheus and curl; run scripts/test"]
fn dashboard_queries_have_data_and_rules_evaluate() {
    let server = Server::start(&["--demo"]);
    let prometheus = Prometheus::scraping(&server);
    let dashboard: Value =
        serde_json::from_str(&fs::read_to_string(Path::new(DEPLOY).join("grafana/fanline.json")).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let queries = panels.iter().flat_map(|panel| {
        panel["targets"].as_array().unwrap().iter().map(|target| (&panel["title"], target["expr"].as_str().unwrap()))
    });
    let queries: Vec<_> = queries
        .map(|(title, query)| (title, query.replace("$__rate_interval", "1m").replace("$instance", ".*")))
        .collect();
    assert!(queries.len() > 20, "{queries:?}");
    let deadline = Instant::now() + TIMEOUT;
    for (title, query) in &queries {
        // A rate needs two scrapes, and a series that changes.
        loop {
            let streams = traffic(&server);
            let samples = prometheus.query(query);
            let values = samples.iter().map(|sample| sample["value"][1].as_str().unwrap().parse::<f64>().unwrap());
            if values.clone().any(|value| value.is_finite()) {
                break;
            }
            assert!(Instant::now() < deadline, "{title}: {query} gives {samples:?}");
            drop(streams);
            thread::yield_now();
        }
    }
    let variable = dashboard["templating"]["list"][1]["query"].as_str().unwrap();
    let (series, label) =
        variable.strip_prefix("label_values(").unwrap().strip_suffix(')').unwrap().rsplit_once(", ").unwrap();
    assert_eq!(prometheus.query(series)[0]["metric"][label], server.address().to_string());

    wait_until(|| {
        let groups = prometheus.get("/api/v1/rules");
        let rules = groups["groups"][0]["rules"].as_array().unwrap();
        assert_eq!(rules.len(), 9);
        assert!(rules.iter().all(|rule| rule["health"] != "err"), "{rules:?}");
        if rules.iter().all(|rule| rule["health"] == "ok") { Ok(()) } else { Err(format!("{rules:?}")) }
    });
}
