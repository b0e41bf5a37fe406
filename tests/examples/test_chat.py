"""The example of a chat: a server, two portals, and a REST side, in processes of their own."""

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from mesa_ws import Client, Message
from tests.examples.programs import LIMIT, Programs, line
from tests.redis_server import RedisServer, free_port

CHAT = Path(__file__).parents[2] / "examples/chat"


def ask(url: str, document: Any = None) -> Any:
    body = None if document is None else json.dumps(document).encode()
    with urlopen(Request(url, body), timeout=LIMIT) as answer:
        return json.load(answer)


async def until_up(url: str) -> None:
    async with asyncio.timeout(LIMIT):
        while True:
            try:
                await asyncio.to_thread(ask, url)
            except URLError:
                await asyncio.sleep(0.05)
            else:
                return


async def until(client: Client, type: str) -> Any:
    async with asyncio.timeout(LIMIT):
        async for message in client:
            if message.type == type:
                return message.data
    raise AssertionError(f"no {type}")


async def test_people_talk_and_are_told(programs: Programs, tmp_path: Path) -> None:
    redis = RedisServer(tmp_path)
    redis.start()
    try:
        await talk(programs, {"REDIS": redis.url, "DATABASE": str(tmp_path / "chat.db")})
    finally:
        redis.stop()


async def talk(programs: Programs, shared: dict[str, str]) -> None:
    api_port = free_port()
    room = f"http://127.0.0.1:{api_port}/rooms/tea"
    server = await programs.start(str(CHAT / "server.py"), PORT="0", **shared)
    for _ in range(2):
        assert (await line(await programs.start(str(CHAT / "worker.py"), **shared))).startswith("portal ")
    await programs.start(str(CHAT / "api.py"), PORT=str(api_port), **shared)
    url = (await line(server)).removeprefix("clients at ")
    async with Client(url) as alice, Client(url) as bob:
        for client, id in ((alice, "alice"), (bob, "bob")):
            await client.authenticate({"id": id})
            await client.send(Message(0, {"room": "tea"}, "JOIN"))
            assert await until(client, "HISTORY") == []
        await bob.send(Message(0, {"room": "tea", "text": "hi"}, "SAY"))
        said = {"room": "tea", "author": "bob", "text": "hi"}
        assert [await until(client, "SAID") for client in (alice, bob)] == [said, said]
        await until_up(room)
        assert await asyncio.to_thread(ask, room) == [{"author": "bob", "text": "hi"}]
        told = await asyncio.to_thread(ask, f"{room}/announcements", {"text": "cake"})
        assert told == {"members": 2}
        assert await until(alice, "ANNOUNCED") == {"room": "tea", "text": "cake"}
