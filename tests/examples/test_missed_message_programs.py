"""The example of missed messages: client, sender and server in processes of their own, which are killed."""

import asyncio
import json
from pathlib import Path
from uuid import uuid4

import pytest

from tests.examples.programs import KEY, LIMIT, Programs, line
from tests.ports import free_port

PROGRAMS = Path(__file__).parents[2] / "examples" / "missed_messages"


class Site:
    """A server, and the two programs of the example."""

    def __init__(self, programs: Programs, positions: Path, redis_url: str | None) -> None:
        self._programs = programs
        self._positions = positions
        self._redis = redis_url
        self._id = uuid4().hex
        self._port, self._api = free_port(), free_port()

    async def serve(self) -> asyncio.subprocess.Process:
        where = ("--port", str(self._port), "--api-port", str(self._api))
        cluster = ("--redis", self._redis) if self._redis else ()
        server = await self._programs.start(
            *("-m", "mesa_ws", "serve", "--insecure-demo-auth", *where, *cluster), MESA_API_KEY=KEY
        )
        assert "clients at" in await line(server)
        return server

    async def client(self) -> asyncio.subprocess.Process:
        url = f"ws://127.0.0.1:{self._port}"
        client = await self._programs.start(str(PROGRAMS / "client.py"), self._id, url, str(self._positions))
        assert await line(client) == f"connected as {self._id}"
        return client

    async def notify(self, *notes: str) -> list[str]:
        url = self._redis or f"http://127.0.0.1:{self._api}"
        environment = {"MESA_URL": url} | ({} if self._redis else {"MESA_API_KEY": KEY})
        program = await self._programs.start(str(PROGRAMS / "notify.py"), self._id, *notes, **environment)
        return [await line(program) for _ in notes]

    async def saved(self, sequence: int) -> None:
        """Wait until the client has saved the position of a message."""
        async with asyncio.timeout(LIMIT):
            while (
                not self._positions.exists() or json.loads(self._positions.read_bytes()).get("s") != sequence
            ):
                await asyncio.sleep(0.02)


async def kill(process: asyncio.subprocess.Process) -> None:
    process.kill()
    await process.wait()


@pytest.mark.parametrize("with_redis", [False, True], ids=["alone", "redis"])
async def test_a_client_that_was_killed_misses_nothing_and_gets_nothing_twice(
    programs: Programs, tmp_path: Path, redis_url: str, with_redis: bool
) -> None:
    site = Site(programs, tmp_path / "positions", redis_url if with_redis else None)
    await site.serve()
    client = await site.client()
    [printed] = await site.notify("1")
    assert printed.startswith("1: stored=True online=1 ")
    assert await line(client) == "NOTE 1"
    await site.saved(1)
    await kill(client)
    for printed in await site.notify("2", "3"):
        assert printed.endswith("pending")
    again = await site.client()
    assert [await line(again), await line(again)] == ["NOTE 2", "NOTE 3"]
    await site.notify("4")
    assert await line(again) == "NOTE 4"


async def test_messages_sent_while_the_server_was_away_arrive(
    programs: Programs, tmp_path: Path, redis_url: str
) -> None:
    site = Site(programs, tmp_path / "positions", redis_url)
    server, client = await site.serve(), await site.client()
    await site.notify("1")
    assert await line(client) == "NOTE 1"
    await kill(server)
    await site.notify("2", "3")
    await site.serve()
    assert [await line(client), await line(client)] == ["NOTE 2", "NOTE 3"]
