"""Follows a stream with httpx-sse, and resumes it: python follow_httpx.py 'http://localhost:8000/stream?topics=log'"""

import sys
import time

import httpx
from httpx_sse import connect_sse


def follow(url):
    """Yields each event once, even if the connection is lost."""
    last, retry = "", 5.0
    # Longer than the server's heartbeat: after such a silence the connection is lost.
    with httpx.Client(timeout=httpx.Timeout(10, read=60)) as client:
        while True:
            wait = 0.0
            try:
                headers = {"Last-Event-ID": last} if last else {}
                with connect_sse(client, "GET", url, headers=headers) as source:
                    after = source.response.headers.get("retry-after", "")
                    wait = float(after) if after.isdigit() else 0.0
                    source.response.raise_for_status()
                    for event in source.iter_sse():
                        last = event.id or last
                        if event.retry is not None:
                            retry = event.retry / 1000
                        yield event
            except httpx.HTTPStatusError as error:
                # The server is full or draining, or the client was too fast. Any other refusal is for good.
                if error.response.status_code < 500 and error.response.status_code != 429:
                    raise
                print(error, file=sys.stderr)
            except httpx.TransportError as error:
                print(f"connection lost: {error}", file=sys.stderr)
            time.sleep(max(retry, wait))


for event in follow(sys.argv[1]):
    if event.event in ("system", "gap"):
        print(f"{event.event}: {event.data}", file=sys.stderr, flush=True)
    elif event.event != "heartbeat":
        print(event.id, event.data, flush=True)
