"""Runs COMMAND and writes to OUT, as JSON, for how long the processors were unavailable meanwhile.

On each processor a watcher of real-time priority wakes every millisecond. No other program can delay it. If it wakes late, the
host of the virtual machine has suspended the processor. Such stalls affect every server and client and are not a property of
the measured program."""

import json
import multiprocessing
import os
import subprocess
import sys
import time

PERIOD = 0.001
LATE = 0.001


def watch(processor, is_over, report):
    os.sched_setaffinity(0, {processor})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
    stalls, due = [], time.monotonic()
    while not is_over.is_set():
        due += PERIOD
        time.sleep(max(0, due - time.monotonic()))
        late = time.monotonic() - due
        if late > LATE:
            stalls.append(late)
            due += late
    report.put(stalls)


out, command = sys.argv[1], sys.argv[2:]
is_over, report = multiprocessing.Event(), multiprocessing.SimpleQueue()
watchers = [multiprocessing.Process(target=watch, args=(processor, is_over, report)) for processor in os.sched_getaffinity(0)]
for watcher in watchers:
    watcher.start()
code = subprocess.run(command).returncode
is_over.set()
stalls = [stall for _ in watchers for stall in report.get()]
with open(out, "w") as file:
    json.dump({"stalls": len(stalls), "longest_ms": round(1000 * max(stalls, default=0), 1), "total_ms": round(1000 * sum(stalls), 1)}, file)
sys.exit(code)
