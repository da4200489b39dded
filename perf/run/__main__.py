"""Runs scenarios in alternation and writes the results. See `scripts/perf --help`."""

import argparse
import csv
import datetime
import os
import platform
import resource
import subprocess
from pathlib import Path

from measure import FIELDS, is_there, measure
from report import write_report
from scenarios import SCENARIOS
from servers import ROOT, TITLES


def options():
    parser = argparse.ArgumentParser(prog="scripts/perf", add_help=False)
    parser.add_argument("scenarios", nargs="*")
    parser.add_argument("--servers", default=",".join(TITLES))
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--report-only", action="store_true")
    parser.add_argument("--out", default=None)
    chosen = parser.parse_args()
    for name in chosen.scenarios:
        if name not in SCENARIOS:
            parser.error(f"unknown scenario {name!r}; choose from: {', '.join(SCENARIOS)}")
    for name in chosen.servers.split(","):
        if name not in TITLES:
            parser.error(f"unknown server {name!r}; choose from: {', '.join(TITLES)}")
    return chosen


def described():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown")
    memory = next(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("MemTotal")) / (1 << 20)
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    return (
        f"{platform.system()} {platform.release()}, {os.cpu_count()} processors ({model}), {memory:.0f} GiB, loopback; commit "
        f"{commit or 'unknown'}. Server on processor {os.environ.get('SERVER_CORE', 0)}, load generator on "
        f"{os.environ.get('LOAD_CORE', 1)}. Medians; ratios are to the bare loop in the same repetition. *whole*: no "
        "stream lost, duplicated or reordered an event, and every publish was answered.\n\n`scripts/perf` made this."
    )


def run(scenario, chosen, out):
    raw = out / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    wanted = chosen.servers.split(",")
    with open(out / f"{scenario}.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["variant", "server", "repetition", *FIELDS])
        most = 1 if chosen.quick else chosen.repetitions
        for repetition in range(1, most + 1):
            for variant in SCENARIOS[scenario]:
                if repetition > (variant.repetitions or most):
                    continue
                servers = [name for name in variant.servers if name in wanted and is_there(name)]
                # The order alternates, so that a drift of the machine does not always affect the same server.
                for name in servers if repetition % 2 else reversed(servers):
                    path = raw / f"{scenario}-{variant.name}-{name}-{repetition}"
                    result = measure(variant, name, path, 0.2 if chosen.quick else 1.0)
                    writer.writerow([variant.name, name, repetition, *(result.get(field, "") for field in FIELDS)])
                    file.flush()
                    print(f"… {scenario} {variant.name}, {name}, {repetition} of {most}: ok {result.get('ok')}, "
                          f"{result.get('server_cpu_us_per_delivery') or result.get('events_per_second')}", flush=True)


def main():
    chosen = options()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    out = Path(chosen.out or ROOT / "perf/results" / (datetime.date.today().isoformat() + ("-quick" if chosen.quick else "")))
    out.mkdir(parents=True, exist_ok=True)
    if not chosen.report_only:
        for scenario in chosen.scenarios or SCENARIOS:
            run(scenario, chosen, out)
    machine = out / "machine.txt"
    if not chosen.report_only or not machine.exists():
        machine.write_text(described())
    print(write_report(out, machine.read_text()))


main()
