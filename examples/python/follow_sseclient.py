"""Follows a stream with sseclient-py, and resumes it: python follow_sseclient.py 'http://localhost:8000/stream?topics=log'"""

import sys
import time

import requests
import sseclient


def follow(url):
    """Yields each event once, even if the connection is lost."""
    last, retry = "", 5.0
    while True:
        wait = 0.0
        try:
            headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
            # Longer than the server's heartbeat: after such a silence the connection is lost.
            with requests.get(url, headers=headers, stream=True, timeout=(10, 60)) as response:
                after = response.headers.get("Retry-After", "")
                wait = float(after) if after.isdigit() else 0.0
                response.raise_for_status()
                for event in sseclient.SSEClient(response).events():
                    last = event.id or last
                    if event.retry is not None:
                        retry = int(event.retry) / 1000
                    yield event
        except requests.HTTPError as error:
            # The server is full or draining, or the client was too fast. Any other refusal is for good.
            if error.response.status_code < 500 and error.response.status_code != 429:
                raise
            print(error, file=sys.stderr)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            print(f"connection lost: {error}", file=sys.stderr)
        time.sleep(max(retry, wait))


for event in follow(sys.argv[1]):
    if event.event in ("system", "gap"):
        print(f"{event.event}: {event.data}", file=sys.stderr, flush=True)
    elif event.event != "heartbeat":
        print(event.id, event.data, flush=True)
