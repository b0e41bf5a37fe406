"""A server on the 1.x Redis wire, as its clients and its peers of 1.x see it."""

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import Any

import pytest
import redis.asyncio

from mesa_ws import (
    AsyncDispatcher,
    Connection,
    Endpoint,
    InvalidSettings,
    Mesa1Backend,
    Message,
    Middleware,
    Server,
    User,
)
from mesa_ws.backend.mesa1.keys import Mesa1Keys
from tests.system.server.conftest import Joining, Serving, accepting
from tests.system.server.peer import LIMIT
from tests.system.waiting import until

Redis = redis.asyncio.Redis


@pytest.fixture
def server(redis_url: str, namespace: str) -> Server:
    return accepting(backend=redis_url, namespace=namespace, wire="mesa1", sync=True)


@pytest.fixture
async def endpoint(server: Server, serving: Serving) -> Endpoint:
    return await serving(server)


def text(*data: Any) -> str:
    """Encode a list as 1.x does."""
    return json.dumps([{"op": 0, "d": each, "t": "M"} for each in data], separators=(",", ":"))


async def append_as_1x(client: Redis, keys: Mesa1Keys, id: str, data: Any) -> None:
    """Read the list, append to it, and write the whole list."""
    kept = json.loads(await client.hget(keys.undelivered, id) or "[]")
    kept.append({"op": 0, "d": data, "t": "M"})
    await client.hset(keys.undelivered, id, json.dumps(kept))


async def until_kept(client: Redis, keys: Mesa1Keys, *data: Any, id: str = "1") -> None:
    async def is_so() -> bool:
        kept = json.loads(await client.hget(keys.undelivered, id) or "[]")
        return [each["d"] for each in kept] == list(data)

    await until(is_so)


async def test_hello_offers_no_second_wire(endpoint: Endpoint, join: Joining) -> None:
    peer = await join(endpoint)
    assert "v" not in (await peer.until(op=10))["d"]
    assert await peer.log_in("1", wire=2) == {}


async def test_what_is_not_proven_stays_and_comes_again(
    endpoint: Endpoint, join: Joining, client: Redis, keys: Mesa1Keys
) -> None:
    await client.hset(keys.undelivered, "1", text(1, 2))
    first = await join(endpoint, "1")
    assert [each["s"] for each in await first.messages(2)] == [1, 2]
    await first.socket.close()
    second = await join(endpoint, "1")
    assert [(each["d"], each["s"]) for each in await second.messages(2)] == [(1, 1), (2, 2)]
    assert await client.hget(keys.undelivered, "1") == text(1, 2)
    await second.answer()
    await until_kept(client, keys)
    assert not await client.hexists(keys.undelivered, "1")


async def test_a_list_shrinks_by_what_was_proven_while_others_append(
    endpoint: Endpoint, join: Joining, client: Redis, keys: Mesa1Keys
) -> None:
    await client.hset(keys.undelivered, "1", text({"b": 1.0, "a": "é"}, 2))
    peer = await join(endpoint, "1")
    await peer.messages(2)
    await append_as_1x(client, keys, "1", 3)
    await peer.answer()
    await until_kept(client, keys, 3)


async def test_what_a_peer_stores_behind_the_login_is_delivered(
    endpoint: Endpoint, join: Joining, client: Redis, keys: Mesa1Keys
) -> None:
    peer = await join(endpoint, "1")
    await append_as_1x(client, keys, "1", "late")
    [late] = await peer.messages(1)
    assert late == {"op": 0, "d": "late", "t": "M"}
    await peer.answer()
    await until_kept(client, keys)


async def test_two_devices_get_what_is_kept_and_one_proof_is_enough(
    endpoint: Endpoint, join: Joining, client: Redis, keys: Mesa1Keys
) -> None:
    await client.hset(keys.undelivered, "1", text(1, 2))
    phone, laptop = await join(endpoint, "1"), await join(endpoint, "1")
    await phone.messages(2)
    assert [each["s"] for each in await laptop.messages(2)] == [1, 2]
    await laptop.answer()
    await until_kept(client, keys)


async def test_who_wants_nothing_drops_the_list(
    endpoint: Endpoint, join: Joining, client: Redis, keys: Mesa1Keys, server: Server
) -> None:
    await client.hset(keys.undelivered, "1", text(1, 2))
    peer = await join(endpoint)
    await peer.log_in("1", should_sync=False)
    await server.send(Message(0, "live"), ["1"])
    assert (await peer.messages(1))[0]["d"] == "live"
    await until_kept(client, keys)


