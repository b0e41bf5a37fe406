"""A client of a server at its worst: nothing out of order, nothing twice, and no way to get stuck."""

import asyncio
import json
import random
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed as PeerClosed

from mesa_ws.client import Client, ClientLimits
from mesa_ws.errors import ConnectFailed, ConnectionClosed, MesaError, QueueFull, TimedOut
from mesa_ws.settings import Keepalive

from .scripted import LIMIT, ScriptedServer, Visitor, message

MISCHIEF = 1.0
"""Seconds for which the server does what it should not."""


class Worst:
    """Cuts, closes, stalls, talks garbage and forgets to answer; later it behaves.

    Attributes:
        sent: the last number it sent.
        received: the numbers it got.
        is_broken: whether a client sent something without being authenticated.
    """

    def __init__(self, scripted: ScriptedServer, chance: random.Random) -> None:
        self._scripted = scripted
        self._chance = chance
        self.is_calm = False
        self.is_broken = False
        self.sent = 0
        self.received: list[int] = []

    async def serve(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._attend(await self._scripted.visitor()))

    async def _attend(self, visitor: Visitor) -> None:
        with suppress(PeerClosed, TimeoutError):
            if self._happens(0.2):
                visitor.cut()
            await visitor.greet(c_reconnect_interval=1)
            async with asyncio.TaskGroup() as group:
                talking = group.create_task(self._talk(visitor))
                await self._listen(visitor)
                talking.cancel()

    async def _listen(self, visitor: Visitor) -> None:
        is_known = False
        with suppress(PeerClosed):
            async for text in visitor.socket:
                frame = json.loads(text)
                if frame["op"] == 2 and not self._happens(0.2):
                    is_known = True
                    await visitor.send(op=22, d={})
                elif frame["op"] == 0:
                    self.is_broken |= not is_known
                    self.received.append(frame["d"][0])

    async def _talk(self, visitor: Visitor) -> None:
        with suppress(PeerClosed):
            while True:
                await asyncio.sleep(self._chance.random() * 0.01)
                if self._happens(0.1):
                    await self._misbehave(visitor)
                for _ in range(self._chance.randrange(20)):
                    self.sent += 1
                    await visitor.dispatch("NUMBER", self.sent)

    async def _misbehave(self, visitor: Visitor) -> None:
        match self._chance.randrange(5):
            case 0:
                visitor.cut()
            case 1:
                await visitor.close(self._chance.choice([1000, 1001, 1011, 4000]))
            case 2:
                visitor.socket.transport.pause_reading()
                await asyncio.sleep(self._chance.random() * 0.2)
                visitor.socket.transport.resume_reading()
            case 3:
                await visitor.socket.send("garbage")
            case 4:
                await visitor.send(op=1, d={})

    def _happens(self, probability: float) -> bool:
        return not self.is_calm and self._chance.random() < probability


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_client_survives_the_worst_server(scripted: ScriptedServer, seed: int) -> None:
    chance = random.Random(seed)
    worst = Worst(scripted, chance)
    client = scripted.client(
        ClientLimits(max_queued=8, connect_timeout=0.2, close_timeout=0.1),
        queue_size=50,
        keepalive=Keepalive(interval=0.1, timeout=0.1),
    )
    serving = asyncio.create_task(worst.serve())
    async with asyncio.timeout(3 * LIMIT):
        await _log_in(client)
        received: list[int] = []
        reading = asyncio.create_task(_read(client, received, chance))
        last = await _write(client, chance)
        worst.is_calm = True
        last = await _insist(client, worst, last)
        await client.aclose()
        await reading
    serving.cancel()
    assert not worst.is_broken
    assert worst.received[-1] <= last
    assert worst.received == sorted(set(worst.received))
    assert received == sorted(set(received))


async def _log_in(client: Client) -> None:
    while True:
        try:
            await client.connect()
            await client.authenticate({"id": "1"}, timeout=0.3)
        except (ConnectFailed, ConnectionClosed, TimedOut):
            continue
        return


async def _read(client: Client, received: list[int], chance: random.Random) -> None:
    async for each in client:
        received.append(each.data)
        if chance.random() < 0.01:
            await asyncio.sleep(0.02)


async def _write(client: Client, chance: random.Random) -> int:
    """Send numbers for a while, some of them in a hurry; return the last one."""
    loop = asyncio.get_running_loop()
    end, number = loop.time() + MISCHIEF, 0
    while loop.time() < end:
        number += 1
        with suppress(QueueFull, TimeoutError):
            async with asyncio.timeout(chance.choice([0.001, 1.0])):
                await client.send(message("NUMBER", [number, "x" * chance.choice([1, 20_000])]))
        await asyncio.sleep(chance.choice([0, 0, 0.001]))
    return number


async def _insist(client: Client, worst: Worst, last: int) -> int:
    """Send until something arrives, now that the server behaves; return the last number."""
    first = last + 1
    while not (worst.received and worst.received[-1] >= first):
        last += 1
        with suppress(MesaError):
            await client.send(message("NUMBER", [last, ""]))
        await asyncio.sleep(0.01)
    return last
