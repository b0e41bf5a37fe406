"""Storing, logging in, leaving and being killed at the same time, on the 1.x Redis wire."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import count

import pytest

from mesa_ws import AsyncDispatcher, Endpoint, Message, Server
from tests.system.server.conftest import Serving, accepting
from tests.system.server.peer import Peer

ENOUGH = 150
"""Messages that have to be stored, between those that are sent to a connected client."""

LISTENS = 0.02
"""Seconds that a client stays."""


def server(redis_url: str, namespace: str) -> Server:
    return accepting(backend=redis_url, namespace=namespace, wire="mesa1", sync=True)


@pytest.fixture
async def endpoints(redis_url: str, namespace: str, serving: Serving) -> list[Endpoint]:
    """Two servers of one cluster."""
    return [await serving(server(redis_url, namespace)) for _ in range(2)]


@pytest.fixture
async def dispatcher(redis_url: str, namespace: str) -> AsyncIterator[AsyncDispatcher]:
    async with AsyncDispatcher(redis_url, namespace=namespace, wire="mesa1", sync=True) as dispatcher:
        yield dispatcher


async def listen(peer: Peer, seen: list[int]) -> None:
    """Note the numbers of messages, and answer every heartbeat, until the connection is cut."""
    while True:
        frame = await peer.receive()
        if frame["op"] == 0:
            seen.append(frame["d"])
        elif frame["op"] == 1:
            await peer.raw('{"op":11,"d":{}}')


async def test_what_was_stored_is_not_lost_by_who_comes_and_goes(
    endpoints: list[Endpoint], dispatcher: AsyncDispatcher
) -> None:
    """Messages to a connected client may be lost with its connection, as in 1.x; no others.

    What is sent to a connection that ends may still be heard by the next one, which logs in elsewhere. It
    is live, and so follows what was stored, though that may be later.
    """
    stored: set[int] = set()

    async def send() -> None:
        for n in count():
            receipt = await dispatcher.dispatch(Message(0, n), ["1"])
            if receipt.deliveries["1"].stored:
                stored.add(n)
            if len(stored) >= ENOUGH:
                break

    sending = asyncio.create_task(send())
    logins: list[list[int]] = []
    while not sending.done() or stored - {n for seen in logins for n in seen}:
        async with Peer.connect(endpoints[len(logins) % 2].url) as peer:
            logins.append([])
            await peer.authenticate("1")
            if len(logins) % 3 == 0:
                continue  # leaves without having read anything
            with suppress(TimeoutError):
                async with asyncio.timeout(LISTENS):
                    await listen(peer, logins[-1])
    for seen in logins:
        assert len(seen) == len(set(seen))
        for part in (stored & set(seen), set(seen) - stored):
            assert [n for n in seen if n in part] == sorted(part)
