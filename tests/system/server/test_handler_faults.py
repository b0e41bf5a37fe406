"""Handlers that go wrong in ways of their own: the connection and the server go on."""

import asyncio
from typing import Any

import pytest

import mesa_ws.concurrency.tasks
import mesa_ws.server.node
from mesa_ws.messages.message import Message
from mesa_ws.messages.recipients import User
from mesa_ws.server.connection import Connection
from mesa_ws.transports.run import Server, serve
from tests.system.waiting import until

from .conftest import Joining, Serving, accepting
from .peer import LIMIT, Peer


def answering(**options: Any) -> tuple[Server, list[str]]:
    """A server that answers PING, and what it reports."""
    server, reported = accepting(**options), list[str]()

    @server.on_message("PING")
    async def pong(message: Message, connection: Connection) -> None:
        connection.send(Message(0, {}, "PONG"))

    @server.on_error
    async def report(error: BaseException, connection: Connection) -> None:
        reported.append(f"{type(error).__name__}: {error}")

    return server, reported


async def wait_for_something_cancelled() -> None:
    task = asyncio.ensure_future(asyncio.Event().wait())
    task.cancel()
    await task


async def test_a_handler_that_waits_for_something_cancelled_has_failed(
    serving: Serving, join: Joining
) -> None:
    server, reported = answering()

    @server.on_message("BOOM")
    async def boom(message: Message, connection: Connection) -> None:
        await wait_for_something_cancelled()

    peer = await join(await serving(server), "1")
    await peer.send("BOOM")
    assert await peer.received("X") == []
    assert [text.split(".")[-1] for text in reported] == ["boom waited for something that was cancelled"]


async def test_an_authenticator_that_waits_for_something_cancelled_closes_1011(
    serving: Serving, join: Joining
) -> None:
    server = Server(authentication={"timeout": None})

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User | None:
        await wait_for_something_cancelled()
        return None

    peer = await join(await serving(server))
    await peer.send(op=2)
    assert await peer.closed() == 1011


async def test_a_plain_function_may_let_out_stop_iteration(serving: Serving, join: Joining) -> None:
    server, reported = answering()

    @server.on_message("BOOM")
    def boom(message: Message, connection: Connection) -> None:
        next(iter([]))

    peer = await join(await serving(server), "1")
    await peer.send("BOOM")
    assert await peer.received("X") == []
    assert [text.split(".")[-1] for text in reported] == ["boom raised StopIteration"]


@pytest.mark.parametrize("is_async", [False, True])
async def test_what_is_raised_and_no_exception_holds_up_nothing(
    is_async: bool, serving: Serving, join: Joining
) -> None:
    server, reported = answering()

    class Foreign(BaseException):
        """What other libraries derive, such as a timeout of gevent."""

    @server.on_message("BOOM")
    def boom(message: Message, connection: Connection) -> None:
        raise Foreign

    @server.on_message("LATER")
    async def later(message: Message, connection: Connection) -> None:
        boom(message, connection)

    peer = await join(await serving(server), "1")
    await peer.send("LATER" if is_async else "BOOM")
    assert await peer.received("X") == []
    [text] = reported
    assert text.endswith("raised Foreign")


@pytest.mark.parametrize("is_request", [False, True])
async def test_that_another_connection_has_ended_is_an_error_like_any_other(
    is_request: bool, serving: Serving, join: Joining
) -> None:
    server, reported = answering()

    @server.on_message("BOOM")
    async def boom(message: Message, connection: Connection) -> None:
        [other] = (each for each in server.connections if each.id == "2")
        other.disconnect()
        other.send(Message(0, "too late"))

    endpoint = await serving(server)
    peer, _ = await join(endpoint, "1"), await join(endpoint, "2")
    await peer.raw('{"op":0,"t":"BOOM","x":%s}' % ('{"r":"1"}' if is_request else "null"))
    await peer.received("X")
    assert [frame["x"]["error"]["code"] for frame in peer.frames if "x" in frame] == ["failed"] * is_request
    assert [text.split(":")[0] for text in reported] == ["ConnectionClosed"]


@pytest.mark.parametrize("is_request", [False, True])
async def test_that_its_own_connection_has_ended_is_no_handlers_fault(
    is_request: bool, serving: Serving, join: Joining, caplog: pytest.LogCaptureFixture
) -> None:
    server, reported = answering()

    @server.on_message("BOOM")
    async def boom(message: Message, connection: Connection) -> None:
        connection.disconnect(4100)
        connection.send(Message(0, "too late"))

    peer = await join(await serving(server), "1")
    with caplog.at_level("DEBUG", "mesa_ws.server"):
        await peer.raw('{"op":0,"t":"BOOM","x":%s}' % ('{"r":"1"}' if is_request else "null"))
        assert await peer.closed() == 4100
        await until(lambda: "has ended already" in caplog.text)
    assert reported == []


async def test_a_handler_that_takes_no_end_is_left_behind_when_the_server_stops(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mesa_ws.server.node, "GRACE", 0.05)
    monkeypatch.setattr(mesa_ws.concurrency.tasks, "CANCEL_GRACE", 0.05)
    server, is_over = accepting(), asyncio.Event()

    @server.on_connection
    async def stay(connection: Connection) -> None:
        while not is_over.is_set():
            try:
                await is_over.wait()
            except asyncio.CancelledError:
                continue

    async with asyncio.timeout(LIMIT), serve(server) as endpoint, Peer.connect(endpoint.url):
        pass
    assert not server.is_running
    assert "1 task goes on although cancelled, and is left behind: " in caplog.text
    is_over.set()
