"""A node in Redis: how its backend is opened, used and closed."""

import asyncio
import logging
from typing import Any

import pytest
import redis.asyncio

from mesa_ws.backend.memory import MemoryBackend
from mesa_ws.backend.mesa1 import Mesa1Backend
from mesa_ws.backend.queries import Online
from mesa_ws.backend.redis import RedisBackend
from mesa_ws.backend.redis.keys import Keys
from mesa_ws.errors import BackendRefused, BackendUnavailable
from mesa_ws.messages.envelope import Envelope
from tests.contract.cluster import LIMIT, Cluster, Node
from tests.ports import free_port
from tests.redis_server import RedisServer
from tests.system.conftest import LEASE
from tests.system.waiting import deliver, until, until_ready


async def test_garbage_on_a_channel_is_ignored(
    nodes: Cluster, client: redis.asyncio.Redis, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    node = await nodes.node({"alice": 1})
    for garbage in (b"", b"secret garbage", b"\xff" * 10_000):
        await client.publish(keys.channel(node.backend.node_id), garbage)
    await deliver(node, node)
    backend: Any = node.backend
    assert backend._opened().channel.garbage == 3
    assert caplog.text.count("which are not a frame of Mesa") == 1
    assert "secret" not in caplog.text


@pytest.mark.parametrize("kind", [MemoryBackend, RedisBackend, Mesa1Backend])
async def test_a_server_that_fails_on_messages_gets_the_next_and_reads_again_but_not_in_a_loop(
    own_redis: RedisServer,
    namespace: str,
    kind: type[MemoryBackend] | type[RedisBackend] | type[Mesa1Backend],
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Failing(Node):
        catch_ups = 0

        def receive(self, envelope: Envelope) -> None:
            super().receive(envelope)
            raise ValueError("broken")

        async def catch_up(self) -> None:
            self.catch_ups += 1

    backend = MemoryBackend() if issubclass(kind, MemoryBackend) else kind(own_redis.url, namespace=namespace)
    node = Failing(backend)
    await backend.open(node.receive, node)
    await backend.attach("alice", 1)
    await until(lambda: backend.is_ready)
    before = node.catch_ups
    for _ in range(20):
        await deliver(node, node)
    await until(lambda: node.catch_ups > before)
    assert node.catch_ups - before < 10
    assert caplog.text.count("could not be delivered here; stored messages are read again") == 1
    read = node.catch_ups
    await until(lambda: node.catch_ups > read)  # for those that failed since it was read
    await until(lambda: backend.is_ready)
    await backend.aclose()
    assert caplog.text.count("19 more like this in the last minute: ") == 1


async def test_an_attach_that_failed_is_made_good_later(nodes: Cluster, own_redis: RedisServer) -> None:
    node = await nodes.node({"alice": 1})
    own_redis.stop()
    for id in ("alice", "bob", "carol"):
        with pytest.raises(BackendUnavailable):
            await node.backend.attach(id, 5)
    node.backend.detach("carol")
    own_redis.start()
    await until_ready(node)
    assert await node.backend.query(Online(["alice", "bob", "carol"])) == {"alice": 5, "bob": 5, "carol": 0}


async def test_an_attach_that_was_cancelled_is_made_good(nodes: Cluster) -> None:
    node = await nodes.node({"alice": 1})
    for id in ("alice", "bob"):
        task = asyncio.create_task(node.backend.attach(id, 5))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    assert await node.backend.query(Online(["alice", "bob"])) == {"alice": 5, "bob": 5}


async def test_an_unreachable_redis_is_said_when_opening(namespace: str) -> None:
    port = free_port()
    with pytest.raises(BackendUnavailable, match=f"^redis at 127.0.0.1:{port}: no connection"):
        await RedisBackend(f"redis://127.0.0.1:{port}", namespace=namespace).open(lambda envelope: None)


async def test_a_refusal_is_said_when_opening(own_redis: RedisServer, client: redis.asyncio.Redis) -> None:
    await client.config_set("requirepass", "right")
    backend = RedisBackend(own_redis.url)
    with pytest.raises(BackendRefused, match="check the user name and the password"):
        await backend.open(lambda envelope: None)
    await client.config_set("requirepass", "")
    await backend.open(lambda envelope: None)
    await backend.aclose()


async def test_another_layout_is_refused_when_opening(
    nodes: Cluster, client: redis.asyncio.Redis, keys: Keys
) -> None:
    await client.hset(keys.meta, "partitions", "64")
    with pytest.raises(BackendRefused, match=r"with 64 partitions, and this one uses 1"):
        await nodes.node()
    assert await client.keys("*") == [keys.meta]


async def test_opening_hangs_no_longer_than_its_limit(own_redis: RedisServer) -> None:
    own_redis.freeze()
    backend = RedisBackend(own_redis.url, timeout=0.2)
    with pytest.raises(BackendUnavailable):
        await asyncio.wait_for(backend.open(lambda envelope: None), LIMIT)
    own_redis.thaw()


async def test_closing_hangs_no_longer_than_its_limit(own_redis: RedisServer) -> None:
    backend = RedisBackend(own_redis.url, timeout=0.2)
    await backend.open(lambda envelope: None)
    own_redis.freeze()
    await asyncio.wait_for(backend.aclose(), LIMIT)
    own_redis.thaw()


async def test_a_user_with_mesas_keys_and_channels_is_enough(
    own_redis: RedisServer, client: redis.asyncio.Redis, namespace: str
) -> None:
    await client.acl_setuser(
        "mesa",
        enabled=True,
        passwords=["+p"],
        categories=[
            "+@scripting",
            "+@pubsub",
            "+@hash",
            "+@set",
            "+@sortedset",
            "+@list",
            "+@stream",
            "+@keyspace",
            "+@connection",
            "+@string",
        ],
        commands=["+time", "+memory|usage", "-@dangerous", "+info"],
        keys=["mesa:*"],
        channels=["mesa:*"],
    )
    node = Node(RedisBackend(f"redis://mesa:p@127.0.0.1:{own_redis.port}", namespace=namespace))
    await node.backend.open(node.receive)
    await node.backend.attach("alice", 1)
    await deliver(node, node)
    await node.backend.aclose()


async def test_logs_hold_no_password(
    own_redis: RedisServer, client: redis.asyncio.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mesa_ws")
    await client.config_set("requirepass", "hunter2")
    backend = RedisBackend(f"redis://:hunter2@127.0.0.1:{own_redis.port}", lease=LEASE, timeout=1.0)
    await backend.open(lambda envelope: None)
    own_redis.stop()
    await until(lambda: "cannot renew its lease" in caplog.text and "cut off" in caplog.text)
    await backend.aclose()
    assert "hunter2" not in caplog.text
