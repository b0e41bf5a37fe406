"""The example of a client that continues at its position after it was killed."""

import asyncio
from pathlib import Path
from typing import Any

from mesa_ws import Message, Server, User, serve
from mesa_ws.backend.queries import Heads
from mesa_ws.server.connection import Connection
from tests.examples.programs import LIMIT, Programs, line

PROGRAM = Path(__file__).parents[2] / "examples/missed_messages/client.py"


async def settled(server: Server) -> None:
    """Wait until everything sent to the id 1 was acknowledged."""
    async with asyncio.timeout(LIMIT):
        while True:
            head = (await server.bus.query(Heads(["1"])))["1"]
            if head is not None and head.acknowledged == head.top:
                return
            await asyncio.sleep(0.02)


async def test_a_program_that_is_killed_goes_on_where_it_was(programs: Programs, tmp_path: Path) -> None:
    server = Server(sync={"enabled": True, "max_messages": 2})

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        return User(data["id"])

    async with serve(server) as endpoint:
        arguments = (str(PROGRAM), "1", endpoint.url, str(tmp_path / "positions"))
        first = await programs.start(*arguments)
        assert await line(first) == "connected as 1"
        await server.send(Message(0, 1, "N"), ["1"])
        assert await line(first) == "N 1"
        await settled(server)
        first.kill()
        await first.wait()
        for number in (2, 3, 4):
            await server.send(Message(0, number, "N"), ["1"])
        second = await programs.start(*arguments)
        assert [await line(second) for _ in range(4)] == [
            "connected as 1",
            "1 messages were dropped while this client was away",
            "N 3",
            "N 4",
        ]
