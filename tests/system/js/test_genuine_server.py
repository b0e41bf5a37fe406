"""A JavaScript client at a genuine server of the npm package `@cryb/mesa`, as a client of 1.x."""

from contextlib import AsyncExitStack
from random import Random

import pytest

from mesa_ws import AsyncDispatcher, Message
from tests.faults.chaos.proxy import Proxy
from tests.interop.mixed import Cluster
from tests.system.waiting import until

from .runtime import Clients, JsError
from .site import IN_SESSION

pytestmark = IN_SESSION

HEARTBEAT = {"enabled": True, "interval": 500, "maxAttempts": 1}
"""Milliseconds; the server closes a client that does not answer after three intervals."""


async def test_it_logs_in_answers_heartbeats_and_comes_back(
    js: Clients, redis_url: str, namespace: str, stack: AsyncExitStack
) -> None:
    cluster = Cluster(redis_url, namespace, stack)
    portal = await cluster.portal()
    reconnect = {"enabled": True, "interval": 20}
    server = await cluster.foreign("server.js", heartbeat=HEARTBEAT, reconnect=reconnect)
    network = await stack.enter_async_context(Proxy(Random(1), server.ready["port"]).listening())
    dispatcher = await stack.enter_async_context(
        AsyncDispatcher(redis_url, namespace=namespace, wire="mesa1", sync=True)
    )
    alice = await js.client(f"ws://127.0.0.1:{network.port}/", token={"id": "alice"}, watch=True)
    await alice.opened()
    assert await alice.evaluate("return mesa.user") == {"id": "alice"}
    await dispatcher.dispatch(Message(0, 1, "M"), ["alice"])
    await dispatcher.dispatch(Message(0, 2, "M"))
    assert await alice.heard(2) == [1, 2]
    await alice.send("N", {"n": 1})
    await until(lambda: portal.messages == [{"n": 1}])
    with pytest.raises(JsError) as raised:
        await alice.request("N", {"n": 2})
    assert (raised.value.name, raised.value.code) == ("MesaError", "unsupported")
    await until(lambda: [frame["op"] for frame in alice.all("sent")].count(11) >= 4)
    assert alice.states == ["connecting", "open"]

    network.is_down = True
    network.cut()
    await until(lambda: is_away(dispatcher))
    await until(lambda: alice.states[-1] != "open")
    sending = alice.send("N", {"n": 3})
    await dispatcher.dispatch(Message(0, 3, "M"), ["alice"])
    network.is_down = False
    await sending
    assert await alice.heard(3) == [1, 2, 3]
    assert alice.all("message")[-1]["sequence"] == 1
    await until(lambda: portal.messages == [{"n": 1}, {"n": 3}])
    sent = alice.all("sent")
    assert {frame["op"] for frame in sent} == {0, 2, 11}
    assert [frame for frame in sent if "x" in frame] == []
    assert alice.all("lost", "forked", "reset", "error") == []


async def is_away(dispatcher: AsyncDispatcher) -> bool:
    return await dispatcher.presence.online(["alice"]) == {"alice": 0}
