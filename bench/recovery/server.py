"""A server with message sync, which reports how it fares.

Arguments: the URL of a Redis, a port, and the core to run on.
"""

import asyncio
import os
import sys
import time
from typing import Any, ClassVar

from mesa_ws import Connection, Server, User
from mesa_ws.transports.run import Endpoint

from ..servers.orders import answer, obey_orders

PERIOD = 0.01
"""Seconds between two looks at the clock; what they take longer was a turn of the event loop."""

url, port, core = sys.argv[1:]
os.sched_setaffinity(0, [int(core)])
server = Server(url, namespace="recovery", sync=True)
works: list[asyncio.Task[None]] = []


class Facts:
    """What happened so far: the ids that were reported offline, and the longest turn of the event loop."""

    offline: ClassVar[list[tuple[str, float]]] = []
    longest = 0.0


@server.authenticator
async def authenticate(data: dict[str, Any], connection: Connection) -> User:
    return User(data["id"])


@server.on_offline
async def record(id: str) -> None:
    Facts.offline.append((id, time.monotonic()))


async def watch_clock() -> None:
    while True:
        began = time.monotonic()
        await asyncio.sleep(PERIOD)
        Facts.longest = max(Facts.longest, time.monotonic() - began - PERIOD)


async def facts() -> None:
    backend: Any = server.backend
    limits: Any = getattr(server, "connection_limits", None)  # older servers have none
    counted = {
        f"{counter} by {name}": count
        for counter in ("refused", "dropped")
        for name, count in getattr(limits, counter, {}).items()
    }
    answer({"joins": backend.joins, "offline": Facts.offline, "longest": Facts.longest, "notes": counted})


def begin(endpoint: Endpoint) -> None:
    works.append(asyncio.ensure_future(watch_clock()))
    works.append(asyncio.ensure_future(obey_orders(endpoint.port, {"facts": facts})))


server.run(port=int(port), on_start=begin)
