"""Confirmations of a master that Sentinel and replicas cannot reach, with and without protection.

There is a dispatcher on each side of the cut: one still reaches the old master, the other follows
Sentinel to the new one. Then the cut heals, and the old master drops what it accepted alone. A client
has to receive all messages that either master confirmed; with the defaults of Redis it does not, and
the report counts them.
"""

import asyncio
from pathlib import Path
from typing import Any, Literal

import pytest

from mesa_ws import (
    AsyncDispatcher,
    BackendError,
    Client,
    Connection,
    Message,
    RedisBackend,
    Server,
    User,
    serve,
)
from tests.closing_report import ClosingReport

from .chaos.checker import Expected, Label, check
from .failovers.redises import Member, Redises, until

LIMIT = 30.0
"""Seconds that a failover may take."""

GUARDED = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "1")
"""Options with which a master notices that it is alone."""

ENOUGH = 20
"""Number of messages that the new master has to confirm before the cut heals."""


class Side:
    """A dispatcher, and its confirmed messages."""

    def __init__(
        self, name: str, dispatcher: AsyncDispatcher, durability: Literal["memory", "replicated"]
    ) -> None:
        self._name = name
        self._dispatcher = dispatcher
        self._durability = durability
        self._number = 0
        self.confirmed: dict[Label, int | None] = {}

    async def dispatch(self) -> None:
        """Try once to dispatch the next message."""
        label = (self._name, self._number)
        self._number += 1
        try:
            await self._dispatcher.dispatch(
                Message(0, {"label": label}, "SPLIT"), ["alice"], durability=self._durability
            )
        except BackendError:
            return
        self.confirmed[label] = None

    async def go_on(self) -> None:
        """Dispatch for ever."""
        while True:
            await self.dispatch()
            await asyncio.sleep(0.05)


@pytest.mark.timeout(4 * LIMIT)
@pytest.mark.parametrize(("durability", "options"), [("replicated", GUARDED), ("memory", ())])
async def test_a_split_brain_loses_no_message_that_was_confirmed_as_replicated(
    durability: Literal["memory", "replicated"],
    options: tuple[str, ...],
    release: str,
    tmp_path: Path,
    namespace: str,
    pytestconfig: pytest.Config,
) -> None:
    async with Redises(tmp_path, release, *options).running() as redises:
        confirmed = await split(redises, namespace, durability)
        received = await read_all(redises, namespace)
    lost = check("alice", Expected(confirmed, set()), [received]).lost
    guard = "with min-replicas-to-write" if options else "without min-replicas-to-write"
    ClosingReport.of(pytestconfig).add(
        "faults",
        f"split brain on {release}, durability {durability} {guard}: "
        f"{len(confirmed)} confirmed, {len(lost)} lost",
    )
    assert bool(lost) == (durability == "memory"), lost


async def split(
    redises: Redises, namespace: str, durability: Literal["memory", "replicated"]
) -> dict[Label, int | None]:
    """Dispatch before a split brain and on both sides of it; return the confirmed messages."""
    master = redises.members[0]
    async with (
        AsyncDispatcher(master.server.url, namespace=namespace, sync=True, timeout=2.0) as near,
        AsyncDispatcher(redises.url, namespace=namespace, sync=True, timeout=2.0) as far,
    ):
        old, new = Side("old", near, durability), Side("new", far, durability)
        async with asyncio.timeout(LIMIT):
            while min(len(old.confirmed), len(new.confirmed)) < ENOUGH:
                await old.dispatch()
                await new.dispatch()
            master.way.is_down = True
            master.way.cut()
            before = len(new.confirmed)
            going_on = asyncio.create_task(old.go_on())
            while len(new.confirmed) < before + ENOUGH:
                await new.dispatch()
            going_on.cancel()
            await asyncio.gather(going_on, return_exceptions=True)
        master.way.heal()
        await asyncio.to_thread(follow_successor, redises, master)
        await until(master.is_replica)
        return old.confirmed | new.confirmed


def follow_successor(redises: Redises, old: Member) -> None:
    """Make the old master follow the new one, as Sentinel would after 10 seconds."""
    new = redises.successor(old)
    assert new is not None
    old.follow(new.way.port)


async def read_all(redises: Redises, namespace: str) -> list[Label]:
    """Return all messages that a client receives when it logs in now, up to a last one."""
    server = Server(RedisBackend(redises.url, namespace=namespace), sync=True)

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        return User(data["id"])

    async with AsyncDispatcher(redises.url, namespace=namespace, sync=True) as dispatcher:
        await dispatcher.dispatch(Message(0, {"label": ["last", 0]}, "SPLIT"), ["alice"])
    received: list[Label] = []
    async with asyncio.timeout(LIMIT), serve(server) as endpoint, Client(endpoint.url) as client:
        await client.authenticate({"id": "alice"})
        async for message in client:
            source, number = message.data["label"]
            if source == "last":
                break
            received.append((source, number))
    return received
