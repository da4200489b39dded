//! `examples/deploy/cluster`: three servers, HAProxy and a Redis with a replica.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::process::Process;

#[test]
#[ignore = "needs redis-server, haproxy and curl; run scripts/test"]
fn example_client_loses_nothing_when_a_server_is_killed() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/deploy/cluster/run");
    let mut command = Command::new(script);
    // Six consecutive ports below the ephemeral range.
    let port = 20_000 + std::process::id() % 1000 * 8;
    command.arg("--check").env("FANLINE", env!("CARGO_BIN_EXE_fanline")).env("PORT", port.to_string());
    let mut process = Process::start({
        command.stdin(Stdio::null());
        command
    });
    let status = process.wait(Duration::from_secs(120));
    let lines: Vec<String> = process.lines().iter().collect();
    assert!(status.success(), "{lines:?}");
    assert!(lines.last().is_some_and(|line| line.contains("all 100 events, each once and in order")), "{lines:?}");
}
