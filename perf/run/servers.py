"""The measured servers: how to start each on its processor, and its HTTP interface."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
FANLINE = TARGET / "dist/fanline"
EMBEDDING = TARGET / "perf-embedding/release/embedding"
SERVER_CORE = os.environ.get("SERVER_CORE", "0")
LOAD_CORE = os.environ.get("LOAD_CORE", "1")

TITLES = {
    "bare": "bare loop",
    "hyper": "bare hyper",
    "fanline": "fanline",
    "durable": "durable-streams 0.1.5",
    "axum": "axum 0.8 + broadcast",
    "nchan": "nchan 1.3.6",
    "fastapi": "fastapi-sse-events 0.2",
    "fanline-2": "fanline, two shards",
    "fanline-envelope": "fanline, format=envelope",
    "fanline-ws": "fanline, WebSocket",
    "axum-ws": "axum 0.8 + broadcast, WebSocket",
    "fallback": "axum as fanline's fallback",
    "response": "axum with stream_response",
    "plain": "axum alone",
    "apart": "axum beside fanline, two processes",
    "fanline-gzip": "fanline, gzip",
    "nginx-gzip": "nginx with gzip before fanline",
    "axum-gzip": "axum 0.8 + broadcast, gzip for each connection",
}
PROGRAMS = {
    "bare": TARGET / "dist/examples/bare_loop",
    "hyper": TARGET / "dist/examples/bare_hyper",
    "fanline": FANLINE,
    "durable": TARGET / "perf-tools/bin/durable-streams-server",
    "axum": TARGET / "perf-axum/release/axum-peer",
    "nchan": Path("/usr/sbin/nginx"),
    "fastapi": TARGET / "perf-fastapi/bin/uvicorn",
    "fallback": EMBEDDING,
    "response": EMBEDDING,
    "plain": EMBEDDING,
    "apart": FANLINE,
}
# The same programs, with other subscribers.
PROGRAMS |= {"fanline-2": FANLINE, "fanline-envelope": FANLINE, "fanline-ws": FANLINE, "axum-ws": PROGRAMS["axum"]}
PROGRAMS |= {"fanline-gzip": FANLINE, "nginx-gzip": PROGRAMS["nchan"], "axum-gzip": PROGRAMS["axum"]}
# The arguments of `fanline bench` for servers with other paths than fanline's.
TEMPLATES = {
    "bare": [],
    "fanline": [],
    "axum": [],
    "fanline-2": [],
    "fanline-envelope": ["--sse-url", "{url}/stream?topics={topics}&format=envelope"],
    "fanline-ws": ["--transport", "ws"],
    "axum-ws": ["--transport", "ws"],
    "fanline-gzip": ["--compressed"],
    "nginx-gzip": ["--compressed"],
    "axum-gzip": ["--compressed", "--sse-url", "{url}/gzip?topics={topics}"],
    "fallback": [],
    "response": [],
    "apart": [],
    "nchan": ["--sse-url", "{url}/sub/{topic}", "--publish-url", "{url}/pub?id={topic}",
              "--content-type", "text/plain", "--body", "{data}"],
    "durable": ["--sse-url", "{url}/{topic}?offset=now&live=sse", "--publish-url", "{url}/{topic}",
                "--content-type", "text/plain", "--body", "{data}\n"],
    "fastapi": ["--sse-url", "{url}/events?topic={topic}"],
}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@dataclass
class Server:
    """A running server. `pid` is the measured process. `routes` is where the application's own routes are."""

    name: str
    url: str
    pid: int
    processes: list = field(default_factory=list)
    directory: str = ""
    routes: str = ""

    def stop(self):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def start(name, log, arguments=(), is_flooded=False):
    """Starts a server and waits until it accepts connections. `arguments` are fanline's. `is_flooded` means that publishers
    publish as soon as they have an answer."""
    directory = tempfile.mkdtemp(prefix=f"perf-{name}-")
    port, other_port = free_port(), free_port()
    address = f"127.0.0.1:{port}"
    environment = dict(os.environ)
    program = str(PROGRAMS[name])
    before = []
    processors = SERVER_CORE
    if name in ("bare", "hyper"):
        command = [program, "--listen", address]
    elif PROGRAMS[name] == EMBEDDING:
        command = [program, name, address]
    elif PROGRAMS[name] == FANLINE:
        if name == "apart":
            before = [str(EMBEDDING), "plain", f"127.0.0.1:{other_port}"]
        shards = "1"
        if name == "fanline-2":
            # One of them shares the load generator's.
            shards, processors = "2", f"{SERVER_CORE},{LOAD_CORE}"
        command = [program, "serve", "--shards", shards, "--listen", address, *arguments]
    elif PROGRAMS[name] == PROGRAMS["axum"]:
        command = [program, address]
    elif name == "durable":
        # Without its write-ahead log, because the other servers do not write to disk either. Under a flood it has its
        # defaults: see perf/peers/README.md.
        durability = "wal" if is_flooded else "memory"
        command = [program, "--port", str(port), "--data-dir", directory, "--durability", durability]
    elif name in ("nchan", "nginx-gzip"):
        if name == "nginx-gzip":
            # nginx's worker, which passes the publications on, has another user.
            before = [str(FANLINE), "serve", "--shards", "1", "--listen", f"127.0.0.1:{other_port}", "--loopback-trust", "any",
                      *arguments]
        configuration = (ROOT / f"perf/peers/{name}.conf").read_text()
        path = Path(directory) / "nginx.conf"
        path.write_text(configuration.replace("PORT", str(port)).replace("UPSTREAM", f"127.0.0.1:{other_port}")
                        .replace("PREFIX", directory))
        os.chmod(directory, 0o755)
        command = [program, "-p", directory, "-c", str(path)]
    elif name == "fastapi":
        environment |= {"REDIS_URL": f"redis://127.0.0.1:{other_port}/0", "SSE_MAX_CONNECTIONS": "20000"}
        before = ["redis-server", "--port", str(other_port), "--bind", "127.0.0.1", "--save", "", "--dir", directory]
        command = [program, "app:app", "--app-dir", str(ROOT / "perf/peers/fastapi"), "--port", str(port),
                   "--backlog", "4096", "--no-access-log", "--log-level", "error"]
    processes = []
    with open(log, "wb") as output:
        for line, port_of in ((before, other_port), (command, port)):
            if not line:
                continue
            pinned = ["taskset", "-c", processors, *line]
            processes.append(subprocess.Popen(pinned, stdout=output, stderr=output, env=environment, cwd=directory))
            wait_for(port_of, processes[-1], log)
    pid = processes[-1].pid
    if PROGRAMS[name] == PROGRAMS["nchan"]:
        # The worker process, not the master.
        pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
    routes = f"http://127.0.0.1:{other_port}" if name == "apart" else f"http://{address}"
    server = Server(name, f"http://{address}", pid, processes, directory, routes)
    if name == "durable":
        # A stream must exist before it is followed.
        subprocess.run(["curl", "-sfo", "/dev/null", "-X", "PUT", "-H", "Content-Type: text/plain", f"{server.url}/bench"],
                       check=True)
    return server


def wait_for(port, process, log):
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.05)
    raise SystemExit(f"perf: a server did not start:\n{Path(log).read_text()}")
