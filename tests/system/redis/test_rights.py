"""Users of Redis that may do no more than the documentation says they need, and users that may do less."""

import asyncio
import logging
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import redis
from redis.asyncio import Redis as AsyncRedis

from mesa_ws import AsyncDispatcher, BackendRefused, Client, Dispatcher, Message, Portal, PortalEvent, Sync
from mesa_ws.backend.mesa1.keys import Mesa1Keys as Keys1x
from mesa_ws.backend.redis.keys import Keys
from mesa_ws.settings import Wire
from mesa_ws.transports.run import serve
from tests.redis_server import RedisServer
from tests.system.server.conftest import Joining, Serving, accepting, join, serving, stack

__all__ = ["join", "serving", "stack"]

PAGE = Path(__file__).parents[3] / "docs" / "howto" / "deploy.md"
STORED = Sync(enabled=True)
WIRES: tuple[Wire, ...] = ("native", "mesa1")
OTHERS = ("api2", "api-internal", "internal_api", "my-api", "api.v2", "API", "")


def rights() -> Mapping[Wire, str]:
    """The commands of the page, in its order."""
    native, mesa1 = re.findall(r"^ACL SETUSER mesa on >secret (.*)$", PAGE.read_text(), re.MULTILINE)
    return {"native": native, "mesa1": mesa1}


def user(server: RedisServer, rules: str) -> str:
    """Make a user with these rights; return the address with which it comes."""
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "mesa", "reset", "on", ">secret", *rules.split())
    return f"redis://mesa:secret@127.0.0.1:{server.port}/2"


@pytest.mark.parametrize("wire", WIRES)
async def test_the_rights_that_are_documented_are_enough(
    own_redis: RedisServer, wire: Wire, serving: Serving, join: Joining, caplog: pytest.LogCaptureFixture
) -> None:
    url = user(own_redis, rights()[wire])
    with caplog.at_level(logging.WARNING, "mesa_ws.backend"):
        endpoint = await serving(accepting(backend=url, namespace="api", wire=wire, sync=True))
        async with AsyncDispatcher(url, namespace="api", wire=wire, sync=STORED) as dispatcher:
            await dispatcher.dispatch(Message(0, "stored"), ["1"])
            peer = await join(endpoint, "1")
            await dispatcher.dispatch(Message(0, "live"), ["1"])
            await dispatcher.dispatch(Message(0, "all"))
            assert [each["d"] for each in await peer.messages(3)] == ["stored", "live", "all"]
    assert ("has no right to INFO" in caplog.text) == (wire == "mesa1")


@pytest.mark.parametrize("wire", WIRES)
async def test_portals_work_with_the_rights_that_are_documented(
    own_redis: RedisServer, wire: Wire, serving: Serving, join: Joining
) -> None:
    url = user(own_redis, rights()[wire])
    portal, heard = Portal(url, namespace="api", wire=wire), list[object]()

    @portal.on_message
    async def take(event: PortalEvent) -> None:
        assert event.message is not None
        heard.append(event.message.data)
        await event.reply(Message(0, "answer"))

    async with portal:
        endpoint = await serving(accepting(backend=url, namespace="api", wire=wire, portals=True))
        peer = await join(endpoint, "1")
        await peer.send(data="question")
        assert [each["d"] for each in await peer.messages(1)] == ["answer"]
    assert heard == ["question"]


async def test_requests_work_with_the_rights_that_are_documented(
    own_redis: RedisServer, serving: Serving
) -> None:
    url = user(own_redis, rights()["native"])
    endpoint = await serving(accepting(backend=url, namespace="api"))
    async with Client(endpoint.url) as client, AsyncDispatcher(url, namespace="api") as dispatcher:

        @client.on_request
        def answer(message: Message) -> str:
            return f"{message.data}!"

        await client.authenticate({"id": "1"})
        found = await dispatcher.request("1", Message(0, "well"))
        assert found.data == "well!"


