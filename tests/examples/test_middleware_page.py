"""The Python on the page about middleware, run block after block."""

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from mesa_ws import AuthenticationFailed, Client, Connection, Message, Server, User, serve
from tests.examples.programs import LIMIT
from tests.system.waiting import until

PAGE = Path(__file__).parents[2] / "docs/howto/middleware.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def run(number: int) -> dict[str, Any]:
    """Return the names of one block; its server accepts any id, and answers PING."""
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(BLOCK.findall(PAGE.read_text())[number], str(PAGE), "exec"), names)
    server: Server = names["server"]

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        return User(data["id"])

    @server.on_message
    async def echo(message: Message, connection: Connection) -> None:
        connection.send(message)

    return names


async def test_the_first_example_limits_what_a_client_sends() -> None:
    server = run(0)["server"]
    async with serve(server) as endpoint, Client(endpoint.url) as client:
        for n in range(25):
            await client.send(Message(0, n, "HI"))
        numbers = [(await anext(client)).data for _ in range(25)]
    assert numbers == list(range(25))
    assert server.rates.exceeded["delay"] == 5


async def test_the_example_for_prometheus_counts() -> None:
    async with serve(run(1)["server"]) as endpoint, Client(endpoint.url):
        assert REGISTRY.get_sample_value("mesa_connections") == 1


async def test_the_example_that_counts_has_keys_of_its_own() -> None:
    names = run(2)
    async with serve(names["server"]) as endpoint, Client(endpoint.url) as client:
        await client.authenticate({"id": "alice"})
        await client.send(Message(0, None, "HI"))
        await until(lambda: names["unread"].counts == {"mesa:{api}:mw:unread:alice": 1})


async def test_the_example_that_decides_refuses_changes_and_drops() -> None:
    names = run(3)
    async with serve(names["server"]) as endpoint, Client(endpoint.url) as client:
        await client.send(Message(0, 1, "DEBUG"))
        await client.send(Message(0, 2, "HI"))
        assert await anext(client) == Message(0, {"office": 1, "content": 2}, "HI")
        names["OfficeHours"].closed = True
        with pytest.raises(AuthenticationFailed):
            await client.authenticate({"id": "alice"}, timeout=LIMIT)
