"""The example of a chat: a server, two workers, a REST API and users, in processes of their own."""

import asyncio
import json
import signal
from asyncio.subprocess import Process
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from tests.examples.programs import LIMIT, Programs, line
from tests.ports import free_port
from tests.redis_server import RedisServer

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


async def say(person: Process, text: str) -> None:
    assert person.stdin is not None
    person.stdin.write(f"{text}\n".encode())
    await person.stdin.drain()


async def shown(person: Process, *expected: str) -> None:
    """Wait until a user's terminal has shown these lines, in any order."""
    assert sorted([await line(person) for _ in expected]) == sorted(expected)


async def test_users_chat_and_are_notified(programs: Programs, tmp_path: Path) -> None:
    redis = RedisServer(tmp_path)
    redis.start()
    try:
        await talk(programs, {"REDIS": redis.url, "DATABASE": str(tmp_path / "chat.db")})
    finally:
        redis.stop()


async def talk(programs: Programs, shared: dict[str, str]) -> None:
    server = await programs.start(str(CHAT / "server.py"), PORT="0", **shared)
    workers = [await programs.start(str(CHAT / "worker.py"), **shared) for _ in range(2)]
    for worker in workers:
        assert (await line(worker)).startswith("portal ")
    url = (await line(server)).removeprefix("clients at ")

    async def come(name: str) -> Process:
        return await programs.start(str(CHAT / "client.py"), name, "tea", URL=url)

    alice = await come("alice")
    await shown(alice, "* alice is here")
    bob = await come("bob")
    for person in (alice, bob):
        await shown(person, "* bob is here")
    await say(bob, "hi")
    for person in (alice, bob):
        await shown(person, "bob: hi")
    workers[0].terminate()
    assert await workers[0].wait() == 0
    for n in range(10):
        await say(alice, f"still here {n}")
    for person in (alice, bob):
        for n in range(10):
            await shown(person, f"alice: still here {n}")
    await announce(programs, shared, (alice, bob))
    carol = await come("carol")
    said = ["bob: hi", *(f"alice: still here {n}" for n in range(10))]
    await shown(carol, "* carol is here", *said)
    await leave(bob)


async def leave(person: Process) -> None:
    """Press Ctrl-C in the middle of a line."""
    person.send_signal(signal.SIGINT)
    async with asyncio.timeout(LIMIT):
        assert await person.wait() == 0


async def announce(programs: Programs, shared: dict[str, str], people: Iterable[Process]) -> None:
    port = free_port()
    room = f"http://127.0.0.1:{port}/rooms/tea"
    await programs.start(str(CHAT / "api.py"), PORT=str(port), **shared)
    await until_up(room)
    assert (await asyncio.to_thread(ask, room))[:2] == [
        {"author": "bob", "text": "hi"},
        {"author": "alice", "text": "still here 0"},
    ]
    told = await asyncio.to_thread(ask, f"{room}/announcements", {"text": "cake at four"})
    assert told == {"members": 2}
    for person in people:
        await shown(person, "! cake at four")
