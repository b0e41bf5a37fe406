"""`mesa portal` beside a Redis."""

import asyncio
import json
import re
import time

import pytest

from mesa_ws import Client, Message, Server, serve
from mesa_ws.backend.inbox import PARTITIONS, Capacity, InboxEvent, Step
from mesa_ws.backend.redis import RedisBackend, RedisPortalConsumer

from .conftest import Starter, here

APPLICATION = """
from mesa_ws import Portal
portal = Portal({url!r}, namespace={namespace!r})
other = 7
"""


@pytest.fixture
async def letters(redis_url: str, namespace: str) -> list[str]:
    """Three dead letters."""
    backend, consumer = (
        RedisBackend(redis_url, namespace=namespace),
        RedisPortalConsumer(redis_url, namespace=namespace),
    )
    await backend.open(lambda _: None)
    tokens = (await consumer.heartbeat(range(PARTITIONS))).tokens
    room = Capacity(10, 1 << 30)
    for n in range(3):
        node = backend.node_id
        await backend.append(InboxEvent(f"c{n}", 0, "1", "connection", None, node), room)
        await backend.append(
            InboxEvent(f"c{n}", 0, "2", "message", f"id{n}", node, b'{"op":0,"d":%d}' % n), room
        )
    for waiting in await consumer.read({0: ""}):
        action = "die" if waiting.event.kind == "message" else "reject"
        letter = (waiting.offset, waiting.event.connection_id, 1)
        await consumer.settle([Step(0, tokens[0], action, *letter, reason="ValueError: \x1b[31mno")])  # type: ignore[arg-type]
    places = [dead.offset for dead in await consumer.dead_letters(10)]
    await consumer.heartbeat([], stays=False)
    await consumer.aclose()
    await backend.aclose()
    return places


async def run(redis_url: str, namespace: str, *arguments: str) -> str:
    address = ("--url", redis_url, "--namespace", namespace)
    result = await asyncio.to_thread(here, "portal", "dead-letters", *arguments, *address)
    assert result.exit_code == 0, result.output
    return result.stdout


async def test_dead_letters_are_listed(redis_url: str, namespace: str, letters: list[str]) -> None:
    shown = json.loads(await run(redis_url, namespace, "list", "--json", "--limit", "2"))
    assert [each["letter"] for each in shown] == letters[:2]
    first = shown[0]
    assert (first["type"], first["id"], first["data"], first["deliveries"]) == (
        "message", "id0", {"op": 0, "d": 0}, 0,
    )  # fmt: skip
    assert (first["key"], first["connection_id"]) == ("c0:2", "c0")
    assert abs(first["died"] - time.time()) < 60
    table = await run(redis_url, namespace, "list")
    assert letters[2] in table
    assert "\x1b" not in table


async def test_what_waits_is_told(redis_url: str, namespace: str, letters: list[str]) -> None:
    async def status(*arguments: str) -> str:
        address = ("--url", redis_url, "--namespace", namespace)
        result = await asyncio.to_thread(here, "portal", "status", *arguments, *address)
        assert result.exit_code == 0, result.output
        return result.stdout

    ends = 3  # of the connections whose node is gone
    assert (await status()).startswith("0 portals, 3 events waiting for up to ")
    await run(redis_url, namespace, "retry", letters[0])
    consumer = RedisPortalConsumer(redis_url, namespace=namespace)
    await consumer.heartbeat([0])
    shown = json.loads(await status("--json"))
    assert (shown["portals"], shown["waiting"], shown["dead_letters"]) == ([consumer.portal_id], ends + 1, 2)
    assert shown["rejected"] == 3
    assert 0 <= shown["oldest_seconds"] < 60
    queues = [(each["queue"], each["portal"], each["waiting"]) for each in shown["queues"]]
    assert queues == [(0, consumer.portal_id, ends + 1), *((n, None, 0) for n in range(1, PARTITIONS))]
    said = (await status()).splitlines()
    assert re.fullmatch(
        r"1 portal, 4 events waiting for up to [\d.]+ seconds, 2 dead letters, 3 rejected", said[0]
    )
    assert any(consumer.portal_id in line for line in said)
    await consumer.aclose()


