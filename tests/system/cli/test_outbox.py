"""`mesa outbox` and `mesa presence` with a server."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest

from mesa_ws.client import Client

from .conftest import Site


@pytest.fixture
def away() -> str:
    """An id that no other test uses."""
    return uuid4().hex


async def keep(site: Site, id: str, *numbers: int) -> None:
    for number in numbers:
        await site.run("dispatch", "KEPT", str(number), "--to", id, "--sync")


async def document_of(site: Site, id: str) -> Any:
    return json.loads((await site.run("outbox", "show", id, "--json")).stdout)


async def test_presence_tells_how_many_connections_an_id_has(site: Site, away: str) -> None:
    async with Client(site.url) as client:
        await client.authenticate({"id": "1"})
        told = await site.run("presence", "1", away, "--json")
        assert json.loads(told.stdout) == {"online": {"1": 1, away: 0}}


async def test_presence_tells_how_many_ids_are_online(site: Site) -> None:
    async with Client(site.url) as client:
        await client.authenticate({"id": "1"})
        assert json.loads((await site.run("presence", "--json")).stdout) == {"count": 1}
        assert (await site.run("presence")).stdout == "1 id is online\n"


async def test_presence_names_everybody_who_is_online(site: Site) -> None:
    async with Client(site.url) as client, Client(site.url):
        await client.authenticate({"id": "1"})
        assert (await site.run("presence", "--all")).stdout == "1\n"
        assert json.loads((await site.run("presence", "--all", "--json")).stdout) == {"ids": ["1"]}


async def test_presence_counts_connections_with_and_without_an_id(site: Site) -> None:
    async with Client(site.url) as client, Client(site.url):
        await client.authenticate({"id": "1"})
        async with asyncio.timeout(20):  # over Redis servers tell with each heartbeat
            while (await site.run("presence", "--connections")).stdout != "2 connections are open\n":
                pass
        assert json.loads((await site.run("presence", "--connections", "--json")).stdout) == {
            "connections": 2
        }


async def test_an_outbox_shows_what_waits(site: Site, away: str) -> None:
    await keep(site, away, 1, 2, 3)
    shown = json.loads((await site.run("outbox", "show", away, "--limit", "2", "--json")).stdout)
    assert [each["body"] for each in shown["messages"]] == [
        {"op": 0, "d": 1, "t": "KEPT"},
        {"op": 0, "d": 2, "t": "KEPT"},
    ]
    assert (shown["outbox"]["top"], shown["outbox"]["length"]) == (3, 3)
    assert [each["acknowledged"] for each in shown["messages"]] == [False, False]


async def test_what_a_client_has_and_others_may_still_want_is_marked(site: Site, away: str) -> None:
    await keep(site, away, 1)
    async with Client(site.url) as client:
        client.on_message(lambda message: None)
        await client.authenticate({"id": away})
        async with asyncio.timeout(20):
            while (await document_of(site, away))["outbox"]["acknowledged"] < 1:
                await asyncio.sleep(0.05)
    await keep(site, away, 2)
    messages = (await document_of(site, away))["messages"]
    assert [(each["sequence"], each["acknowledged"]) for each in messages] == [(1, True), (2, False)]
    table = (await site.run("outbox", "show", away)).stdout
    rows = [row.split("│") for row in table.splitlines() if "KEPT" in row]
    assert [(row[1].strip(), row[2].strip()) for row in rows] == [("1", "yes"), ("2", "")]


async def test_an_outbox_is_shown_to_people(site: Site, away: str) -> None:
    await keep(site, away, 7)
    shown = (await site.run("outbox", "show", away)).stdout
    assert "KEPT" in shown
    assert "1 message, up to 1 of epoch" in shown


async def test_an_id_without_an_outbox_is_no_error(site: Site) -> None:
    assert (await site.run("outbox", "show", "nobody")).stdout == "nobody has no outbox\n"


async def test_an_outbox_is_emptied(site: Site, away: str) -> None:
    await keep(site, away, 1, 2)
    assert (await site.run("outbox", "purge", away, "--yes")).stdout == "dropped 2 messages\n"
    assert json.loads((await site.run("outbox", "purge", away, "--json")).stdout) == {
        "id": away,
        "purged": 0,
    }


async def test_an_outbox_is_not_emptied_without_a_yes(site: Site, away: str) -> None:
    await keep(site, away, 1)
    await site.run("outbox", "purge", away, stdin="n\n", code=1)
    assert json.loads((await site.run("outbox", "purge", away, "--json")).stdout)["purged"] == 1


async def test_a_key_names_a_message(site: Site, away: str) -> None:
    for _ in range(2):
        await site.run("dispatch", "ONCE", "1", "--to", away, "--sync", "--idempotency-key", "k")
    assert json.loads((await site.run("outbox", "purge", away, "--json")).stdout)["purged"] == 1


async def test_what_is_no_id_is_a_wrong_command_line(site: Site) -> None:
    for arguments in (["presence", "*"], ["outbox", "show", "*"], ["outbox", "purge", "*", "--yes"]):
        await site.run(*arguments, code=2)
