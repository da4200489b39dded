"""Prints the decoded body of a stream as it arrives: python read_httpx.py LAST_EVENT_ID URL"""

import sys

import httpx

last, url = sys.argv[1:]
headers = {"Last-Event-ID": last} if last else {}
with httpx.stream("GET", url, headers=headers, timeout=60) as response:
    for text in response.iter_text():
        print(text, end="", flush=True)
