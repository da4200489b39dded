"""One measurement: starts a server, loads it, stops it, and returns one line of a CSV file."""

import json
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

from demo import follow
from servers import FANLINE, LOAD_CORE, PROGRAMS, TEMPLATES, start

# The results of a scenario, in the order of the CSV's columns.
FIELDS = (
    "ok clients connected connect_seconds replay_seconds replay_deliveries listen_drops events_published publish_failures "
    "deliveries lost duplicated out_of_order ids_out_of_order gaps closed window_seconds window_events window_deliveries "
    "events_per_second deliveries_per_second latency_p50_us latency_p99_us latency_max_us last_client_p50_us "
    "last_client_p99_us server_cpu_us_per_delivery deliveries_per_cpu_second server_cpu_percent load_cpu_percent "
    "other_cpu_percent rss_before_kb rss_connected_kb rss_end_kb rss_bytes_per_client slab_bytes_per_client "
    "bytes_received bytes_decoded plain_bytes_received compressed live_p50_us live_p99_us server_cpu_seconds events_per_cpu_second requests_per_second"
).split()


def measure(variant, server_name, raw, shorten=1.0):
    """Returns the fields as a dictionary. Fields that do not apply are missing."""
    server = start(server_name, raw.with_suffix(".log"), variant.serve, "max" in variant.load)
    try:
        tool = {"bench": bench, "memory": memory, "herd": herd, "wrk": wrk, "demo": demo, "routes": routes,
                "both": both}[variant.tool]
        result = tool(variant, server, shorten)
    finally:
        server.stop()
    raw.with_suffix(".json").write_text(json.dumps(result, indent=1))
    return result


def command(server, load, warmup, duration):
    return ["taskset", "-c", LOAD_CORE, str(FANLINE), "bench", "--url", server.url, "--pid", str(server.pid), "--json",
            "--quiet", "--allow-loss", "--warmup", f"{warmup:g}s", "--duration", f"{duration:g}s",
            *TEMPLATES[server.name], *load]


def parsed(output, complaints):
    if not output.strip():
        raise SystemExit(f"perf: the load generator could not run:\n{complaints}")
    return json.loads(output)


def bench(variant, server, shorten):
    # A server may respond to a subscriber before it has registered it, so publishing waits.
    load = [*variant.load, "--settle", "1s"] if server.name in ("nchan", "durable", "fastapi") else variant.load
    line = command(server, load, variant.warmup, max(1, variant.duration * shorten))
    run = subprocess.run(line, capture_output=True, text=True)
    return parsed(run.stdout, run.stderr)


def memory(variant, server, shorten):
    """Ten clients come and go first: what any client needs, such as pages of code, is no memory of each client."""
    load = list(variant.load)
    load[load.index("--clients") + 1] = "10"
    first = subprocess.run(command(server, load, 0.5, 1), capture_output=True, text=True)
    parsed(first.stdout, first.stderr)
    return bench(variant, server, shorten)


