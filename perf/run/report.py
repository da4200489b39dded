"""Makes the summary table and the plots from the CSV files of a directory."""

import csv
from pathlib import Path
from statistics import median

from plots import bars
from servers import TITLES


class Results:
    """One scenario's measurements."""

    def __init__(self, path):
        with open(path, newline="") as file:
            self.rows = list(csv.DictReader(file))

    def values(self, variant, server, name):
        """Returns the values by repetition."""
        return {
            row["repetition"]: float(row[name])
            for row in self.rows
            if row["variant"] == variant and row["server"] == server and row[name]
        }

    def median(self, variant, server, name):
        values = self.values(variant, server, name)
        return median(values.values()) if values else None

    def ratio(self, variant, server, name, other_server="bare", other_variant=None):
        """Returns the median of the ratios within a repetition."""
        ours, others = self.values(variant, server, name), self.values(other_variant or variant, other_server, name)
        ratios = [ours[key] / others[key] for key in ours if others.get(key)]
        return median(ratios) if ratios else None

    def all_ratios(self, variant, server, name):
        ours, others = self.values(variant, server, name), self.values(variant, "bare", name)
        return " ".join(f"{ours[key] / others[key]:.2f}" for key in ours if others.get(key))

    def wholes(self, variant, server):
        rows = [row for row in self.rows if row["variant"] == variant and row["server"] == server]
        # A stream can be complete although a publish failed.
        flaws = [name for name in ("lost", "duplicated", "out_of_order", "gaps", "closed", "publish_failures")
                 if any(float(row[name] or 0) for row in rows)]
        return "yes" if all(row["ok"] == "True" for row in rows) else ", ".join(flaws) or "no"

    def servers(self, variant):
        return [name for name in TITLES if any(r["server"] == name and r["variant"] == variant for r in self.rows)]

    def variants(self):
        return list(dict.fromkeys(row["variant"] for row in self.rows))


def number(value, form=",.2f"):
    return "–" if value is None else format(value, form)


def millions(value):
    return "–" if value is None else f"{value / 1e6:.2f} M"


def table(heads, rows):
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def verdict(holds, text):
    return f"* **{'holds' if holds else 'MISSED'}** {text}\n"


def steady(results, out):
    cost = "server_cpu_us_per_delivery"
    text, judged = "", ""
    for variant in results.variants():
        clients, _, is_slow = variant.partition("-")
        rate = "5,000" if is_slow else "100,000"
        rows = [
            [TITLES[server], number(results.median(variant, server, cost)), number(results.ratio(variant, server, cost)),
             results.all_ratios(variant, server, cost),
             number(results.median(variant, server, "deliveries_per_second"), ",.0f"),
             number(results.median(variant, server, "latency_p50_us"), ",.0f"),
             number(results.median(variant, server, "latency_p99_us"), ",.0f"),
             number(results.median(variant, server, "rss_bytes_per_client"), ",.0f"), results.wholes(variant, server)]
            for server in results.servers(variant)
        ]
        text += f"\n{int(clients):,} clients, {rate} deliveries a second requested:\n\n"
        text += table(["server", "µs of CPU a delivery", "ratio", "ratios", "deliveries a second", "p50, µs", "p99, µs",
                       "bytes a client", "whole"], rows)
        if not is_slow:
            ratio = results.ratio(variant, "fanline", cost)
            judged += verdict(ratio <= 1.05, f"{int(clients):,} clients: {ratio:.3f} of the bare loop (target 1.05)")
            ours = results.median(variant, "fanline", cost)
            ahead = all(ours < (results.median(variant, peer, cost) or 1e9)
                        for peer in results.servers(variant) if peer not in ("bare", "fanline"))
            judged += verdict(ahead, f"{int(clients):,} clients: ahead of every peer")
    sizes = [variant for variant in results.variants() if "-" not in variant]
    series = {TITLES[s]: [results.median(v, s, cost) for v in sizes] for s in results.servers(sizes[0])} if sizes else {}
    if series:
        title = "Server CPU for each delivery, µs (100,000 deliveries a second)"
        (out / "steady.svg").write_text(bars(title, [f"{int(v):,} clients" for v in sizes], series))
    return text + "\n" + judged