async def test_dead_letters_are_retried(redis_url: str, namespace: str, letters: list[str]) -> None:
    assert await run(redis_url, namespace, "retry", letters[1]) == "retried 1 letter\n"
    assert json.loads(await run(redis_url, namespace, "retry", "--all", "--json")) == {"retried": 2}
    assert await run(redis_url, namespace, "list") == "there are no dead letters\n"
    consumer = RedisPortalConsumer(redis_url, namespace=namespace)
    waiting = await consumer.read({0: ""})
    await consumer.aclose()
    messages = [each.event for each in waiting if each.event.kind == "message"]
    assert [letter.id for letter in messages] == ["id1", "id0", "id2"]


async def test_dead_letters_are_dropped(redis_url: str, namespace: str, letters: list[str]) -> None:
    assert await run(redis_url, namespace, "drop", letters[0], "1-1") == "dropped 1 letter\n"
    assert json.loads(await run(redis_url, namespace, "drop", "--all", "--json")) == {"dropped": 2}


@pytest.mark.parametrize("arguments", [["retry"], ["drop", "--all", "1-0"], ["drop", "yesterday"]])
def test_letters_have_to_be_named(arguments: list[str]) -> None:
    result = here("portal", "dead-letters", *arguments)
    assert result.exit_code == 2
    assert "expected" in result.stderr


def test_dead_letters_are_not_to_be_had_over_http() -> None:
    result = here("portal", "dead-letters", "list", "--url", "http://127.0.0.1:4001")
    assert result.exit_code != 0
    assert "redis://" in result.stderr


def test_a_portal_runs_until_sigterm(mesa: Starter, redis_url: str, namespace: str) -> None:
    (mesa.directory / "app.py").write_text(APPLICATION.format(url=redis_url, namespace=namespace))
    portal = mesa("portal", "run", "app:portal", "--json")
    assert set(json.loads(portal.line())) == {"portal"}
    assert portal.stopped() == 0


async def test_a_portal_logs_events_as_json_lines(mesa: Starter, redis_url: str, namespace: str) -> None:
    (mesa.directory / "app.py").write_text(APPLICATION.format(url=redis_url, namespace=namespace))
    portal = mesa("portal", "run", "app:portal", "--log-json", environment={"MESA_LOG_LEVEL": "debug"})
    portal.line()
    async with (
        serve(Server(redis_url, namespace=namespace, portals=True)) as endpoint,
        Client(endpoint.url) as client,
    ):
        await client.send(Message(0, "geheim", "HELLO"))
        await asyncio.to_thread(portal.wait_for, lambda: "HELLO" in portal.err, "an event")
    assert portal.stopped() == 0
    documents = [json.loads(line) for line in portal.err.splitlines()]
    [told] = [each["message"] for each in documents if "HELLO" in each["message"]]
    assert told.startswith("delivery 1 of <PortalEvent message 'HELLO' of None on ")
    assert "geheim" not in portal.err


def test_a_program_that_runs_a_portal_says_so(mesa: Starter, redis_url: str, namespace: str) -> None:
    application = APPLICATION.format(url=redis_url, namespace=namespace)
    portal = mesa(program=("-c", f"{application}\nportal.run()"))
    portal.wait_for(lambda: portal.err.endswith("\n"), "a line")
    assert re.fullmatch(r"mesa [\d.]+: portal \S+ takes part\n", portal.err)
    assert portal.stopped() == 0


@pytest.mark.parametrize(
    ("name", "said"),
    [("app:other", "expected a Portal, got int"), ("app:nothing", "got nothing"), ("app", "main:portal")],
)
def test_what_is_no_portal_is_said(mesa: Starter, redis_url: str, name: str, said: str) -> None:
    (mesa.directory / "app.py").write_text(APPLICATION.format(url=redis_url, namespace=None))
    portal = mesa("portal", "run", name)
    assert portal.ended() != 0
    assert said in portal.err


def test_a_redis_that_is_not_there_is_said(mesa: Starter) -> None:
    (mesa.directory / "app.py").write_text(APPLICATION.format(url="redis://127.0.0.1:1", namespace=None))
    portal = mesa("portal", "run", "app:portal")
    assert portal.ended() == 1
    assert "no connection" in portal.err