def herd(variant, server, shorten):
    """Many clients resume while a hundred others follow another topic live."""
    live_load = ["--clients", "100", "--rate", "100", "--topic", "live"]
    cpu = cpu_seconds(server.pid)
    # Short compared with the half second of the resuming clients, which then covers far more than 1 % of the deliveries.
    live = subprocess.Popen(command(server, live_load, 0.5, 4), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(1.5)
    result = bench(variant, server, shorten)
    output, complaints = live.communicate()
    live = parsed(output, complaints)
    result |= {
        "ok": result["ok"] and live["ok"],
        "live_p50_us": live["latency_p50_us"],
        "live_p99_us": live["latency_p99_us"],
        "server_cpu_seconds": cpu_seconds(server.pid) - cpu,
    }
    return result


# One event per request, or a thousand. The data is that of the load generator.
DATA = "flb-00000000-000000-00000-00000000-000000000000-" + "x" * 52
LUA = """
wrk.method = "POST"
wrk.path = "{path}"
wrk.headers["content-type"] = "{content_type}"
wrk.body = [==[{body}]==]
done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format("result %d %d %d %d\\n", summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
"""


def wrk(variant, server, shorten):
    """Publishes without subscribers as fast as the server responds, on persistent connections."""
    # The bare loop has no NDJSON: its single events are what a thousand lines are compared with.
    lines = 1000 if variant.name == "ndjson" and server.name == "fanline" else 1
    event = f'{{"topic":"bench","data":"{DATA}"}}'
    path, content_type, body = "/publish", "application/json", event
    if lines > 1:
        content_type, body = "application/x-ndjson", f"{event}\n" * lines
    elif server.name == "nchan":
        path, content_type, body = "/pub?id=bench", "text/plain", DATA
    elif server.name == "durable":
        path, content_type, body = "/bench", "text/plain", DATA
    elif server.name == "fanline" and variant.name == "text":
        path, content_type, body = "/publish/bench", "text/plain", DATA
    seconds = max(1, round(variant.duration * shorten))
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(LUA.format(path=path, content_type=content_type, body=body))
        script.flush()
        before = cpu_seconds(server.pid)
        line = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{variant.load[0]}", f"-d{seconds}s", "-s", script.name, server.url]
        run = subprocess.run(line, capture_output=True, text=True)
        cpu = cpu_seconds(server.pid) - before
    found = re.search(r"result (\d+) (\d+) (\d+) (\d+)", run.stdout)
    if not found:
        raise SystemExit(f"perf: wrk could not run:\n{run.stdout}{run.stderr}")
    requests, microseconds, refused, failed = map(int, found.groups())
    events = requests * lines
    return {
        "ok": refused == 0 and failed == 0,
        "events_published": events,
        "publish_failures": refused + failed,
        "window_seconds": microseconds / 1e6,
        "events_per_second": round(events / (microseconds / 1e6)),
        "server_cpu_percent": round(100 * cpu / (microseconds / 1e6), 1),
        "server_cpu_seconds": round(cpu, 3),
        "events_per_cpu_second": round(events / cpu) if cpu else None,
    }


def demo(variant, server, shorten):
    return follow(server, variant.duration * shorten)


def get_routes(server, seconds):
    """Starts to request a route of the application as fast as it responds, on 32 persistent connections."""
    line = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", "-c32", f"-d{seconds}s", f"{server.routes}/items/17"]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def requests_of(wrk_process):
    """Waits for the requests of `get_routes`, and returns their rate and whether all of them succeeded."""
    output, complaints = wrk_process.communicate()
    rate = re.search(r"Requests/sec: +([0-9.]+)", output)
    if not rate:
        raise SystemExit(f"perf: wrk could not run:\n{output}{complaints}")
    return {"requests_per_second": float(rate[1]), "ok": "Non-2xx" not in output and "Socket errors" not in output}


def routes(variant, server, shorten):
    """Requests of the application's routes alone."""
    before = cpu_seconds(server.pid)
    seconds = max(1, round(variant.duration * shorten))
    result = requests_of(get_routes(server, seconds))
    return result | {"server_cpu_percent": round(100 * (cpu_seconds(server.pid) - before) / seconds, 1)}


def both(variant, server, shorten):
    """Streams, and requests of the application's routes within the measured window of the streams."""
    duration = max(2, variant.duration * shorten)
    # The window begins after the clients have connected and the warm-up.
    line = command(server, variant.load, 2, duration + 4)
    streams = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(4)
    requests = requests_of(get_routes(server, round(duration)))
    output, complaints = streams.communicate()
    result = parsed(output, complaints)
    return result | requests | {"ok": result["ok"] and requests["ok"]}


def cpu_seconds(pid):
    """Returns the CPU time of all threads of a process."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def is_there(name):
    return os.access(PROGRAMS[name], os.X_OK)