def saturated(results, out):
    rate, cheapness = "deliveries_per_second", "deliveries_per_cpu_second"
    servers = results.servers("1000")
    rows = [
        [TITLES[server], millions(results.median("1000", server, cheapness)), millions(results.median("1000", server, rate)),
         number(results.median("1000", server, "server_cpu_percent"), ".0f"),
         number(results.median("1000", server, "load_cpu_percent"), ".0f"), results.wholes("1000", server)]
        for server in servers
    ]
    ours = results.median("1000", "fanline", cheapness)
    series = {TITLES[s]: [(results.median("1000", s, cheapness) or 0) / 1e6] for s in servers}
    title = "Saturated: million deliveries for each CPU-second of the server"
    (out / "saturated.svg").write_text(bars(title, ["1,000 clients, 128 publishers"], series))
    heads = ["server", "deliveries a CPU-second", "deliveries a second", "server, %", "load generator, %", "whole"]
    whole = results.wholes("1000", "fanline") == "yes"
    return table(heads, rows) + "\n" + verdict(
        ours >= 25e6 and whole, f"{millions(ours)} deliveries a CPU-second, whole: {whole} (target 25 M, nothing lost)")


def one_event(results, out):
    last = "last_client_p50_us"
    rows = [
        [TITLES[server], number(results.median("10000", server, last), ",.0f"), number(results.ratio("10000", server, last)),
         results.all_ratios("10000", server, last), results.wholes("10000", server)]
        for server in results.servers("10000")
    ]
    ratio = results.ratio("10000", "fanline", last)
    series = {TITLES[s]: [(results.median("10000", s, last) or 0) / 1e3] for s in results.servers("10000")}
    (out / "one-event.svg").write_text(bars("One event to 10,000 clients: ms until the last has it", ["10,000 clients"], series))
    return table(["server", "until the last client has it, µs (median event)", "ratio", "ratios", "whole"], rows) + "\n" + verdict(
        ratio <= 1.15, f"{ratio:.3f} of the bare loop's time (target 1.15)")


def topics(results, out):
    cost = "server_cpu_us_per_delivery"
    rows = [
        [variant, TITLES[server], number(results.median(variant, server, cost)),
         number(results.median(variant, server, "server_cpu_percent"), ".1f"),
         number(results.median(variant, server, "latency_p99_us"), ",.0f"), results.wholes(variant, server)]
        for variant in results.variants()
        for server in results.servers(variant)
    ]
    one, busy, quiet = "one-topic-one-client", "10000-topics-all-busy", "10000-topics-one-busy"
    many = results.ratio(busy, "fanline", cost, "fanline", one)
    share = results.ratio(quiet, "fanline", "server_cpu_percent", "fanline", one)
    text = table(["variant", "server", "µs of CPU a delivery", "server, %", "p99, µs", "whole"], rows) + "\n"
    beside = results.ratio(busy, "fanline", cost, "axum")
    if beside is not None:
        text += verdict(beside <= 0.85, f"10,000 subscribers with a topic each: {beside:.3f} of axum's CPU time (target 0.85)")
    text += verdict(many <= 1.3, f"10,000 topics: {many:.3f} of the cost with one (target 1.3), publishing included")
    return text + f"* With 9,999 quiet subscribers beside the busy one the server uses {share:.3f} times the CPU time that it uses without them.\n"


def herd(results, out):
    variant = "10000-x-500"
    seconds = results.median(variant, "fanline", "replay_seconds")
    replayed = results.median(variant, "fanline", "replay_deliveries")
    rate = replayed / seconds
    text = table(
        ["clients × events", "connected in, s", "all replayed in, s", "deliveries a second", "server CPU of the whole run, s",
         "p50 / p99 of 100 live subscribers, µs", "whole"],
        [["10,000 × 500", number(results.median(variant, "fanline", "connect_seconds")), number(seconds), millions(rate),
          number(results.median(variant, "fanline", "server_cpu_seconds")),
          number(results.median(variant, "fanline", "live_p50_us"), ",.0f") + " / "
          + number(results.median(variant, "fanline", "live_p99_us"), ",.0f"), results.wholes(variant, "fanline")]])
    try:
        full = Results(out / "saturated.csv").median("1000", "fanline", "deliveries_per_second")
    except FileNotFoundError:
        return text
    return text + "\n" + verdict(rate >= full / 2, f"{millions(rate)} a second, {rate / full:.2f} of the saturated rate of "
                                 f"{millions(full)} (target 0.5); both groups of clients share the load generator's processor")


