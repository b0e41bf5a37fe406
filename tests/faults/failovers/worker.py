"""A portal: python -m tests.faults.failovers.worker REDIS_URL NAMESPACE LEASE DURABILITY.

It writes `["up"]`, and `["handled", connection, type, number, code]` for each event.
"""

import sys
from typing import Any

from mesa_ws import Portal, PortalEvent
from tests.faults.chaos.journal import write


def main(redis_url: str, namespace: str, lease: str, durability: Any) -> None:
    portal = Portal(redis_url, namespace=namespace, lease=float(lease), durability=durability)

    @portal.on_connection
    @portal.on_authentication
    @portal.on_message
    @portal.on_disconnection
    async def on_event(event: PortalEvent) -> None:
        number = None if event.message is None else event.message.data
        write(["handled", event.connection_id, event.type, number, event.code])

    portal.run(lambda: write(["up"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