async def test_orders_work_with_the_rights_that_are_documented(
    own_redis: RedisServer, serving: Serving, join: Joining
) -> None:
    url = user(own_redis, rights()["native"])
    endpoint = await serving(accepting(backend=url, namespace="api"))
    peers = [await join(endpoint, id) for id in "12"]
    async with AsyncDispatcher(url, namespace="api") as dispatcher:
        receipt = await dispatcher.disconnect(["1"], 4100)
        assert (await peers[0].closed(), len(receipt.done), receipt.pending) == (4100, 1, ())
        await dispatcher.revoke(["2"], 1000.0)
        assert await peers[1].closed() == 1008
        assert (await dispatcher.status(receipt)).done == receipt.done
    refused = await join(endpoint)
    await refused.send(op=2, data={"id": "2"})
    assert await refused.closed() == 1008


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


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("wire", WIRES)
def test_the_rights_that_are_documented_reach_no_other_namespace(
    own_redis: RedisServer, wire: Wire, other: str
) -> None:
    user(own_redis, rights()[wire])
    native, of_1x = Keys(other or None), Keys1x(other or None)
    keys = [native.meta, native.leases, native.outbox("1"), native.broadcasts, native.done("x")]
    keys += [of_1x.leases, of_1x.connected, of_1x.connections, of_1x.undelivered, of_1x.pool, of_1x.user("1")]
    channels = [native.channel("n"), of_1x.channel("n"), of_1x.messages, of_1x.portal, of_1x.pool]
    with redis.Redis.from_url(own_redis.url) as client:
        for command in (
            *(("TYPE", key) for key in keys),
            *(("PUBLISH", channel, "x") for channel in channels),
        ):
            said = client.execute_command("ACL", "DRYRUN", "mesa", *command)
            assert b"permissions" in said, (command, said)


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("wire", WIRES)
async def test_who_comes_to_another_namespace_is_refused(
    own_redis: RedisServer, wire: Wire, other: str
) -> None:
    url, namespace = user(own_redis, rights()[wire]), other or None
    prefix = Keys(namespace).meta if wire == "native" else f"{Keys1x(namespace).prefix}*"
    async with AsyncDispatcher(url, namespace=namespace, wire=wire, sync=STORED) as dispatcher:
        with pytest.raises(BackendRefused, match=f"its user lacks.*{re.escape(prefix)}"):
            await dispatcher.dispatch(Message(0, "x"), ["1"])


async def begin(kind: str, url: str, wire: Wire) -> None:
    """Let a process of some kind begin to use Redis."""
    if kind == "server":
        async with serve(accepting(backend=url, namespace="api", wire=wire)):
            pass
    elif kind == "portal":
        async with Portal(url, namespace="api", wire=wire):
            pass
    elif kind == "dispatcher":
        async with AsyncDispatcher(url, namespace="api", wire=wire, sync=STORED) as dispatcher:
            await dispatcher.dispatch(Message(0, "x"), ["1"])
    else:
        with Dispatcher(url, namespace="api", wire=wire, sync=STORED) as blocking:
            await asyncio.to_thread(blocking.dispatch, Message(0, "x"), ["1"])


@pytest.mark.parametrize(
    ("without", "named"),
    [
        ("-publish", r"\+publish\b"),
        ("-pexpire", r"\+pexpire\b"),
        ("-evalsha", "'evalsha'"),
        ("-script|load", r"'script\|load'"),
        ("resetchannels", r"&(mesa:\{api|ws_api|portal_api)"),
        ("resetkeys %R~*", r"lacks (.* )?~(mesa:\{api|connected)"),
    ],
)
@pytest.mark.parametrize("kind", ["server", "portal", "dispatcher", "blocking"])
@pytest.mark.parametrize("wire", WIRES)
async def test_a_right_that_is_lacking_is_named_before_anything_is_written(
    own_redis: RedisServer, wire: Wire, kind: str, without: str, named: str
) -> None:
    url = user(own_redis, f"{rights()[wire]} {without}")
    with pytest.raises(BackendRefused, match=named) as refused:
        await begin(kind, url, wire)
    assert not refused.value.maybe_sent
    assert "\n" not in str(refused.value)
    with redis.Redis.from_url(f"{own_redis.url}/2") as client:
        assert client.dbsize() == 0


async def test_all_that_is_lacking_is_named_at_once(own_redis: RedisServer) -> None:
    url = user(own_redis, f"{rights()['native']} -rpush -hset resetchannels")
    async with AsyncDispatcher(url, namespace="api", sync=STORED) as dispatcher:
        with pytest.raises(BackendRefused, match=re.escape("lacks &mesa:{api.0}:* +hset +rpush)")):
            await dispatcher.dispatch(Message(0, "x"), ["1"])


async def test_rights_that_are_given_later_are_found(own_redis: RedisServer) -> None:
    url = user(own_redis, f"{rights()['native']} -rpush")
    async with AsyncDispatcher(url, namespace="api", sync=STORED) as dispatcher:
        with pytest.raises(BackendRefused):
            await dispatcher.dispatch(Message(0, "x"), ["1"])
        with redis.Redis.from_url(own_redis.url) as client:
            client.execute_command("ACL", "SETUSER", "mesa", "+rpush")
        assert (await dispatcher.dispatch(Message(0, "x"), ["1"])).deliveries["1"].stored


async def test_a_user_that_may_only_look_may_look(own_redis: RedisServer) -> None:
    url = user(own_redis, f"{rights()['native']} -@write +evalsha -publish")
    async with AsyncDispatcher(url, namespace="api") as dispatcher:
        assert await dispatcher.presence.online(["1"]) == {"1": 0}
        assert await dispatcher.presence.count() == 0
        with pytest.raises(BackendRefused):
            await dispatcher.dispatch(Message(0, "x"), ["1"])