def publish(results, out):
    rate = "events_per_second"
    rows = [
        [variant, TITLES[server], number(results.median(variant, server, rate), ",.0f"),
         number(results.median(variant, server, "events_per_cpu_second"), ",.0f"),
         number(results.median(variant, server, "server_cpu_percent"), ".0f"), results.wholes(variant, server)]
        for variant in results.variants()
        for server in results.servers(variant)
    ]
    text = table(["requests", "server", "events a second", "events a CPU-second", "server, %", "whole"], rows) + "\n"
    for variant, what in (("single", "64 connections"), ("single-8", "8 connections"), ("text", "64 connections, text/plain")):
        peers = [name for name in results.servers(variant) if name not in ("bare", "hyper", "fanline")]
        if "fanline" not in results.servers(variant) or not peers:
            continue
        best = max(peers, key=lambda name: results.median(variant, name, rate))
        ratio = results.ratio(variant, "fanline", rate, best)
        text += verdict(ratio >= 1.1, f"{what}: {ratio:.3f} of {TITLES[best]}, the best peer (target 1.10)")
        floor = results.ratio(variant, "hyper", rate, best)
        if floor is not None:
            text += f"* {what}: bare hyper, which has no hub, has {floor:.3f} of it\n"
    ratio = results.ratio("ndjson", "fanline", rate)
    if ratio is not None:
        text += verdict(ratio >= 8.03, f"NDJSON: {ratio:.2f} events for each single event of the bare loop (target 8.03, as on 2026-11-21)")
    return text


def memory(results, out):
    size = "rss_bytes_per_client"
    rows = [
        [{"15000": "a name, two tags, two topics", "plain": "a topic"}[variant], TITLES[server],
         *(number(results.median(variant, server, name), ",.0f")
           for name in ("rss_before_kb", "rss_connected_kb", "rss_end_kb", size, "slab_bytes_per_client"))]
        for variant in results.variants()
        for server in results.servers(variant)
    ]
    heads = ["clients with", "server", "VmRSS before, KB", "connected, KB", "at the end, KB", "bytes a client",
             "kernel slab a client, bytes"]
    ours = results.median("15000", "fanline", size)
    text = table(heads, rows) + "\n"
    text += verdict(ours <= 800, f"{ours:,.0f} bytes a client with a name, two tags and two topics (target 800)")
    plain, theirs = (results.median("plain", server, size) for server in ("fanline", "durable"))
    if plain is not None and theirs is not None:
        text += verdict(plain < theirs, f"{plain:,.0f} bytes a client with a topic only, where durable-streams takes {theirs:,.0f}")
    return text


def shards(results, out):
    cost = "server_cpu_us_per_delivery"
    rows = [
        [f"{int(variant):,}", TITLES[server], number(results.median(variant, server, cost)),
         number(results.ratio(variant, server, cost, "fanline"), ".3f"),
         number(results.median(variant, server, "latency_p99_us"), ",.0f"), results.wholes(variant, server)]
        for variant in results.variants()
        for server in results.servers(variant)
    ]
    text = table(["clients", "server", "µs of CPU a delivery", "ratio to one shard", "p99, µs", "whole"], rows) + "\n"
    for variant in results.variants():
        ratio = results.ratio(variant, "fanline-2", cost, "fanline")
        text += verdict(ratio <= 1.05, f"{int(variant):,} clients: {ratio:.3f} of the CPU time with one shard (target 1.05)")
    return text


