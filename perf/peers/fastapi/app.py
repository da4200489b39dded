"""fastapi-sse-events, set up as in its README, with an endpoint that publishes the load generator's events."""

import os

from fastapi import Request
from fastapi_sse_events import SSEApp, subscribe_to_events

app = SSEApp(redis_url=os.environ["REDIS_URL"])


@app.get("/events")
@subscribe_to_events()
async def events(request: Request):
    pass


@app.post("/publish")
async def publish(request: Request):
    body = await request.json()
    await app.broker.publish(topic=body["topic"], event="data", data={"data": body["data"]})
    return {"published": 1}
