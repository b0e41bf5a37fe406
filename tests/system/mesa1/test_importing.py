"""Messages that 1.x stored, after the switch to the native wire."""

import json
import logging

import pytest
import redis.asyncio

from mesa_ws import InvalidSettings, Message, Server
from mesa_ws.backend.importing import BIG, ImportingBackend
from mesa_ws.backend.mesa1.keys import Mesa1Keys
from tests.system.server.conftest import Joining, Serving, accepting

Redis = redis.asyncio.Redis


@pytest.fixture
def server(redis_url: str, namespace: str) -> Server:
    return accepting(backend=redis_url, namespace=namespace, sync=True, import_from_1x=True)


async def test_all_lists_are_moved_before_anybody_comes(
    server: Server, serving: Serving, join: Joining, client: Redis, keys: Mesa1Keys
) -> None:
    for n in range(300):
        await client.hset(keys.undelivered, str(n), json.dumps([{"op": 0, "d": n, "t": "M"}]))
    await client.hset(keys.undelivered, "x" * 300, "[]")  # 1.x takes any id
    endpoint = await serving(server)
    assert await client.hkeys(keys.undelivered) == ["x" * 300]
    await server.send(Message(0, "new", "M"), ["7"])
    peer = await join(endpoint, "7")
    assert [each["d"] for each in await peer.messages(2)] == [7, "new"]


class Counting(ImportingBackend):
    """Counts how many lists it moves at the same time."""

    now, most = 0, 0

    async def _move(self, id: str) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await super()._move(id)
        self.now -= 1


@pytest.mark.parametrize(("length", "most"), [(BIG, 1), (1, 8)])
async def test_long_lists_are_moved_one_after_another(
    redis_url: str, namespace: str, client: Redis, keys: Mesa1Keys, length: int, most: int
) -> None:
    """Reading them takes so long that calls for other ids would time out."""
    for n in range(8):
        await client.hset(keys.undelivered, str(n), json.dumps([{"op": 0, "d": "x" * length}]))
    backend = Counting(redis_url, namespace=namespace)
    await backend.open(lambda envelope: None)
    await backend.aclose()
    assert backend.most == most
    assert not await client.exists(keys.undelivered)


async def test_what_a_late_writer_keeps_is_moved_at_the_login(
    server: Server, serving: Serving, join: Joining, client: Redis, keys: Mesa1Keys
) -> None:
    endpoint = await serving(server)
    await client.hset(keys.undelivered, "1", json.dumps([{"op": 0, "d": "late", "t": "M"}]))
    peer = await join(endpoint, "1")
    assert [each["d"] for each in await peer.messages(1)] == ["late"]
    assert not await client.exists(keys.undelivered)


async def test_a_key_of_another_type_is_left_alone(
    server: Server, serving: Serving, join: Joining, client: Redis, keys: Mesa1Keys
) -> None:
    await client.set(keys.undelivered, "no hash")
    peer = await join(await serving(server), "1")
    await server.send(Message(0, "new", "M"), ["1"])
    assert [each["d"] for each in await peer.messages(1)] == ["new"]
    assert await client.get(keys.undelivered) == "no hash"


async def test_what_was_kept_comes_at_the_login_before_what_is_new(
    server: Server, serving: Serving, join: Joining, client: Redis, keys: Mesa1Keys
) -> None:
    kept = [{"op": 0, "d": n, "t": "M", "o": {"sync": True}} for n in (1, 2)]
    await client.hset(keys.undelivered, "1", json.dumps(kept))
    endpoint = await serving(server)
    peer = await join(endpoint, "1")
    await server.send(Message(0, 3, "M"), ["1"])
    got = await peer.messages(3)
    assert [(each["d"], each.get("s"), "o" in each) for each in got] == [
        (1, 1, False),
        (2, 2, False),
        (3, None, False),
    ]
    assert not await client.hexists(keys.undelivered, "1")
    await peer.answer()


@pytest.mark.parametrize(("corrupt", "rest"), [("{bad", []), ('[5,{"op":0,"d":"ok"}]', ["ok"])])
async def test_what_cannot_be_read_is_set_aside(
    server: Server,
    serving: Serving,
    join: Joining,
    client: Redis,
    keys: Mesa1Keys,
    corrupt: str,
    rest: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    await client.hset(keys.undelivered, "1", corrupt)
    with caplog.at_level(logging.WARNING, "mesa_ws.backend"):
        peer = await join(await serving(server), "1")
    assert [each["d"] for each in await peer.messages(len(rest))] == rest
    assert await client.lrange(keys.set_aside("1"), 0, -1) == [corrupt]
    assert not await client.hexists(keys.undelivered, "1")
    assert "'1' was corrupt" in caplog.text


def test_there_is_nothing_to_import_into_elsewhere(redis_url: str) -> None:
    with pytest.raises(InvalidSettings, match=r"^import_from_1x: expected False"):
        Server(import_from_1x=True)
    with pytest.raises(InvalidSettings, match=r"^import_from_1x: expected False"):
        Server(redis_url, wire="mesa1", import_from_1x=True)