def websocket(results, out):
    cost, cheapness = "server_cpu_us_per_delivery", "deliveries_per_cpu_second"
    text, judged = "", ""
    for variant in ("100", "1000", "10000"):
        rows = [
            [TITLES[server], number(results.median(variant, server, cost)),
             number(results.ratio(variant, server, cost, "fanline")),
             number(results.median(variant, server, "latency_p50_us"), ",.0f"),
             number(results.median(variant, server, "latency_p99_us"), ",.0f"), results.wholes(variant, server)]
            for server in results.servers(variant)
        ]
        text += f"\n{int(variant):,} clients, 100,000 deliveries a second requested:\n\n"
        text += table(["server", "µs of CPU a delivery", "ratio to fanline's streams", "p50, µs", "p99, µs", "whole"], rows)
        ratio = results.ratio(variant, "fanline-ws", cost, "fanline")
        judged += verdict(ratio <= 1.1, f"{int(variant):,} clients: {ratio:.3f} of the cost of Server-Sent Events (target 1.10)")
    rows = [
        [TITLES[server], millions(results.median("saturated", server, cheapness)),
         millions(results.median("saturated", server, "deliveries_per_second")),
         number(results.median("saturated", server, "server_cpu_percent"), ".0f"),
         number(results.median("saturated", server, "load_cpu_percent"), ".0f"), results.wholes("saturated", server)]
        for server in results.servers("saturated")
    ]
    text += "\n1,000 clients, 128 publishers that wait for nothing but their answers:\n\n" + table(
        ["server", "deliveries a CPU-second", "deliveries a second", "server, %", "load generator, %", "whole"], rows)
    rows = [[TITLES[server], number(results.median("memory", server, "rss_bytes_per_client"), ",.0f"),
             number(results.median("memory", server, "slab_bytes_per_client"), ",.0f"), results.wholes("memory", server)]
            for server in results.servers("memory")]
    text += "\n10,000 clients, after ten others have come and gone:\n\n" + table(["server", "bytes a client", "kernel slab a client, bytes", "whole"], rows)
    ours = results.median("memory", "fanline-ws", "rss_bytes_per_client")
    judged += verdict(ours <= 1536, f"{ours:,.0f} bytes a client over WebSocket (target 1,536)")
    return text + "\n" + judged


def compression(results, out):
    cost, size = "server_cpu_us_per_delivery", "rss_bytes_per_client"
    rows = [
        [variant, TITLES[server], number(results.median(variant, server, cost)),
         number(results.ratio(variant, server, cost, "fanline")),
         number(results.median(variant, server, "bytes_received") / results.median(variant, server, "deliveries"), ",.1f"),
         number(results.median(variant, server, size), ",.0f"), number(results.median(variant, server, "latency_p50_us"), ",.0f"),
         results.wholes(variant, server)]
        for variant in ("1000", "1000-fast")
        for server in results.servers(variant)
    ]
    text = table(["variant", "server", "µs of CPU a delivery", "ratio to fanline", "bytes a delivery", "bytes of memory a client",
                  "p50, µs", "whole"], rows)
    rows = [[TITLES[server], number(results.median("publish", server, "events_per_second"), ",.0f"),
             number(results.ratio("publish", server, "events_per_second", "fanline"), ".3f"), results.wholes("publish", server)]
            for server in results.servers("publish")]
    text += "\nOne subscriber, 64 publishers that wait for nothing but their answers:\n\n"
    text += table(["server", "events a second", "ratio to fanline", "whole"], rows)
    text += "\nThe CPU time and memory of nginx are those of its worker, without fanline's.\n\n"
    for variant in ("1000", "1000-fast"):
        ratio = results.ratio(variant, "fanline-gzip", cost, "fanline")
        text += verdict(ratio <= 1, f"{variant}: {ratio:.3f} of the CPU time of plain streams (target 1.0)")
    plain, ours = (results.median("demo", "fanline-gzip", name) for name in ("plain_bytes_received", "bytes_received"))
    text += verdict(plain / ours >= 5, f"{plain / ours:.1f} times fewer bytes for the demo's metrics, 1,000 plain and 1,000 compressed "
                    f"readers for {results.median('demo', 'fanline-gzip', 'window_seconds'):.0f} s (target 5)")
    more = results.median("1000", "fanline-gzip", size) - results.median("1000", "fanline", size)
    return text + verdict(more <= 64, f"{more:,.0f} bytes more a client (target 64)")


