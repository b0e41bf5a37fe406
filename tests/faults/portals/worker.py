"""A portal whose effects are stored: python -m tests.faults.portals.worker REDIS_URL NAMESPACE LEASE.

It writes `["up"]`, and `["begins", key, deliveries]` before it handles an event.
"""

import asyncio
import random
import sys
from zlib import crc32

from mesa_ws import AsyncDispatcher, Message, Portal, PortalEvent, Sync
from tests.faults.chaos.journal import write

SINKS = 16
"""Number of outboxes for the effects."""

MOMENT = 0.02
"""Seconds that handling takes on average, so that some tens of events are under way in each portal.

Random durations reveal a portal that does not keep the order of a connection.
"""

KEEP = Sync(enabled=True, max_messages=10_000_000, max_bytes=2**31)


def main(redis_url: str, namespace: str, lease: str) -> None:
    portal = Portal(redis_url, namespace=namespace, lease=float(lease))
    dispatcher = AsyncDispatcher(redis_url, namespace=namespace, sync=KEEP)

    @portal.on_connection
    @portal.on_authentication
    @portal.on_message
    @portal.on_disconnection
    async def on_event(event: PortalEvent) -> None:
        write(["begins", event.key, event.deliveries])
        await asyncio.sleep(random.uniform(0, 2 * MOMENT))
        what = event.type if event.message is None else event.message.data
        sink = f"sink {crc32(event.connection_id.encode()) % SINKS}"
        await dispatcher.dispatch(Message(0, [event.connection_id, event.id, what]), [sink])

    portal.run(lambda: write(["up"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
