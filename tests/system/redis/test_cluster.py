"""Two servers in processes of their own, one Redis, and a dispatcher in a third process."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from mesa_ws.dispatcher import AsyncDispatcher
from tests.system.server.peer import LIMIT, Peer

LEASE = 1.5
"""Seconds; short, so that the cluster notices a dead server within a test."""

SERVER = Path(__file__).with_name("cluster_server.py")

DISPATCH = """
import json, sys
from mesa_ws.dispatcher import Dispatcher
from mesa_ws.messages.message import DispatchEvent, Message
url, namespace, recipients, excluding, data = map(json.loads, sys.argv[1:])
with Dispatcher(url, namespace=namespace) as dispatcher:
    message = DispatchEvent("DISCONNECT_CLIENT") if data == "DISCONNECT" else Message(0, data, "HI")
    receipt = dispatcher.dispatch(message, recipients, excluding)
print(json.dumps({id: delivery.online for id, delivery in receipt.deliveries.items()}))
"""


class ServerProcess:
    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url


class Cluster:
    """Starts servers, connects peers, and dispatches from processes of their own."""

    def __init__(self, redis_url: str, namespace: str, stack: AsyncExitStack) -> None:
        self.redis_url = redis_url
        self.namespace = namespace
        self._stack = stack

    async def server(self, namespace: str | None = None) -> ServerProcess:
        process = await self._process(str(SERVER), self.redis_url, namespace or self.namespace, str(LEASE))
        assert process.stdout is not None
        async with asyncio.timeout(LIMIT):
            return ServerProcess(process, (await process.stdout.readline()).decode().strip())

    async def join(self, server: ServerProcess, id: str | None = None) -> Peer:
        peer = await self._stack.enter_async_context(Peer.connect(server.url))
        if id is not None:
            await peer.authenticate(id)
        return peer

    async def dispatch(
        self,
        recipients: list[str],
        excluding: list[str] | None = None,
        data: Any = "hi",
        namespace: str | None = None,
    ) -> dict[str, int]:
        """Dispatch from another process; return the connections per id of its receipt."""
        arguments = [self.redis_url, namespace or self.namespace, recipients, excluding or [], data]
        process = await self._process("-c", DISPATCH, *map(json.dumps, arguments))
        async with asyncio.timeout(LIMIT):
            output, _ = await process.communicate()
        assert process.returncode == 0
        online: dict[str, int] = json.loads(output)
        return online

    async def online(self, id: str, count: int) -> None:
        """Wait until the cluster counts `count` connections of `id`."""
        async with (
            asyncio.timeout(LIMIT),
            AsyncDispatcher(self.redis_url, namespace=self.namespace) as asking,
        ):
            while await asking.presence.online([id]) != {id: count}:
                await asyncio.sleep(0.01)

    async def _process(self, *arguments: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdout=asyncio.subprocess.PIPE
        )
        self._stack.push_async_callback(_end, process)
        return process


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGCONT)
        process.kill()
    await process.wait()


@pytest.fixture
async def cluster(redis_url: str, namespace: str) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        yield Cluster(redis_url, namespace, stack)


async def received(*peers: Peer) -> list[list[Any]]:
    """Return the messages of type HI that each peer received."""
    return [await peer.received("HI") for peer in peers]


async def test_messages_reach_the_right_clients_on_every_server(cluster: Cluster) -> None:
    first, second = await cluster.server(), await cluster.server()
    zero, one, anonymous = [await cluster.join(first, id) for id in ("0", "1", None)]
    zero_too, two = [await cluster.join(second, id) for id in ("0", "2")]
    peers = (zero, zero_too, one, two, anonymous)

    assert await cluster.dispatch(["0", "1", "away"], data="ids") == {"0": 2, "1": 1, "away": 0}
    assert await received(*peers) == [["ids"], ["ids"], ["ids"], [], []]

    await cluster.dispatch(["0", "1"], ["1"], data="but 1")
    await cluster.dispatch(["*"], data="all")
    await cluster.dispatch(["*"], ["0"], data="all but 0")
    assert await received(*peers) == [
        ["ids", "but 1", "all"],
        ["ids", "but 1", "all"],
        ["ids", "all", "all but 0"],
        ["all", "all but 0"],
        ["all", "all but 0"],
    ]


async def test_a_server_sends_to_clients_of_the_other(cluster: Cluster) -> None:
    here, there = [await cluster.join(await cluster.server(), id) for id in ("0", "1")]
    await here.send("SEND", {"to": ["0", "1"], "excluding": [], "data": 1})
    await here.send("SEND", {"to": ["*"], "excluding": ["0"], "data": 2})
    assert (await there.until(t="SENT"))["d"] == 1
    assert (await there.until(t="SENT"))["d"] == 2
    assert await here.received("SENT") == [1]


async def test_namespaces_never_meet(cluster: Cluster) -> None:
    ours = await cluster.join(await cluster.server(), "0")
    theirs = await cluster.join(await cluster.server("other-" + cluster.namespace), "0")
    await cluster.dispatch(["0"], data="to 0")
    await cluster.dispatch(["*"], data="to all")
    assert await received(ours, theirs) == [["to 0", "to all"], []]


async def test_disconnect_client_closes_every_device_of_an_id(cluster: Cluster) -> None:
    first, second = await cluster.server(), await cluster.server()
    phone, laptop, other = [
        await cluster.join(server, id) for server, id in ((first, "0"), (second, "0"), (second, "1"))
    ]
    assert await cluster.dispatch(["0"], data="DISCONNECT") == {"0": 2}
    assert [await phone.closed(), await laptop.closed()] == [1000, 1000]
    assert await received(other) == [[]]
    await cluster.online("0", 0)


async def test_a_killed_server_leaves_no_ghost_after_its_lease(cluster: Cluster) -> None:
    first, second = await cluster.server(), await cluster.server()
    await cluster.join(first, "0")
    survivor = await cluster.join(second, "0")
    first.process.kill()
    await cluster.online("0", 1)
    await cluster.dispatch(["0"], data="still here")
    assert await received(survivor) == [["still here"]]


async def test_a_server_paused_past_its_lease_serves_its_ids_again(cluster: Cluster) -> None:
    first, second = await cluster.server(), await cluster.server()
    paused = await cluster.join(first, "0")
    await cluster.join(second, "1")
    first.process.send_signal(signal.SIGSTOP)
    await cluster.online("0", 0)
    first.process.send_signal(signal.SIGCONT)
    await cluster.online("0", 1)
    await cluster.dispatch(["0"], data="back")
    assert await received(paused) == [["back"]]


async def test_a_stopped_server_is_offline_at_once(cluster: Cluster) -> None:
    server = await cluster.server()
    peer = await cluster.join(server, "0")
    server.process.terminate()
    assert await peer.closed() == 1001
    assert await server.process.wait() == 0
    assert await cluster.dispatch(["0"]) == {"0": 0}
