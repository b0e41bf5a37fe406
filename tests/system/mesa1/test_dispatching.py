"""Our dispatchers' use of the keys and channels of 1.x."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio

from mesa_ws import AsyncDispatcher, Dispatcher, DispatchEvent, InvalidSettings, Message, Sync, Unsupported
from mesa_ws.backend.mesa1 import commands, wire
from mesa_ws.backend.mesa1.keys import Mesa1Keys
from tests.contract.cluster import LIMIT

Redis = redis.asyncio.Redis


class Tap:
    """Hears all payloads that are published for servers."""

    def __init__(self, pubsub: Any) -> None:
        self._pubsub = pubsub

    async def heard(self) -> str:
        """The next payload."""
        async with asyncio.timeout(LIMIT):
            async for message in self._pubsub.listen():
                if message["type"] == "message":
                    return str(message["data"])
        raise AssertionError("the subscription ended")


@pytest.fixture
async def tap(client: Redis, keys: Mesa1Keys) -> AsyncIterator[Tap]:
    async with client.pubsub() as pubsub:
        await pubsub.subscribe(keys.messages)
        await pubsub.get_message(timeout=LIMIT)
        yield Tap(pubsub)


@pytest.fixture
async def dispatcher(redis_url: str, namespace: str) -> AsyncIterator[AsyncDispatcher]:
    async with AsyncDispatcher(redis_url, namespace=namespace, sync=True, wire="mesa1") as dispatcher:
        yield dispatcher


async def kept(client: Redis, keys: Mesa1Keys, id: str = "1") -> str | None:
    found = await client.hget(keys.undelivered, id)
    return found.decode() if isinstance(found, bytes) else found


def test_keys_are_those_of_1x() -> None:
    named, bare = Mesa1Keys("g"), Mesa1Keys()
    assert [named.messages, named.connected, named.connections, named.undelivered] == [
        "ws_g",
        "connected_clients_g",
        "connected_clients_count_g",
        "undelivered_messages_g",
    ]
    assert [bare.messages, bare.connected] == ["ws", "connected_clients"]
    assert named.prefix == "mesa:{g.m1}:"


async def test_without_sync_all_ids_are_published_once(
    tap: Tap, redis_url: str, namespace: str, client: Redis, keys: Mesa1Keys
) -> None:
    async with AsyncDispatcher(redis_url, namespace=namespace, wire="mesa1") as plain:
        receipt = await plain.dispatch(Message(0, {"s": "é"}, "T"), ["1", "2"])
    assert await tap.heard() == '{"message":{"op":0,"d":{"s":"é"},"t":"T"},"recipients":["1","2"]}'
    assert receipt.nodes == 1
    assert await kept(client, keys) is None


async def test_payloads_are_those_of_1x(tap: Tap, dispatcher: AsyncDispatcher) -> None:
    await dispatcher.dispatch(Message(0, {}, "T", sync=False))
    await dispatcher.dispatch(DispatchEvent("DISCONNECT_CLIENT"), ["1"])
    await dispatcher.dispatch(Message(9, {}), ["*"])
    assert [await tap.heard() for _ in range(3)] == [
        '{"message":{"op":0,"d":{},"t":"T","o":{"sync":false}},"recipients":["*"]}',
        '{"message":{"op":5,"d":{},"t":"DISCONNECT_CLIENT"},"recipients":["1"]}',
        '{"message":{"op":9,"d":{}},"recipients":["*"]}',
    ]


async def test_with_sync_the_online_are_sent_to_and_the_others_stored_for(
    tap: Tap, dispatcher: AsyncDispatcher, client: Redis, keys: Mesa1Keys
) -> None:
    await client.sadd(keys.connected, "on")
    receipt = await dispatcher.dispatch(Message(0, {}, "T"), ["on", "1"])
    assert await tap.heard() == '{"message":{"op":0,"d":{},"t":"T"},"recipients":["on"]}'
    assert await client.hgetall(keys.undelivered) == {"1": '[{"op":0,"d":{},"t":"T"}]'}
    assert [(each.stored, each.online) for each in receipt.deliveries.values()] == [(False, 1), (True, 0)]


async def test_a_message_that_nobody_hears_is_stored(
    dispatcher: AsyncDispatcher, client: Redis, keys: Mesa1Keys
) -> None:
    await client.sadd(keys.connected, "1")
    await dispatcher.dispatch(Message(0, {}, "T"), ["1"])
    assert await kept(client, keys) == '[{"op":0,"d":{},"t":"T"}]'


async def test_nothing_that_is_stored_at_the_same_time_is_lost(
    dispatcher: AsyncDispatcher, client: Redis, keys: Mesa1Keys
) -> None:
    async with asyncio.TaskGroup() as group:
        for n in range(200):
            group.create_task(dispatcher.dispatch(Message(0, n), ["1"]))
    assert [each["d"] for each in json.loads(await kept(client, keys) or "[]")] == list(range(200))


async def test_blank_ids_are_stored_nowhere(
    dispatcher: AsyncDispatcher, client: Redis, keys: Mesa1Keys
) -> None:
    receipt = await dispatcher.dispatch(Message(0, {}), ["  "])
    assert receipt.deliveries["  "].dropped == "offline"
    assert await client.exists(keys.undelivered) == 0


@pytest.mark.parametrize(
    "sync", [Sync(enabled=True, max_messages=3), Sync(enabled=True, max_bytes=60)], ids=["number", "size"]
)
async def test_a_list_is_bounded(
    redis_url: str, namespace: str, client: Redis, keys: Mesa1Keys, sync: Sync
) -> None:
    async with AsyncDispatcher(redis_url, namespace=namespace, sync=sync, wire="mesa1") as dispatcher:
        data = [1, 'a,]\\"', {"x": [1, {}]}, 4, 5, 6]
        receipts = [await dispatcher.dispatch(Message(0, each), ["1"]) for each in data]
    assert [each["d"] for each in json.loads(await kept(client, keys) or "[]")] == [4, 5, 6]
    assert sum(receipt.deliveries["1"].displaced for receipt in receipts) == 3


async def test_a_long_list_is_bounded_in_no_time(
    dispatcher: AsyncDispatcher, client: Redis, keys: Mesa1Keys
) -> None:
    """1.x has no limits; Redis serves no other client during a script, and a call that takes 5 s fails."""
    members = [f'{{"op":0,"d":{n},"t":"ABCDEFGHIJKLMNOPQRSTUVWXYZ"}}' for n in range(18_000)]
    await client.hset(keys.undelivered, "1", f"[{','.join(members)}]")
    receipt = await dispatcher.dispatch(Message(0, "new"), ["1"])
    assert receipt.deliveries["1"].displaced == 17_001
    assert [each["d"] for each in json.loads(await kept(client, keys) or "[]")] == [
        *range(17_001, 18_000),
        "new",
    ]


async def test_a_list_of_long_messages_is_bounded_in_number_too(
    redis_url: str, namespace: str, client: Redis, keys: Mesa1Keys
) -> None:
    sync = Sync(enabled=True, max_messages=3)
    async with AsyncDispatcher(redis_url, namespace=namespace, sync=sync, wire="mesa1") as dispatcher:
        for n in range(5):
            await dispatcher.dispatch(Message(0, [n, "x" * 500_000]), ["1"])
    assert [each["d"][0] for each in json.loads(await kept(client, keys) or "[]")] == [2, 3, 4]


async def test_many_are_stored_for_in_several_steps_under_one_name(
    tap: Tap, dispatcher: AsyncDispatcher, client: Redis, keys: Mesa1Keys
) -> None:
    """Redis serves other clients between the calls; an append to a list takes milliseconds."""
    ids = [str(n) for n in range(2 * commands.MAX_STORED + 1)]
    await client.sadd(keys.connected, ids[0], ids[-1])
    for _ in range(2):
        receipt = await dispatcher.dispatch(Message(0, 1), ids, idempotency_key="k")
    assert [id for id, each in receipt.deliveries.items() if not each.stored] == [ids[0], ids[-1]]
    assert set(await client.hvals(keys.undelivered)) == {'[{"op":0,"d":1}]'}
    await dispatcher.dispatch(Message(0, "last"))
    heard = [json.loads(await tap.heard()) for _ in range(3)]
    assert [each["recipients"] for each in heard] == [[ids[0]], [ids[-1]], ["*"]]


@pytest.mark.parametrize("corrupt", ["{bad", "null", "[1,", "", "[{]", r'["\ud83z"]'])
async def test_a_corrupt_list_is_set_aside(
    dispatcher: AsyncDispatcher,
    client: Redis,
    keys: Mesa1Keys,
    corrupt: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await client.hset(keys.undelivered, "1", corrupt)
    with caplog.at_level(logging.WARNING, "mesa_ws.backend"):
        await dispatcher.dispatch(Message(0, 1), ["1"])
    assert await kept(client, keys) == '[{"op":0,"d":1}]'
    assert await client.lrange(keys.set_aside("1"), 0, -1) == [corrupt]
    assert "'1' was corrupt" in caplog.text


async def test_half_of_a_surrogate_pair_in_a_list_is_no_reason_to_set_it_aside(
    dispatcher: AsyncDispatcher, client: Redis, keys: Mesa1Keys
) -> None:
    """JavaScript cuts texts within a character, and npm's dispatcher stores the result."""
    cut = '{"op":0,"d":"\\ud83d"}'
    await client.hset(keys.undelivered, "1", f"[{cut}]")
    receipt = await dispatcher.dispatch(Message(0, 1), ["1"])
    assert await kept(client, keys) == f'[{cut},{{"op":0,"d":1}}]'
    position = receipt.deliveries["1"].position
    assert position is not None
    assert position.sequence == 2


