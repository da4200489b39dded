"""Follows a stream with sseclient-py, and resumes it: python follow_sseclient.py 'http://localhost:8000/stream?topics=log'"""

import sys
import time

import requests
import sseclient


def follow(url):
    """Yields each event once, even if the connection is lost."""
    last, retry = "", 5.0
    while True:
        try:
            headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
            # Longer than the server's heartbeat: after such a silence the connection is lost.
            with requests.get(url, headers=headers, stream=True, timeout=(10, 60)) as response:
                response.raise_for_status()
                for event in sseclient.SSEClient(response).events():
                    last = event.id or last
                    if event.retry is not None:
                        retry = int(event.retry) / 1000
                    yield event
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            print(f"connection lost: {error}", file=sys.stderr)
        time.sleep(retry)


for event in follow(sys.argv[1]):
    if event.event in ("system", "gap"):
        print(f"{event.event}: {event.data}", file=sys.stderr, flush=True)
    elif event.event != "heartbeat":
        print(event.id, event.data, flush=True)
