"""Message sync and presence through the HTTP API, by both dispatchers, on the embedded backend."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from mesa_ws.backend.http import AsyncHttpBus, BlockingHttpBus
from mesa_ws.backend.queries import Heads, Peek
from mesa_ws.dispatcher import AsyncDispatcher
from mesa_ws.errors import BackendRefused, InvalidRecipients, Unsupported
from mesa_ws.http_server.server import DispatchApi
from mesa_ws.messages.message import Message
from tests.http_site import KEY, Site

from .conftest import Asking


@pytest.fixture(params=[AsyncHttpBus, BlockingHttpBus])
async def bus(request: pytest.FixtureRequest, api: DispatchApi) -> AsyncIterator[Asking]:
    bus = request.param(api.url, key=KEY)
    yield Asking(bus)
    close: Callable[[], Any] = bus.aclose if request.param is AsyncHttpBus else bus.close
    if (closing := close()) is not None:
        await closing


async def test_a_message_is_stored_for_an_absent_id(dispatcher: Asking, site: Site) -> None:
    receipt = await dispatcher("dispatch", Message(0, 1, "T"), ["away"])
    delivery = receipt.deliveries["away"]
    assert (delivery.stored, delivery.dropped, delivery.position.sequence) == (True, None, 1)
    assert [stored.body for stored in await site.memory.query(Peek("away", 9))] == [b'{"op":0,"d":1,"t":"T"}']


async def test_the_state_of_a_message_is_returned(dispatcher: Asking, site: Site) -> None:
    receipt = await dispatcher("dispatch", Message(0, 1), ["away", "0"])
    before = await dispatcher("status", receipt)
    await site.memory.purge("away")
    after = await dispatcher("status", receipt)
    assert [{id: each.state for id, each in status.ids.items()} for status in (before, after)] == [
        {"away": "pending", "0": "pending"},
        {"away": "dropped", "0": "pending"},
    ]


async def test_online_ids_are_returned(dispatcher: Asking) -> None:
    assert await dispatcher("presence.online", ["0", "away"]) == {"0": 2, "away": 0}
    assert await dispatcher("presence.count") == 1


async def test_all_online_ids_are_listed(dispatcher: Asking, site: Site) -> None:
    ids = {f"id {n}" for n in range(1200)}
    for id in ids:
        await site.memory.attach(id, 1)
    site.memory.connected(5)
    assert set(await dispatcher.each("presence.ids")) == {"0", *ids}
    assert await dispatcher("presence.connections") == 5


async def test_the_same_key_is_the_same_message(dispatcher: Asking, site: Site) -> None:
    receipts = [
        await dispatcher("dispatch", Message(0, 1), ["away"], idempotency_key="task") for _ in range(2)
    ]
    assert receipts[0] == receipts[1]
    assert len(await site.memory.query(Peek("away", 9))) == 1


async def test_a_durability_that_memory_lacks_is_refused(dispatcher: Asking, site: Site) -> None:
    with pytest.raises(Unsupported):
        await dispatcher("dispatch", Message(0, 1), ["away"], durability="fsync")
    assert await site.memory.query(Peek("away", 9)) == []


async def test_an_outbox_is_peeked_at_and_purged(bus: Asking, site: Site, api: DispatchApi) -> None:
    async with AsyncDispatcher(api.url, key=KEY, sync=True) as dispatcher:
        for number in range(3):
            await dispatcher.dispatch(Message(0, number), ["away"])
    assert await bus("query", Peek("away", 2)) == await site.memory.query(Peek("away", 2))
    assert await bus("query", Heads(["away", "unknown"])) == await site.memory.query(
        Heads(["away", "unknown"])
    )
    assert (await bus("purge", "away"), await bus("purge", "away")) == (3, 0)


async def test_purging_an_invalid_id_is_refused(bus: Asking) -> None:
    with pytest.raises(InvalidRecipients, match="stands for everybody"):
        await bus("purge", "*")


async def test_another_key_learns_nothing(api: DispatchApi) -> None:
    async with AsyncDispatcher(api.url, key="0123456789abcdefg") as stranger:
        with pytest.raises(BackendRefused, match="refused the key"):
            await stranger.presence.count()
