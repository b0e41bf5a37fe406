"""Dispatch of numbers to two users under faults, and the table of what their tabs received."""

import asyncio
from asyncio import CancelledError
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from random import Random
from time import monotonic
from uuid import uuid4

from mesa_ws import AsyncDispatcher, BackendUnavailable, Message

from .faults import Fault
from .site import NAMESPACE, Site
from .tabs import Client, Tab
from .verdict import Verdict, judge

PACE = 0.1
"""Seconds between two numbers for one user."""

TIMEOUT = 1.5
"""Seconds for one attempt to dispatch."""

AGAIN = 0.1
"""Seconds before another attempt."""

PATIENCE = 30.0
"""Seconds for which clients may be behind after a fault."""

Found = Sequence[tuple[Client, Verdict]]


class Talk:
    """Dispatches numbers to one user, each until it is confirmed, and then the next.

    Attributes:
        confirmed: how many numbers are confirmed, from 0 on.
    """

    def __init__(self, dispatcher: AsyncDispatcher, user: str) -> None:
        self._dispatcher = dispatcher
        self._user = user
        self.confirmed = 0

    async def run(self) -> None:
        """Dispatch until cancelled, and even then until the last number is confirmed."""
        begun = monotonic()
        for number in count():
            try:
                await asyncio.sleep(max(0.0, begun + number * PACE - monotonic()))
            except CancelledError:
                return
            confirming = asyncio.create_task(self._confirm(number))
            try:
                await asyncio.shield(confirming)
            except CancelledError:
                await confirming
                return

    async def _confirm(self, number: int) -> None:
        message, key = Message(0, number, "NUMBER"), uuid4().hex
        while True:
            try:
                await self._dispatcher.dispatch(message, [self._user], idempotency_key=key)
                break
            except BackendUnavailable:
                await asyncio.sleep(AGAIN)
        self.confirmed = number + 1


async def storm(
    site: Site, clients: Sequence[Client], faults: Iterable[Fault], dice: Random
) -> tuple[Found, Sequence[str]]:
    """Dispatch while one fault follows another; after each, wait until every client has a later number.

    Returns:
        The verdicts, and the clients that did not come back after a fault, which ends the storm.
    """
    tabs = [client for client in clients if isinstance(client, Tab)]
    behind: Sequence[str] = []
    await _all_open(clients)
    async with AsyncDispatcher(site.redis.url, namespace=NAMESPACE, sync=True, timeout=TIMEOUT) as dispatcher:
        talks = {user: Talk(dispatcher, user) for user in sorted({client.user for client in clients})}
        running = [asyncio.create_task(talk.run()) for talk in talks.values()]
        try:
            for fault in (None, *faults):
                if fault is not None:
                    await fault(site, tabs, dice)
                meant = {user: talk.confirmed + 1 for user, talk in talks.items()}
                name = fault.__name__ if fault else "the beginning"
                if behind := await _behind(clients, meant, name):
                    break
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running)
        confirmed = {user: talk.confirmed for user, talk in talks.items()}
        behind = behind or await _behind(clients, confirmed, "the end")
    found = [
        (client, judge(range(confirmed[client.user]), await client.notes(), site.flushes))
        for client in clients
    ]
    return found, behind


async def _all_open(clients: Sequence[Client]) -> None:
    """Wait until each client is logged in: from then on it has to receive everything."""
    for client in clients:
        async with asyncio.timeout(PATIENCE):
            while ("state", "open") not in [note[1:] for note in await client.notes()]:
                await asyncio.sleep(0.05)


async def _behind(clients: Sequence[Client], meant: Mapping[str, int], after: str) -> Sequence[str]:
    """Wait until each client has received its numbers and sent its messages; return those that have not."""
    end = monotonic() + PATIENCE
    lacking, silent = list(clients), list(clients)
    while (lacking or silent) and monotonic() < end:
        lacking = [client for client in lacking if await client.newest() < meant[client.user] - 1]
        silent = [client for client in silent if len({*await client.said()}) > 1]
        await asyncio.sleep(0.05)
    return [
        *(f"{client.name} still lacks numbers after {after}" for client in lacking),
        *(f"{client.name} has still not written what it sent after {after}" for client in silent),
    ]


def table(found: Found) -> list[str]:
    """Return a table of clients and what they received."""
    rows = [("client", *Verdict.head()), *((client.name, *verdict.row()) for client, verdict in found)]
    first, *widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [name.ljust(first), *(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))]
        )
        for name, *cells in rows
    ]
