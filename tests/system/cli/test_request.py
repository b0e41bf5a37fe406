"""`mesa request` with a server and a client that answers."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from mesa_ws.client import Client
from mesa_ws.errors import RequestError
from mesa_ws.messages.message import Message

from .conftest import Site


@pytest.fixture
async def client(site: Site) -> AsyncIterator[Client]:
    async with Client(site.url) as client:
        await client.authenticate({"id": "1"})
        yield client


async def test_the_answer_of_a_client_is_printed(site: Site, client: Client) -> None:
    client.on_request("LOCATION")(lambda message: Message(99, [message.data], "PLACE"))
    result = await site.run("request", "1", "LOCATION", '{"n": 1}')
    assert result.stdout == 'PLACE [{"n":1}]\n'
    result = await site.run("request", "1", "LOCATION", "-", "--json", stdin="2")
    assert json.loads(result.stdout) == {"opcode": 99, "type": "PLACE", "data": [2]}


async def test_an_answer_cannot_drive_the_terminal(site: Site, client: Client) -> None:
    client.on_request(lambda message: Message(0, "\x1b\x9b", "\x1b[2J"))
    result = await site.run("request", "1", "ANY", "null", "--opcode", "99")
    assert result.stdout == '\\x1b[2J "\\u001b\\x9b"\n'


async def test_an_error_is_one_line_and_exit_code_1(site: Site, client: Client) -> None:
    @client.on_request("LOCATION")
    def refuse(message: Message) -> None:
        raise RequestError("not for you", "secret")

    for type, why in (("LOCATION", "not for you"), ("OTHER", "no handler")):
        result = await site.run("request", "1", type, "null", code=1)
        assert result.stderr.count("\n") == 1
        assert why in result.stderr


def test_an_id_that_is_away_is_an_error(site: Site) -> None:
    result = site.mesa("request", "nobody", "LOCATION", "null")
    assert result.exit_code == 1
    assert "'nobody'" in result.stderr


async def test_the_wait_is_limited(site: Site) -> None:
    async with Client(site.url, reconnect=False) as client:
        await client.authenticate({"id": "2"})
        over = asyncio.Event()

        @client.on_request
        async def never(message: Message) -> None:
            await over.wait()

        result = await site.run("request", "2", "ANY", "null", "--timeout", "0.2", code=1)
        assert "0.2" in result.stderr
        over.set()


@pytest.mark.parametrize("wrong", [("1", "ANY", "{"), ("1", "ANY", "1", "--timeout", "0"), ("*", "ANY", "1")])
def test_what_cannot_be_asked_is_a_wrong_command_line(site: Site, wrong: tuple[str, ...]) -> None:
    assert site.mesa("request", *wrong).exit_code == 2
