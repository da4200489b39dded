"""Reads GET /clients of HOST:PORT page by page, all of it again and again, until SIGTERM. Then it says how many whole
listings it had since everybody (COUNT) was there, and the fewest clients that one of them had."""

import http.client
import re
import signal
import sys

_, address, limit, everybody = sys.argv
connection = http.client.HTTPConnection(address)
is_ended = False


def end(*_):
    global is_ended
    is_ended = True


signal.signal(signal.SIGTERM, end)
listings, fewest = 0, None
while not is_ended:
    clients, after = 0, ""
    while not is_ended:
        connection.request("GET", f"/clients?limit={limit}{after}")
        page = connection.getresponse().read()
        # Parsing 300 KB of JSON would take more of this machine than the server's answer does.
        clients += page.count(b'"client_id":')
        following = re.search(rb'"next":"([0-9a-f]{16})"', page[-200:])
        if not following:
            # Before that they are still connecting.
            if fewest is not None or clients >= int(everybody):
                listings += 1
                fewest = clients if fewest is None else min(fewest, clients)
            break
        after = f"&after={following[1].decode()}"
print(listings, fewest if fewest is not None else 0)
