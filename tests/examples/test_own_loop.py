"""The example of a server in the application's event loop, with a dispatcher."""

import asyncio
from pathlib import Path

from mesa_ws import AsyncDispatcher, Client, Message
from tests.examples.programs import KEY, LIMIT, Programs, line
from tests.ports import free_port

PROGRAM = Path(__file__).parents[2] / "examples/own_loop/server.py"


async def test_clients_and_dispatchers_are_served(programs: Programs) -> None:
    ports = {"PORT": str(free_port()), "API_PORT": str(free_port())}
    process = await programs.start(str(PROGRAM), MESA_API_KEY=KEY, **ports)
    _, _, url, _, _, api_url = (await line(process)).split()
    async with Client(url) as client, AsyncDispatcher(api_url, key=KEY) as dispatcher:
        await client.authenticate({"id": "0"})
        await dispatcher.dispatch(Message(0, 1, "HELLO"), ["0"])
        async with asyncio.timeout(LIMIT):
            assert await anext(client) == Message(0, 1, "HELLO")