def embedding(results, out):
    cost, rate, size = "server_cpu_us_per_delivery", "requests_per_second", "rss_bytes_per_client"
    rows = [
        [variant, TITLES[server], number(results.median(variant, server, cost)),
         number(results.ratio(variant, server, cost, "fanline"), ".3f"),
         number(results.median(variant, server, size), ",.0f"),
         number(results.ratio(variant, server, size, "fanline"), ".3f"), results.wholes(variant, server)]
        for variant in ("streams-1000", "streams-10000", "memory")
        for server in results.servers(variant)
    ]
    text = table(["variant", "server", "µs of CPU a delivery", "ratio to fanline", "bytes a client", "ratio to fanline", "whole"],
                 rows)
    rows = [
        [variant, TITLES[server], number(results.median(variant, server, rate), ",.0f"),
         number(results.ratio(variant, server, rate, beside), ".3f"), beside and TITLES[beside],
         number(results.median(variant, server, "latency_p99_us"), ",.0f"), results.wholes(variant, server)]
        for variant, beside in (("routes", "plain"), ("both", "apart"))
        for server in results.servers(variant)
    ]
    text += "\n" + table(["variant", "server", "requests a second", "ratio", "to", "p99 of the streams, µs", "whole"], rows) + "\n"
    for variant in ("streams-1000", "streams-10000"):
        ratio = results.ratio(variant, "fallback", cost, "fanline")
        text += verdict(0.95 <= ratio <= 1.05, f"{variant}: {ratio:.3f} of fanline's CPU time (target 0.95 to 1.05)")
    ratio = results.ratio("memory", "fallback", size, "fanline")
    text += verdict(0.95 <= ratio <= 1.05, f"memory: {ratio:.3f} of fanline's (target 0.95 to 1.05)")
    ratio = results.ratio("routes", "fallback", rate, "plain")
    text += verdict(ratio >= 0.95, f"routes: {ratio:.3f} of the rate of axum alone (target 0.95)")
    ratio = results.ratio("both", "fallback", rate, "apart")
    return text + verdict(ratio >= 0.95, f"routes beside streams: {ratio:.3f} of the rate of two processes on the same processor "
                          "(target 0.95)")


def idle(results, out):
    ours = results.median("15000", "fanline", "server_cpu_percent")
    rows = [[number(ours), number(results.median("15000", "fanline", "rss_bytes_per_client"), ",.0f")]]
    return table(["server, % of a processor", "bytes a client"], rows) + "\n" + verdict(
        ours < 2, f"{ours:.2f} % of a processor for 15,000 quiet clients with heartbeats every 30 s (target 2)")


SECTIONS = {
    "steady": ("Steady", steady),
    "saturated": ("Saturated: 1,000 clients, 128 publishers that wait for nothing but their answers", saturated),
    "one-event": ("One event to 10,000 clients", one_event),
    "topics": ("Many topics: 10,000 events a second, each for one subscriber; and 100 topics on each client", topics),
    "herd": ("A herd of 10,000 clients comes back for 500 events each", herd),
    "publish": ("Publish only, kept connections (wrk)", publish),
    "memory": ("Memory: 15,000 clients, after ten others have come and gone", memory),
    "shards": ("One shard and two, 100,000 deliveries a second", shards),
    "websocket": ("WebSocket beside Server-Sent Events, with payloads of 100 bytes", websocket),
    "gzip": ("Compression, with payloads of 171 bytes of which 48 differ", compression),
    "embedding": ("Embedding: an axum application as fanline's fallback, and streams of stream_response", embedding),
    "idle": ("Idle: 15,000 quiet clients", idle),
}


def write_report(out, machine):
    out = Path(out)
    text = f"# Measured {out.name}\n\n{machine}\n"
    for scenario, (title, section) in SECTIONS.items():
        path = out / f"{scenario}.csv"
        if path.exists():
            try:
                body = section(Results(path), out)
            except (TypeError, ZeroDivisionError):
                # A measurement lacks a required number.
                body = f"The numbers in {path.name} are not complete enough for a table.\n"
            text += f"\n## {title}\n\n{body}"
    others = [
        float(row["other_cpu_percent"])
        # Other scripts write their results to the same directory.
        for path in (out / f"{scenario}.csv" for scenario in SECTIONS)
        if path.exists()
        for row in Results(path).rows
        if row["other_cpu_percent"]
    ]
    if others:
        text += (f"\n## Noise\n\nOther work used {median(others):.1f} % of a processor during a measurement (median), "
                 f"{max(others):.0f} % at most.\n")
    (out / "summary.md").write_text(text)
    return text