@pytest.mark.parametrize(("corrupt", "rest"), [("{bad", []), ('[5,{"op":0,"d":"ok","t":"M"}]', ["ok"])])
async def test_an_id_with_a_corrupt_list_logs_in(
    endpoint: Endpoint,
    join: Joining,
    client: Redis,
    keys: Mesa1Keys,
    corrupt: str,
    rest: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    await client.hset(keys.undelivered, "1", corrupt)
    with caplog.at_level(logging.WARNING, "mesa_ws.backend"):
        peer = await join(endpoint, "1")
    assert [each["d"] for each in await peer.messages(len(rest))] == rest
    assert await client.lrange(keys.set_aside("1"), 0, -1) == [corrupt]
    await until_kept(client, keys, *rest)
    assert "'1' was corrupt" in caplog.text


async def test_exclusions_from_everybody_hold_on_our_servers(
    endpoint: Endpoint, join: Joining, server: Server
) -> None:
    one, two = await join(endpoint, "1"), await join(endpoint, "2")
    await server.send(Message(0, "others"), ["*"], ["1"])
    await server.send(Message(0, "all"))
    assert [each["d"] for each in await one.messages(1)] == ["all"]
    assert [each["d"] for each in await two.messages(2)] == ["others", "all"]


async def test_all_connections_count_logged_in_or_not(
    endpoint: Endpoint, join: Joining, client: Redis, keys: Mesa1Keys
) -> None:
    async def is_count(wanted: int) -> bool:
        return int(await client.get(keys.connections) or 0) == wanted

    one = await join(endpoint)
    await join(endpoint, "1")
    await until(lambda: is_count(2))
    await one.socket.close()
    await until(lambda: is_count(1))


async def test_many_messages_are_kept_in_order_for_a_login(
    endpoint: Endpoint, join: Joining, client: Redis, keys: Mesa1Keys
) -> None:
    await client.hset(keys.undelivered, "1", text(*range(1500)))
    peer = await join(endpoint, "1")
    assert [each["d"] for each in await peer.messages(1500)] == list(range(1500))
    await peer.answer()
    await until_kept(client, keys)


async def test_opcodes_of_wire_2_are_free(endpoint: Endpoint, join: Joining, server: Server) -> None:
    peer = await join(endpoint, "1")
    await server.send(Message(7, "seven"), ["1"])
    assert (await peer.until(op=7))["d"] == "seven"


def test_the_wire_needs_a_redis_of_its_kind(redis_url: str) -> None:
    with pytest.raises(
        InvalidSettings, match=r"^backend: expected a Redis URI \(--redis\), or a Mesa1Backend"
    ):
        Server(wire="mesa1")
    with pytest.raises(InvalidSettings, match=r"^wire: expected 'mesa1' with a Mesa1Backend"):
        Server(Mesa1Backend(redis_url))


async def test_what_is_live_follows_the_whole_backlog(
    endpoint: Endpoint, join: Joining, client: Redis, keys: Mesa1Keys, server: Server
) -> None:
    await client.hset(keys.undelivered, "1", text(*range(1500)))
    peer = await join(endpoint, "1")
    await server.send(Message(0, "live", "M"), ["1"])
    await server.send(Message(0, "for all", "M"))
    got = [each["d"] for each in await peer.messages(1502)]
    assert got == [*range(1500), "live", "for all"]


async def test_pauses_between_redelivered_messages_can_be_had(
    redis_url: str, namespace: str, serving: Serving, join: Joining, client: Redis, keys: Mesa1Keys
) -> None:
    sync = {"enabled": True, "redelivery_interval": 0.05}
    server = accepting(backend=redis_url, namespace=namespace, wire="mesa1", sync=sync)
    await client.hset(keys.undelivered, "1", text(1, 2, 3))
    peer = await join(await serving(server), "1")
    began = asyncio.get_running_loop().time()
    await server.send(Message(0, "live", "M"), ["1"])
    got = await peer.messages(4)
    assert [(each["d"], each.get("s")) for each in got] == [(1, 1), (2, 2), (3, 3), ("live", None)]
    assert asyncio.get_running_loop().time() - began > 0.09


async def test_who_becomes_another_gets_what_waits_for_that(
    server: Server, endpoint: Endpoint, join: Joining, client: Redis, keys: Mesa1Keys
) -> None:
    @server.on_message("BECOME")
    async def become(message: Message, connection: Connection) -> None:
        connection.update_user(User(message.data))

    await client.hset(keys.undelivered, "2", text("waits"))
    peer = await join(endpoint, "1")
    await peer.send("BECOME", "2")
    assert [each["d"] for each in await peer.messages(1)] == ["waits"]

    async def is_so() -> bool:
        return set(await client.smembers(keys.connected)) == {"2"}

    await until(is_so)
    await server.send(Message(0, "to the old", "M"), ["1"])
    await server.send(Message(0, "to the new", "M"), ["2"])
    assert [each["d"] for each in await peer.messages(1)] == ["to the new"]


async def test_middleware_is_told_whose_a_message_is(
    server: Server, endpoint: Endpoint, join: Joining, redis_url: str, namespace: str
) -> None:
    told: list[tuple[Any, int, bool]] = []

    class Sent(Middleware):
        def on_message_sent(
            self, message: Message, connections: Sequence[Connection], from_this_node: bool
        ) -> None:
            told.append((message.data, len(connections), from_this_node))

    server.use(Sent)
    peer = await join(endpoint, "1")
    await server.send(Message(0, "own"), ["1"])
    await server.send(Message(0, "own, to all"))
    async with AsyncDispatcher(redis_url, namespace=namespace, wire="mesa1") as dispatcher:
        await dispatcher.dispatch(Message(0, "another's"), ["1"])
    await peer.messages(3)
    assert told == [("own", 1, True), ("own, to all", 1, True), ("another's", 1, False)]


async def test_middleware_is_told_what_waited_and_what_was_stored(
    server: Server, serving: Serving, join: Joining, client: Redis, keys: Mesa1Keys
) -> None:
    told: asyncio.Queue[tuple[str, list[Any], Any]] = asyncio.Queue()

    class Stored(Middleware):
        async def on_undeliverable_message_sent(self, message: Message, ids: Sequence[str]) -> None:
            told.put_nowait(("stored", list(ids), message.data))

        async def on_redeliver_undeliverable_messages(
            self, messages: Sequence[Message], connection: Connection
        ) -> None:
            told.put_nowait(("redelivered", [each.data for each in messages], connection.id))

    server.use(Stored)
    endpoint = await serving(server)
    await join(endpoint, "1")
    await server.send(Message(0, "m"), ["1", "2"])
    await server.send(Message(0, "not kept", sync=False), ["2"])
    await join(endpoint, "2")
    async with asyncio.timeout(LIMIT):
        assert [await told.get() for _ in range(3)] == [
            ("redelivered", [], "1"),
            ("stored", ["2"], "m"),
            ("redelivered", ["m"], "2"),
        ]
