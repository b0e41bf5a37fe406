"""PY_DISPATCH of the interop harness: dispatches over the 1.x Redis wire, as its JSON argument says.

    python tests/interop/dispatch.py '{"redis": url, "namespace": text or null, "sync": bool,
                                       "calls": [...]}'

A call is `{"op", "data", "type", "options": {"sync"}, "recipients", "excluding"}`, of which only data
is required, or `{"event": "DISCONNECT_CLIENT", "recipients"}`. It ends with status 0 when all succeed,
and otherwise with 1 and one line on stderr for each failed call.
"""

import asyncio
import json
import sys
from collections.abc import Iterable
from typing import Any

from mesa_ws import AsyncDispatcher, DispatchEvent, Message
from mesa_ws.backend.mesa1.payloads import name_of
from mesa_ws.messages.recipients import id_problem


def message_of(call: dict[str, Any]) -> Message | DispatchEvent:
    """Return the message or event of a call."""
    if "event" in call:
        return DispatchEvent(call["event"])
    options = call.get("options")
    sync = None if options is None else options.get("sync", True)
    return Message(call.get("op", 0), call.get("data"), call.get("type"), sync=sync)


def recipients_of(given: Iterable[object] | None) -> list[str]:
    """Return the recipients of a call, without those that 1.x ignores and Mesa refuses."""
    named = map(name_of, ["*"] if given is None else given)
    return [id for id in named if id is not None and (id == "*" or id_problem(id) is None)]


async def main(order: dict[str, Any]) -> list[BaseException]:
    """Start the calls in their order; return their errors."""
    async with AsyncDispatcher(
        order["redis"], namespace=order.get("namespace") or None, sync=bool(order.get("sync")), wire="mesa1"
    ) as dispatcher:

        async def dispatch(call: dict[str, Any]) -> None:
            await dispatcher.dispatch(
                message_of(call),
                recipients_of(call.get("recipients")),
                [id for id in recipients_of(call.get("excluding") or ()) if id != "*"],
            )

        outcomes = await asyncio.gather(*map(dispatch, order["calls"]), return_exceptions=True)
    return [outcome for outcome in outcomes if outcome is not None]


if __name__ == "__main__":
    errors = asyncio.run(main(json.loads(sys.argv[1])))
    for error in errors:
        print(error, file=sys.stderr)
    sys.exit(bool(errors))
