"""Peers of the HTTP API that send or read too little, and too many of them."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest

from mesa_ws.errors import BackendUnavailable
from mesa_ws.http_server import service
from mesa_ws.http_server.server import DispatchApi
from tests.http_site import KEY, Dispatching, HeldBus, Site, message
from tests.system.server.peer import LIMIT

SOON = 0.1
NEVER = 600.0
HEAD = f"POST /v1/dispatch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n".encode()
LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"


class Opened:
    """The API of a site, and raw connections to it."""

    def __init__(self, site: Site, stack: AsyncExitStack) -> None:
        self.site = site
        self.url = ""
        self._stack = stack

    async def api(self, **limits: Any) -> None:
        limits = {"head_timeout": NEVER, "body_timeout": NEVER} | limits
        api = DispatchApi(self.site.server, key=KEY, port=0, limits=limits)
        self.url = (await self._stack.enter_async_context(api)).url

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, _, port = self.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        self._stack.callback(writer.close)
        return reader, writer

    async def ask(self, request: bytes) -> bytes:
        """Send this on a new connection, and return all that comes until the server closes it."""
        reader, writer = await self.connect()
        writer.write(request)
        async with asyncio.timeout(LIMIT):
            return await reader.read()

    async def first_line(self, request: bytes) -> bytes:
        reader, writer = await self.connect()
        writer.write(request)
        return await reader.readline()

    async def neighbour(self, data: object) -> None:
        async with Dispatching("aio", self.url) as bus:
            await bus.dispatch(message(data))


@pytest.fixture
async def opened() -> AsyncIterator[Opened]:
    site = Site()
    await site.open()
    async with AsyncExitStack() as stack:
        yield Opened(site, stack)
    await site.memory.aclose()


def code(answer: bytes) -> str:
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"])


async def test_half_sent_heads_are_given_up(opened: Opened) -> None:
    await opened.api(head_timeout=SOON)
    later = LIVE[:-2] + b"Connection: keep-alive\r\n\r\n" + HEAD  # the half is that of a second request
    answers = await asyncio.gather(*(opened.ask(half) for half in [HEAD] * 40 + [later, b"", b"\r"]))
    assert [answer[:12] for answer in answers[:40]] == [b"HTTP/1.1 408"] * 40
    assert {code(answer) for answer in answers[:40]} == {"too_slow"}
    assert answers[40].startswith(b"HTTP/1.1 200 OK")
    assert answers[40].count(b"HTTP/1.1 408") == 1
    assert answers[41] == b""
    await opened.neighbour(1)
    assert opened.site.received == [1]


async def test_half_bodies_are_given_up_and_sent_to_nobody(opened: Opened) -> None:
    await opened.api(body_timeout=SOON)
    half = b'Content-Length: 1000\r\n\r\n{"message":{"d":1}'
    answers = await asyncio.gather(*(opened.ask(HEAD + half) for _ in range(40)))
    assert {answer[:12] for answer in answers} == {b"HTTP/1.1 408"}
    assert {code(answer) for answer in answers} == {"too_slow"}
    await opened.neighbour(2)
    assert opened.site.received == [2]


async def test_the_body_of_a_refused_request_has_a_deadline(opened: Opened) -> None:
    await opened.api(body_timeout=SOON)
    answer = await opened.ask(HEAD.replace(KEY.encode(), b"another") + b"Content-Length: 1000\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 401")
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_an_answer_that_is_not_read_is_given_up(opened: Opened) -> None:
    await opened.api(body_timeout=SOON, max_connections=1)
    body = json.dumps({"ids": [f"{n:0200}" for n in range(10_000)]}).encode()
    head = HEAD.replace(b"dispatch", b"presence") + b"Content-Length: %d\r\n\r\n" % len(body)
    _, writer = await opened.connect()
    writer.write((head + body) * 10)
    async with asyncio.timeout(LIMIT):
        while True:
            async with Dispatching("aio", opened.url) as bus:
                try:
                    await bus.dispatch(message(1))
                    break
                except BackendUnavailable:
                    await asyncio.sleep(SOON)
    assert opened.site.received == [1]


async def test_connections_beyond_the_limit_are_told_to_come_later(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    await opened.api(max_connections=3)
    held = [await opened.connect() for _ in range(3)]
    for reader, writer in held:
        writer.write(LIVE)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    answers = await asyncio.gather(*(opened.ask(LIVE) for _ in range(5)))
    assert [answer[:12] for answer in answers] == [b"HTTP/1.1 503"] * 5
    assert all(b"\r\nRetry-After: 1\r\n" in answer for answer in answers)
    assert {code(answer) for answer in answers} == {"overloaded"}
    with pytest.raises(BackendUnavailable, match=r"at most 3 connections.*nothing was sent"):
        await opened.neighbour(1)
    logged = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert logged == ["the dispatch API refused a connection: 3 are open, which is the limit"]
    held[0][1].close()
    await held[0][1].wait_closed()
    async with asyncio.timeout(LIMIT):
        while not (await opened.first_line(LIVE)).startswith(b"HTTP/1.1 200"):
            await asyncio.sleep(0.01)


async def test_few_connections_beyond_the_limit_are_answered_and_none_is_waited_for(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "REFUSALS", 2)
    monkeypatch.setattr(service, "REFUSAL", NEVER)
    await opened.api(max_connections=1)
    reader, writer = await opened.connect()
    writer.write(LIVE)
    await reader.readline()
    silent = [await opened.connect() for _ in range(2)]
    with suppress(ConnectionResetError):
        assert await opened.ask(LIVE) == b""
    for reader, writer in silent:
        writer.write(LIVE)
        assert (await reader.readline()).startswith(b"HTTP/1.1 503")
    monkeypatch.setattr(service, "REFUSAL", SOON)
    assert await opened.ask(b"") == b""


async def test_bodies_beyond_the_limit_of_all_are_told_to_come_later(opened: Opened) -> None:
    opened.site.bus = held = HeldBus(opened.site.memory)
    await opened.api(max_bodies=9_000_000)
    async with Dispatching("aio", opened.url) as first, Dispatching("aio", opened.url) as second:
        large = asyncio.create_task(first.dispatch(message("x" * 6_000_000)))
        await held.arrived.get()
        for _ in range(2):  # the connection stays in order
            with pytest.raises(
                BackendUnavailable, match=r"at most 9000000 bytes of requests.*nothing was sent"
            ):
                await second.dispatch(message("y" * 6_000_000))
        held.go.set()
        await large
        await second.dispatch(message("z" * 6_000_000))
    assert [data[0] for data in opened.site.received] == ["x", "z"]
