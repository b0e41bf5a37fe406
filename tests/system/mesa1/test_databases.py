"""Two applications on two databases of one Redis: channels belong to no database."""

import logging

import pytest

from mesa_ws import AsyncDispatcher, Message, Portal
from mesa_ws.settings import Wire
from tests.redis_server import RedisServer
from tests.system.server.conftest import Joining, Serving, accepting, join, serving, stack

__all__ = ["join", "serving", "stack"]

WARNING = "use database 1, and this one database 2"


@pytest.mark.parametrize("kind", ["server", "portal", "dispatcher"])
async def test_who_comes_to_another_database_is_warned(
    kind: str, own_redis: RedisServer, namespace: str, serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = f"{own_redis.url}/1", f"{own_redis.url}/2"
    await serving(accepting(backend=first, namespace=namespace, wire="mesa1", portals=True))
    assert "database" not in caplog.text
    if kind == "server":
        await serving(accepting(backend=second, namespace=namespace, wire="mesa1"))
    elif kind == "portal":
        async with Portal(second, namespace=namespace, wire="mesa1"):
            pass
    else:
        async with AsyncDispatcher(second, namespace=namespace, wire="mesa1") as dispatcher:
            for _ in range(2):
                await dispatcher.dispatch(Message(0, "x"), ["1"])
    [record] = [each for each in caplog.records if WARNING in each.message]
    assert record.levelno == logging.WARNING


async def test_a_portal_on_another_database_is_seen(
    own_redis: RedisServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        Portal(f"{own_redis.url}/1", namespace=namespace, wire="mesa1"),
        AsyncDispatcher(f"{own_redis.url}/2", namespace=namespace, wire="mesa1") as dispatcher,
    ):
        await dispatcher.dispatch(Message(0, "x"), ["1"])
    assert WARNING in caplog.text


@pytest.mark.parametrize(
    ("wire", "second", "database"),
    [("mesa1", "same", 1), ("mesa1", "other", 2), ("native", "same", 2)],
)
async def test_who_meets_nobody_is_not_warned(
    own_redis: RedisServer,
    namespace: str,
    wire: Wire,
    second: str,
    database: int,
    serving: Serving,
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = {"same": namespace, "other": f"{namespace}-other"}
    await serving(accepting(backend=f"{own_redis.url}/1", namespace=namespace, wire=wire))
    await serving(accepting(backend=f"{own_redis.url}/{database}", namespace=names[second], wire=wire))
    assert "database" not in caplog.text


@pytest.mark.parametrize(("wire", "arrives"), [("mesa1", True), ("native", False)])
async def test_messages_cross_databases_as_the_reference_says(
    own_redis: RedisServer, namespace: str, wire: Wire, arrives: bool, serving: Serving, join: Joining
) -> None:
    endpoint = await serving(accepting(backend=f"{own_redis.url}/1", namespace=namespace, wire=wire))
    peer = await join(endpoint, "1")
    async with (
        AsyncDispatcher(f"{own_redis.url}/2", namespace=namespace, wire=wire) as other,
        AsyncDispatcher(f"{own_redis.url}/1", namespace=namespace, wire=wire) as own,
    ):
        await other.dispatch(Message(0, "theirs"))
        await own.dispatch(Message(0, "ours"))
        [first] = await peer.messages(1)
    assert first["d"] == ("theirs" if arrives else "ours")
