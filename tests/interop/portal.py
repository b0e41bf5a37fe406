"""PY_PORTAL of the interop harness: a portal on the 1.x Redis wire that prints its events.

    python tests/interop/portal.py '{"redis": url, "namespace": text or null, "reportAllEvents": bool}'

It prints one JSON line per event, after `{"event": "ready", "id": uuid}`. On SIGTERM, it leaves the pool
and ends with status 0.
"""

import json
import sys
from typing import Any

from mesa_ws import Portal, PortalEvent


def portal_of(order: dict[str, Any]) -> Portal:
    """Return a portal with handlers that print."""
    portal = Portal(
        order["redis"],
        namespace=order.get("namespace") or None,
        wire="mesa1",
        report_all_events=bool(order.get("reportAllEvents")),
    )

    @portal.on_connection
    @portal.on_authentication
    @portal.on_disconnection
    async def happened(event: PortalEvent) -> None:
        say(event.type, clientId=event.id)

    @portal.on_message
    async def sent(event: PortalEvent) -> None:
        assert event.message is not None
        message = {"op": event.message.opcode, "d": event.message.data, "t": event.message.type}
        said = {name: value for name, value in message.items() if value is not None or name == "d"}
        say("message", clientId=event.id, message=said)

    return portal


def say(event: str, **members: Any) -> None:
    """Print a line without the members that are None."""
    known = {name: value for name, value in members.items() if value is not None}
    print(json.dumps({"event": event, **known}), flush=True)


if __name__ == "__main__":
    portal = portal_of(json.loads(sys.argv[1]))
    portal.run(lambda: say("ready", id=portal.portal_id))
