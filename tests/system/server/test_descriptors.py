"""A server that may open no more files."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from mesa_ws.dispatcher import AsyncDispatcher
from mesa_ws.messages.message import Message

from .few_descriptors import KEY
from .peer import LIMIT, Peer

PROGRAM = Path(__file__).with_name("few_descriptors.py")
FILES = 48
ECHOES = 100


@asynccontextmanager
async def serving(log: Path) -> AsyncIterator[dict[str, str]]:
    """A server on the event loop of this test, in a process of its own."""
    loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable, PROGRAM, loop, str(FILES), stdout=asyncio.subprocess.PIPE, stderr=stderr
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(LIMIT):
                yield json.loads(await process.stdout.readline())
        finally:
            process.kill()
            await process.wait()


@contextmanager
def crowd(url: str) -> Iterator[list[socket.socket]]:
    """More connections than the server may open; they send nothing, as a slow network has them."""
    address = urlsplit(url)
    sockets: list[socket.socket] = []
    try:
        sockets.extend(
            socket.create_connection((address.hostname, address.port), LIMIT) for _ in range(2 * FILES)
        )
        yield sockets
    finally:
        for each in sockets:
            each.close()


def told(log: Path, *starts: str) -> list[str]:
    """The lines of the log that start so."""
    return [line for line in log.read_text().splitlines() if line.startswith(starts)]


async def until_paused(log: Path, who: str) -> None:
    """Wait until the server has tried again, and found that it still can accept nothing."""
    async with asyncio.timeout(LIMIT):
        while not told(log, f"DEBUG:mesa_ws.server:still no room for new {who}"):
            await asyncio.sleep(0.02)


def check_log(log: Path, who: str) -> None:
    """It says once what is the matter, and the server did not try again and again."""
    news = told(log, "WARNING", "ERROR", "CRITICAL", "Traceback")
    assert len(news) == 1
    assert f"no room for new {who} (too many open files)" in news[0]
    assert len(told(log, "DEBUG:mesa_ws.server:still no room")) < ECHOES


async def test_clients_are_served_while_descriptors_are_used_up(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with serving(log) as where, Peer.connect(where["url"]) as peer:
        await peer.authenticate("1")
        with crowd(where["url"]):
            await until_paused(log, "clients")
            for number in range(ECHOES):
                await peer.send("ECHO", number)
                assert (await peer.until(t="ECHO"))["d"] == number
    check_log(log, "clients")


async def test_those_who_wait_for_a_descriptor_get_in_when_others_leave(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with serving(log) as where:
        with crowd(where["url"]):
            await until_paused(log, "clients")
            late = asyncio.create_task(late_client(where["url"]))
        await late


async def late_client(url: str) -> None:
    async with Peer.connect(url, open_timeout=LIMIT) as peer:
        await peer.authenticate("2")


async def test_the_dispatch_api_waits_for_descriptors_as_well(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with serving(log) as where, AsyncDispatcher(where["api"], key=KEY) as known:
        await known.dispatch(Message(0, 1, "A"), ["1"])
        with crowd(where["api"]):
            await until_paused(log, "dispatchers")
            for number in range(ECHOES):
                await known.dispatch(Message(0, number, "A"), ["1"])
        async with AsyncDispatcher(where["api"], key=KEY) as late:
            await late.dispatch(Message(0, 3, "A"), ["1"])
    check_log(log, "dispatchers")


async def test_a_server_without_room_for_clients_can_still_be_asked(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with serving(log) as where:
        with crowd(where["url"]):
            await until_paused(log, "clients")
            async with AsyncDispatcher(where["api"], key=KEY) as dispatcher:
                await dispatcher.dispatch(Message(0, 1, "A"), ["1"])
    check_log(log, "clients")