async def test_a_name_makes_a_message_one(
    tap: Tap, dispatcher: AsyncDispatcher, client: Redis, keys: Mesa1Keys
) -> None:
    await client.sadd(keys.connected, "on")
    for _ in range(2):
        await dispatcher.dispatch(Message(0, 1), ["on", "1"], idempotency_key="k")
        await dispatcher.dispatch(Message(0, 2), idempotency_key="all")
    await dispatcher.dispatch(Message(0, 3))
    heard = [json.loads(await tap.heard())["message"]["d"] for _ in range(3)]
    assert heard == [1, 2, 3]
    assert await kept(client, keys) == '[{"op":0,"d":1}]'


async def test_exclusions_from_everybody_are_warned_of_once(
    tap: Tap, dispatcher: AsyncDispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    wire._HAS_WARNED.clear()
    with caplog.at_level(logging.WARNING, "mesa_ws.backend"):
        for _ in range(2):
            await dispatcher.dispatch(Message(0, 1), ["*"], ["1"])
    assert json.loads(await tap.heard())["excluding"] == ["1"]
    assert caplog.text.count("do not support that") == 1


async def test_what_this_wire_cannot_tell_is_unsupported(dispatcher: AsyncDispatcher, tap: Tap) -> None:
    for order in (dispatcher.disconnect, dispatcher.revoke):
        with pytest.raises(Unsupported, match=r"DISCONNECT_CLIENT.*, or use wire 'native'"):
            await order(["1"])
    await dispatcher.dispatch(Message(0, "next"))
    assert json.loads(await tap.heard())["message"]["d"] == "next"  # servers of 1.x heard of no order
    receipt = await dispatcher.dispatch(Message(0, 1), ["1"])
    with pytest.raises(Unsupported, match="use wire 'native'"):
        await dispatcher.status(receipt)
    with pytest.raises(Unsupported, match="use wire 'native'"):
        await dispatcher.dispatch(Message(0, 1), ["1"], durability="fsync")
    with pytest.raises(Unsupported, match=r"delivery: .* use wire 'native'"):
        await dispatcher.dispatch(Message(0, 1, sync=False), ["1"], delivery="volatile")


def test_the_blocking_dispatcher_says_the_same(redis_url: str, namespace: str) -> None:
    with Dispatcher(redis_url, namespace=namespace, sync=True, wire="mesa1") as dispatcher:
        assert dispatcher.dispatch(Message(7, 1), ["1"]).deliveries["1"].stored
        assert dispatcher.presence.online(["1"]) == {"1": 0}
        assert dispatcher.presence.count() == 0
        assert list(dispatcher.presence.ids()) == []
        assert dispatcher.presence.connections() == 0


async def test_what_servers_of_1x_say_of_presence_is_told(
    dispatcher: AsyncDispatcher, client: Redis, keys: Mesa1Keys
) -> None:
    await client.sadd(keys.connected, "1", "2")
    await client.set(keys.connections, 5)
    assert {id async for id in dispatcher.presence.ids()} == {"1", "2"}
    assert await dispatcher.presence.connections() == 5
    await client.decrby(keys.connections, 9)
    assert await dispatcher.presence.connections() == 0


def test_a_servers_api_speaks_for_itself() -> None:
    with pytest.raises(InvalidSettings, match=r"^wire: expected 'native' with an http:// URL"):
        Dispatcher("http://localhost", key="0123456789abcdef", wire="mesa1")
    with pytest.raises(InvalidSettings, match=r"^wire: expected 'native' or 'mesa1', got 'other'$"):
        Dispatcher("redis://localhost", wire="other")  # type: ignore[arg-type]
