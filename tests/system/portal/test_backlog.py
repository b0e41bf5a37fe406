"""While portals do not keep up, clients are read no further, and that is not held against them."""

import asyncio
import json
from typing import Any

import pytest

from tests.system.portal.conftest import Site
from tests.system.server.peer import Peer, RawPeer
from tests.system.waiting import until

COUNT = 600

BACKLOG = {"enabled": True, "backlog_max": 32, "distribute_load": False}


@pytest.mark.parametrize(
    "deadline",
    [
        {"keepalive": {"interval": 0.2, "timeout": 0.2}},
        {"heartbeat": {"enabled": True, "interval": 0.2, "max_attempts": 2}},
    ],
    ids=["keepalive", "heartbeat"],
)
async def test_no_deadline_of_a_client_runs_while_a_full_backlog_stops_its_reading(
    site: Site, deadline: dict[str, Any]
) -> None:
    """The same deadline closes a client that is read and sends nothing."""
    server = await site.serve(portals=BACKLOG, limits={"max_queued": 4}, **deadline)
    peer = await site.join("alice")
    answering, sending = asyncio.create_task(answer(peer)), asyncio.create_task(send_all(peer))
    [connection] = server.connections
    await until(lambda: connection.protocol.deadline is None)
    for _ in range(2):
        async with RawPeer.connect(*site.address) as silent:
            await silent.upgrade()
            await silent.close_frame()
    assert connection.protocol.deadline is None
    record = await site.record()
    await until(lambda: len(record.data) >= COUNT)
    await sending
    answering.cancel()
    assert [event for event in record.events if event.id == "alice" and event.type == "disconnection"] == []
    assert record.data == list(range(COUNT))


async def send_all(peer: Peer) -> None:
    for n in range(COUNT):
        await peer.send("HI", n)


async def answer(peer: Peer) -> None:
    """Answer heartbeats, as a client does that is not stuck in sending."""
    while True:
        if json.loads(await peer.socket.recv())["op"] == 1:
            await peer.raw('{"op":11,"d":{}}')
