"""JavaScript clients while their servers, in processes of their own, are replaced and killed."""

import asyncio
from contextlib import AsyncExitStack
from random import Random
from signal import SIGTERM

from mesa_ws import AsyncDispatcher, Message
from tests.faults.browser.site import NAMESPACE, ServerProcess
from tests.faults.chaos.proxy import Proxy
from tests.ports import free_port
from tests.redis_server import RedisServer
from tests.system.waiting import until

from .runtime import Clients, JsClient
from .site import IN_SESSION

pytestmark = IN_SESSION

PACE = 0.003
"""Seconds between two messages."""


class Talk:
    """Sends one number after another to `alice` until it is stopped.

    Attributes:
        count: number of sent messages.
    """

    def __init__(self, dispatcher: AsyncDispatcher) -> None:
        self._dispatcher = dispatcher
        self._is_over = False
        self._running = asyncio.create_task(self._run())
        self.count = 0

    async def reaches(self, *clients: JsClient) -> None:
        """Wait until clients have received some numbers sent from now on."""
        enough = self.count + 50
        await asyncio.gather(*(client.heard(enough) for client in clients))

    async def stop(self) -> None:
        self._is_over = True
        await self._running

    async def _run(self) -> None:
        while not self._is_over:
            await self._dispatcher.dispatch(Message(0, self.count, "M"), ["alice"])
            self.count += 1
            await asyncio.sleep(PACE)


async def test_servers_that_are_replaced_or_killed_cost_no_message(
    js: Clients, own_redis: RedisServer, stack: AsyncExitStack
) -> None:
    ports = [free_port(), free_port()]
    first, second = [ServerProcess(own_redis.url, port) for port in ports]
    for server in (first, second):
        stack.push_async_callback(server.end)
    await first.start()
    network = await stack.enter_async_context(Proxy(Random(1), *ports).listening())
    dispatcher = AsyncDispatcher(own_redis.url, namespace=NAMESPACE, sync=True)
    await stack.enter_async_context(dispatcher)
    url = f"ws://127.0.0.1:{network.port}/ws"
    at_once = {"maxPause": 0}
    phone = await js.client(url, token="alice", reconnect=at_once, watch=True)
    laptop = await js.client(url, token="alice", reconnect=at_once, socket="global", timeout=5)
    for device in (phone, laptop):
        await device.opened()
    talk = Talk(dispatcher)
    stack.push_async_callback(talk.stop)
    await talk.reaches(phone, laptop)
    await second.start()
    await first.end(SIGTERM)
    await talk.reaches(phone, laptop)
    [leave] = [frame["d"] for frame in phone.all("received") if frame["op"] == 7]
    [left] = [state for state in phone.all("state") if state.get("code") in {1000, 1001}]
    assert leave["after"] <= left["after"] <= 1.25 * leave["after"]
    await second.end()
    await until(lambda: "open" not in {phone.states[-1], laptop.states[-1]})
    await second.start()
    await talk.reaches(phone, laptop)
    await talk.stop()
    for device in (phone, laptop):
        assert await device.heard(talk.count) == list(range(talk.count))
        assert device.all("lost", "reset", "forked", "error") == []
