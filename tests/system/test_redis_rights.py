"""Users of Redis that may do no more than the documentation says they need."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import redis
from redis.asyncio import Redis as AsyncRedis

from mesa_ws import AsyncDispatcher, Message, Sync
from mesa_ws.settings import Wire
from tests.redis_server import RedisServer
from tests.system.server.conftest import Joining, Serving, accepting, join, serving, stack

__all__ = ["join", "serving", "stack"]

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "deploy.md"


def rights() -> Mapping[Wire, str]:
    """The commands of the page, in its order."""
    native, mesa1 = re.findall(r"^ACL SETUSER mesa on >secret (.*)$", PAGE.read_text(), re.MULTILINE)
    return {"native": native, "mesa1": mesa1}


def user(server: RedisServer, rules: str) -> str:
    """Make a user with these rights; return the address with which it comes."""
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "mesa", "reset", "on", ">secret", *rules.split())
    return f"redis://mesa:secret@127.0.0.1:{server.port}/2"


@pytest.mark.parametrize("wire", rights())
async def test_the_rights_that_are_documented_are_enough(
    own_redis: RedisServer, wire: Wire, serving: Serving, join: Joining, caplog: pytest.LogCaptureFixture
) -> None:
    url = user(own_redis, rights()[wire])
    with caplog.at_level(logging.WARNING, "mesa_ws.backend"):
        endpoint = await serving(accepting(backend=url, namespace="api", wire=wire, sync=True))
        async with AsyncDispatcher(url, namespace="api", wire=wire, sync=Sync(enabled=True)) as dispatcher:
            await dispatcher.dispatch(Message(0, "stored"), ["1"])
            peer = await join(endpoint, "1")
            await dispatcher.dispatch(Message(0, "live"), ["1"])
            await dispatcher.dispatch(Message(0, "all"))
            assert [each["d"] for each in await peer.messages(3)] == ["stored", "live", "all"]
    assert ("may not ask INFO" in caplog.text) == (wire == "mesa1")


async def test_portals_of_1x_that_died_can_be_found_with_the_rights_that_are_documented(
    own_redis: RedisServer,
) -> None:
    async with AsyncRedis.from_url(user(own_redis, rights()["mesa1"])) as client:
        assert await client.client_list(_type="pubsub") == []


async def test_what_1x_left_behind_is_moved_with_the_rights_that_are_documented(
    own_redis: RedisServer, serving: Serving, join: Joining
) -> None:
    [more] = re.findall(
        r"^With `import_from_1x` the first user needs `(.*?)`", PAGE.read_text(), re.MULTILINE
    )
    url = user(own_redis, f"{rights()['native']} {more}")
    async with AsyncRedis.from_url(f"{own_redis.url}/2") as client:
        for id, kept in (("1", '[{"op":0,"d":"kept"}]'), ("2", "{bad")):
            await client.hset("undelivered_messages_api", id, kept)
        server = accepting(backend=url, namespace="api", sync=True, import_from_1x=True)
        peer = await join(await serving(server), "1")
        assert [each["d"] for each in await peer.messages(1)] == ["kept"]
        assert not await client.exists("undelivered_messages_api")
