"""Runs the cases of the Autobahn test suite against an echo server, and prints what failed.

usage: run.py HOST:PORT WHEEL [NUMBER…]

WHEEL is the package as published. A NUMBER such as 6.4 or 1.1.3 selects a group or a case. The server echoes each message,
text or binary, after a first message of its own.
"""

import asyncio
import sys
import time
from collections import Counter

import cases
from fuzzer import Fuzzer

# Cases at a time: many that wait for seconds, and then a few of group 9, whose megabytes would delay the others.
PARALLEL, PARALLEL_LARGE = 16, 2

# `UNCLEAN` and `WRONG CODE` concern the end of a connection, the others also its messages.
ACCEPTED = ("OK", "NON-STRICT", "INFORMATIONAL")


async def run_group(found, parallel, host, port):
    slots = asyncio.Semaphore(parallel)
    return await asyncio.gather(*(run_case(number, kind, host, port, slots) for number, kind in found.items()))


async def run_case(number, kind, host, port, slots):
    async with slots:
        client = Fuzzer()
        case = kind(client)
        await client.run(host, port, case)
        behaviors = (case.behavior, case.behaviorClose)
        is_accepted = client.error is None and all(behavior in ACCEPTED for behavior in behaviors)
        if not is_accepted or "NON-STRICT" in behaviors:
            text = client.error or f"{case.result} {case.resultClose} (close code {client.remoteCloseCode})"
            description = " ".join(case.DESCRIPTION.split())[:160]
            print(f"{number}: {behaviors[0]}, close {behaviors[1]}: {text[:300]}\n    {description}")
        return max(behaviors, key=ACCEPTED.index) if is_accepted else "FAILED"


async def main(address, wheel, *wanted):
    host, port = address.rsplit(":", 1)
    found = cases.load(wheel)
    is_wanted = lambda number: not wanted or any(f"{number}.".startswith(f"{one}.") for one in wanted)
    found = {number: kind for number, kind in found.items() if is_wanted(number)}
    large = {number: found.pop(number) for number in list(found) if number.startswith("9.")}
    began = time.monotonic()
    outcomes = [await run_group(found, PARALLEL, host, int(port)), await run_group(large, PARALLEL_LARGE, host, int(port))]
    outcomes = sum(outcomes, [])
    counts = Counter(outcomes)
    print(f"{len(outcomes)} cases in {time.monotonic() - began:.0f} s: {dict(counts)}")
    return 1 if counts["FAILED"] or not outcomes else 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(asyncio.run(main(*sys.argv[1:])))
