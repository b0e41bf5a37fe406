"""The Python on the pages about message sync and presence, run block after block, and their promises."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis

from mesa_ws import (
    AsyncDispatcher,
    BackendRefused,
    Client,
    Connection,
    Dispatcher,
    Message,
    Server,
    Sync,
    User,
    serve,
)
from mesa_ws.backend.queries import Peek
from mesa_ws.backend.redis import BlockingRedisBus
from tests.examples.programs import LIMIT
from tests.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.fixture
def run(redis_url: str, namespace: str) -> Iterator[Callable[[str], dict[str, Any]]]:
    """Runs the Python of a page, except for whole programs, on the Redis of the tests."""
    made: list[dict[str, Any]] = []

    def run(page: str) -> dict[str, Any]:
        names: dict[str, Any] = {}
        made.append(names)
        for block in BLOCK.findall((ROOT / "docs/howto" / page).read_text()):
            if block.startswith('"""'):
                continue
            code = block.replace("redis://localhost:6379", redis_url).replace('"api"', repr(namespace))
            exec(compile(dedent(code), page, "exec"), names)
        return names

    yield run
    for names in made:
        names["dispatcher"].close()


def test_the_page_about_sync_works(
    run: Callable[[str], dict[str, Any]], redis_url: str, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run("message-sync.md")
    assert names["receipt"].deliveries["0"].stored
    assert names["status"].ids["1"].state == "pending"
    bus = BlockingRedisBus(redis_url, namespace=namespace)
    types = [re.findall(rb'"t":"(\w+)"', stored.body)[0].decode() for stored in bus.query(Peek("0", 100))]
    bus.close()
    assert types == ["NEW_MESSAGE", "ORDER_SHIPPED"]
    assert "durability 'fsync' needs" in capsys.readouterr().out  # that Redis has no append-only file


def test_the_page_about_presence_works(
    run: Callable[[str], dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    names = run("presence.md")
    assert names["online"].__name__ == "online"
    assert capsys.readouterr().out == "set()\n0 ids are online\n0 connections\n"


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(LIMIT):
        while not await holds():
            await asyncio.sleep(0.02)


def server_of(url: str | None, **options: Any) -> Server:
    server = Server(url, **options)

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        return User(data["id"])

    return server


async def test_a_message_is_settled_when_its_client_has_acknowledged_it(
    redis_url: str, namespace: str
) -> None:
    server = server_of(redis_url, namespace=namespace)
    async with AsyncDispatcher(redis_url, namespace=namespace, sync=True) as dispatcher:
        receipt = await dispatcher.dispatch(Message(0, 1, "N"), ["0"])
        assert (await dispatcher.status(receipt)).ids["0"].state == "pending"
        async with serve(server) as endpoint, Client(endpoint.url) as client:

            @client.on_message
            def handle(message: Message) -> None:
                pass

            await client.authenticate({"id": "0"})

            async def is_settled() -> bool:
                return (await dispatcher.status(receipt)).is_settled

            await until(is_settled)
        assert (await dispatcher.status(receipt)).ids["0"].state == "settled"


async def test_a_client_learns_how_many_messages_were_dropped(redis_url: str, namespace: str) -> None:
    server = server_of(redis_url, namespace=namespace)
    few = Sync(enabled=True, max_messages=2)
    told: list[object] = []
    async with AsyncDispatcher(redis_url, namespace=namespace, sync=few) as dispatcher:
        receipts = [await dispatcher.dispatch(Message(0, n, "N"), ["0"]) for n in range(5)]
        assert [receipt.deliveries["0"].displaced for receipt in receipts] == [0, 0, 1, 1, 1]
        assert (await dispatcher.status(receipts[0])).ids["0"].state == "dropped"
    async with serve(server) as endpoint, Client(endpoint.url) as client:
        client.on_lost(lambda number: told.append(f"{number} lost"))
        client.on_message(lambda message: told.append(message.data))
        await client.authenticate({"id": "0"})

        async def has_all() -> bool:
            return len(told) == 3

        await until(has_all)
    assert told == ["3 lost", 3, 4]


async def test_everybody_means_all_connected_clients(redis_url: str, namespace: str) -> None:
    server = server_of(redis_url, namespace=namespace)
    async with AsyncDispatcher(redis_url, namespace=namespace, sync=True) as dispatcher:
        await dispatcher.dispatch(Message(0, "before", "N"))
        async with serve(server) as endpoint, Client(endpoint.url) as client:
            await client.authenticate({"id": "0"})
            await dispatcher.dispatch(Message(0, "after", "N"))
            async with asyncio.timeout(LIMIT):
                assert (await anext(client)).data == "after"


def test_a_full_redis_refuses_to_store_messages(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path, "--maxmemory", "1")
    redis.start()
    try:
        with Dispatcher(redis.url, sync=True) as dispatcher:
            with pytest.raises(BackendRefused, match="full"):
                dispatcher.dispatch(Message(0, 1, "N"), ["0"])
            assert dispatcher.dispatch(Message(0, 1, "N", sync=False), ["0"]).nodes == 0
    finally:
        redis.stop()


def test_confirmed_messages_survive_the_death_of_a_redis_that_is_set_up_as_the_page_says(
    tmp_path: Path,
) -> None:
    blocks = re.findall(
        r"^```ini\n(.*?)^```", (ROOT / "docs/howto/deploy.md").read_text(), re.DOTALL | re.MULTILINE
    )
    [settings] = [block for block in blocks if block.startswith("appendonly")]
    (tmp_path / "redis.conf").write_text(settings)
    redis = RedisServer(tmp_path, "--appendonly", "yes")
    redis.start(str(tmp_path / "redis.conf"))
    try:
        with Dispatcher(redis.url, sync=True) as dispatcher:
            receipt = dispatcher.dispatch(Message(0, 1, "N"), ["0"])
            redis.stop()
            redis.start(str(tmp_path / "redis.conf"))
            assert dispatcher.status(receipt).ids["0"].state == "pending"
            with Redis.from_url(redis.url) as client:
                assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
                client.flushall()
            assert dispatcher.status(receipt).ids["0"].state == "unknown"
    finally:
        redis.stop()


async def test_a_client_is_notified_when_redis_has_lost_everything(tmp_path: Path) -> None:
    redis, told = RedisServer(tmp_path), []
    redis.start()
    try:
        server = server_of(redis.url, sync=True)
        async with serve(server) as endpoint, Client(endpoint.url) as client:
            client.on_message(lambda message: told.append(message.data))
            client.on_reset(lambda: told.append("reset"))
            await client.authenticate({"id": "0"})
            await server.send(Message(0, 1, "N"), ["0"])

            async def is_reset() -> bool:
                return "reset" in told

            with Redis.from_url(redis.url) as other:
                other.flushall()
            await until(is_reset)
            await server.send(Message(0, 2, "N"), ["0"])

            async def has_all() -> bool:
                return bool(told[-1] == 2)

            await until(has_all)
            # Once for the outbox, once for messages to everybody.
            assert told in ([1, "reset", 2], [1, "reset", "reset", 2])
    finally:
        redis.stop()


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "redis"])
async def test_each_change_is_notified_once_and_a_short_absence_is_none(
    redis_url: str, namespace: str, alone: bool
) -> None:
    news: list[str] = []
    url = None if alone else redis_url
    server = server_of(url, namespace=namespace, presence={"grace": 1.0})
    server.on_online(lambda who: news.append(f"{who} online"))
    server.on_offline(lambda who: news.append(f"{who} offline"))
    id = uuid4().hex
    async with serve(server) as endpoint:
        for _ in range(2):
            async with Client(endpoint.url) as phone, Client(endpoint.url) as laptop:
                await phone.authenticate({"id": id})
                await laptop.authenticate({"id": id})
                assert await server.presence.online([id, "unknown"]) == {id: 2, "unknown": 0}
                assert await server.presence.count() == 1

        async def is_told() -> bool:
            return len(news) == 2

        await until(is_told)
        assert news == [f"{id} online", f"{id} offline"]
        assert await server.presence.count() == 0
