"""Handlers that are cancelled, or raise what is no exception: that call fails, and the rest goes on."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import AsyncExitStack
from typing import Any

import pytest

import mesa_ws.server.event_loop
import mesa_ws.server.node
from mesa_ws.messages.message import Message
from mesa_ws.messages.recipients import User
from mesa_ws.server.connection import Connection
from mesa_ws.server.middleware import Middleware
from mesa_ws.transports.run import Server, serve
from tests.system.cancelling import (
    WAYS,
    Foreign,
    Way,
    cancels_itself_and_returns,
    swallows_its_cancellation,
)
from tests.system.waiting import until

from .conftest import Joining, Serving, accepting
from .peer import LIMIT, Peer

every_way = pytest.mark.parametrize("fails", WAYS, ids=lambda way: way.__name__)


class Site:
    """A server that answers PING, with what it was told and what it reported."""

    def __init__(self, **options: Any) -> None:
        self.server = accepting(**options)
        self.told: list[Any] = []
        self.reported: list[BaseException] = []

        @self.server.on_message("PING")
        async def pong(message: Message, connection: Connection) -> Any:
            self.told.append(message.data)
            connection.send(Message(0, {}, "PONG"))
            return "pong"

        @self.server.on_error
        async def report(error: BaseException, connection: Connection) -> None:
            self.reported.append(error)

        @self.server.on_disconnection
        async def ended(connection: Connection, code: int, reason: str) -> None:
            self.told.append("ended")


@pytest.fixture
def site() -> Site:
    return Site()


@every_way
async def test_what_comes_after_it_is_handled(
    site: Site, fails: Way, serving: Serving, join: Joining, caplog: pytest.LogCaptureFixture
) -> None:
    @site.server.on_message("BOOM")
    async def boom(message: Message, connection: Connection) -> None:
        await fails()

    peer = await join(await serving(site.server), "1")
    for number in (1, 2):
        await peer.send("BOOM")
        await peer.send("PING", number)
        await peer.until(t="PONG")
    await peer.socket.close()
    await until(lambda: "ended" in site.told)
    assert site.told == [1, 2, "ended"]
    assert len(site.reported) == 2
    assert all(isinstance(error, Exception) for error in site.reported)
    assert caplog.text.count("raised\n") == 1  # the second one is counted


@every_way
async def test_on_error_itself_may_fail_like_that(
    site: Site, fails: Way, serving: Serving, join: Joining
) -> None:
    @site.server.on_error
    async def report(error: BaseException, connection: Connection) -> None:
        await fails()

    @site.server.on_message("BOOM")
    async def boom(message: Message, connection: Connection) -> None:
        raise ValueError

    peer = await join(await serving(site.server), "1")
    await peer.send("BOOM")
    assert await peer.received("X") == []


@every_way
async def test_who_asked_gets_an_error(site: Site, fails: Way, serving: Serving, join: Joining) -> None:
    @site.server.on_message("BOOM")
    async def boom(message: Message, connection: Connection) -> None:
        await fails()

    peer = await join(await serving(site.server))
    await peer.log_in("1", wire=2)
    await peer.raw('{"op":0,"t":"BOOM","x":{"r":"1"}}')
    await peer.raw('{"op":0,"t":"PING","x":{"r":"2"}}')
    await peer.until(d="pong")
    answers = {frame["x"]["a"]: frame for frame in peer.frames if "a" in frame.get("x", {})}
    assert sorted(answers) == ["1", "2"]
    assert answers["1"]["x"]["error"]["code"] == "failed"
    assert len(site.reported) == 1


@every_way
async def test_an_authenticator_that_fails_like_that_closes_1011(
    fails: Way, serving: Serving, join: Joining
) -> None:
    server, reported = Server(), list[BaseException]()

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User | None:
        await fails()
        return User("1")

    @server.on_error
    async def report(error: BaseException, connection: Connection) -> None:
        reported.append(error)

    peer = await join(await serving(server))
    await peer.send(op=2)
    assert await peer.closed() == 1011
    await until(lambda: len(reported) == 1)


async def test_a_time_limit_that_is_over_is_no_cancellation_by_a_handler(
    serving: Serving, join: Joining
) -> None:
    server, reported = Server(authentication={"timeout": 0.05}), list[BaseException]()

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User | None:
        try:
            await asyncio.Event().wait()
        finally:
            await cancels_itself_and_returns()
        return None

    @server.on_error
    async def report(error: BaseException, connection: Connection) -> None:
        reported.append(error)

    peer = await join(await serving(server))
    await peer.send(op=2)
    assert await peer.closed() == 1011
    await until(lambda: len(reported) == 1)
    assert isinstance(reported[0], TimeoutError)


class Failing:
    """Of each kind of hooks one that fails."""

    def __init__(self, fails: Way, told: list[Any]) -> None:
        self.fails = fails
        self.told = told

    async def on_connection(self, connection: Connection) -> None:
        await self.fails()

    async def on_authenticated(self, connection: Connection) -> None:
        await self.fails()

    async def before_message(self, message: Message, connection: Connection) -> Message | None:
        if message.type == "BOOM":
            await self.fails()
        return message

    async def on_message_received(self, message: Message, connection: Connection) -> None:
        await self.fails()

    async def on_message_sent(self, message: Message, *args: Any) -> None:
        self.told.append("sent")
        await self.fails()

    async def on_online(self, id: str) -> None:
        self.told.append("online")
        await self.fails()

    async def on_offline(self, id: str) -> None:
        self.told.append("offline")

    async def on_disconnection(self, connection: Connection, code: int, reason: str) -> None:
        self.told.append("ended")
        await self.fails()


@every_way
async def test_hooks_of_middleware_may_fail_like_that(fails: Way, serving: Serving, join: Joining) -> None:
    server, told = accepting(presence={"grace": 0}), list[Any]()
    server.use(Failing(fails, told))

    @server.on_message("PING")
    async def pong(message: Message, connection: Connection) -> None:
        told.append(message.data)
        connection.send(Message(0, {}, "PONG"))

    peer = await join(await serving(server), "1")
    for number in (1, 2):
        await peer.send("BOOM")
        await peer.send("PING", number)
        await peer.until(t="PONG")
    await until(lambda: told.count("sent") == 2)
    await peer.socket.close()
    await until(lambda: {"ended", "offline"} <= set(told))
    assert [each for each in told if isinstance(each, int)] == [1, 2]


async def test_a_handler_that_deals_with_its_cancellation_has_not_failed(
    site: Site, serving: Serving, join: Joining
) -> None:
    @site.server.on_message("BOOM")
    async def boom(message: Message, connection: Connection) -> Any:
        await swallows_its_cancellation()
        task = asyncio.current_task()
        return {"cancellations": task.cancelling() if task is not None else None}

    peer = await join(await serving(site.server))
    await peer.log_in("1", wire=2)
    for number in (1, 2):
        await peer.raw(json.dumps({"op": 0, "t": "BOOM", "x": {"r": str(number)}}))
        assert (await peer.until(t="BOOM"))["d"] == {"cancellations": 1}
    assert site.reported == []


@pytest.mark.parametrize(
    "error", [asyncio.CancelledError, CancelledError, SystemExit, KeyboardInterrupt, GeneratorExit, Foreign]
)
async def test_a_plain_function_ends_nothing_from_its_thread(
    error: type[BaseException], site: Site, serving: Serving, join: Joining
) -> None:
    @site.server.on_message("BOOM")
    def boom(message: Message, connection: Connection) -> None:
        raise error

    peer = await join(await serving(site.server), "1")
    await peer.send("BOOM")
    await peer.send("PING", 1)
    await peer.until(t="PONG")
    assert site.told == [1]
    assert len(site.reported) == 1


async def test_a_task_that_was_kept_and_is_cancelled_later_ends_no_more_than_its_connection(
    site: Site, serving: Serving, join: Joining, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a login waits for is cancelled, which is not the application's code."""
    kept = list[asyncio.Task[Any]]()

    class Keeping(Middleware):
        async def before_authentication(self, data: Any, connection: Connection) -> None:
            task = asyncio.current_task()
            assert task is not None
            kept.append(task)

    site.server.use(Keeping)
    began = asyncio.Event()

    async def attach(*args: Any) -> None:
        began.set()
        await asyncio.Event().wait()

    endpoint = await serving(site.server)
    monkeypatch.setattr(site.server.backend, "attach", attach)
    peer = await join(endpoint)
    await peer.send(op=2, data={"id": "1"})
    await began.wait()
    for task in kept:
        task.cancel()
    assert await peer.closed() == 1011
    await until(lambda: "ended" in site.told)


@every_way
async def test_handlers_of_the_end_may_fail_like_that(fails: Way, site: Site) -> None:
    @site.server.on_stop
    async def stop() -> None:
        await fails()

    @site.server.on_stop
    async def stop_too() -> None:
        site.told.append("stopped")

    async with asyncio.timeout(LIMIT), serve(site.server):
        pass
    assert site.told == ["stopped"]
    assert len(site.reported) == 1


async def test_who_cancels_a_stop_while_handlers_are_told_of_it_is_heard(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesa_ws.server.node, "GRACE", 0.05)
    began = asyncio.Event()

    @site.server.on_stop
    async def stop() -> None:
        began.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(LIMIT), serve(site.server):
        stopping = asyncio.create_task(site.server.stop())
        await began.wait()
        stopping.cancel()
        await asyncio.wait({stopping})
    assert stopping.cancelled()


async def test_a_handler_may_stop_its_server(serving: Serving, site: Site) -> None:
    stopped = asyncio.Event()

    @site.server.on_message("STOP")
    async def stop(message: Message, connection: Connection) -> None:
        await site.server.stop()
        stopped.set()

    endpoint = await serving(site.server)
    async with asyncio.timeout(LIMIT), Peer.connect(endpoint.url) as peer:
        await peer.send("STOP")
        assert await peer.closed() == 1001
        await stopped.wait()
    await until(lambda: "ended" in site.told)


@pytest.mark.parametrize("waits_for", ["on_stop", "handlers"])
async def test_a_stop_that_is_cancelled_leaves_no_handler_and_no_client(waits_for: str, site: Site) -> None:
    began, stops = asyncio.Event(), asyncio.Event()
    ended = list[str]()

    @site.server.on_message("LONG")
    async def takes_long(message: Message, connection: Connection) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("handler")

    @site.server.on_stop
    async def stop() -> None:
        stops.set()
        if waits_for == "on_stop":
            await asyncio.Event().wait()

    async with asyncio.timeout(LIMIT), AsyncExitStack() as stack:
        serving = serve(site.server)
        endpoint = await serving.__aenter__()
        peer = await stack.enter_async_context(Peer.connect(endpoint.url))
        await peer.authenticate("1")
        await peer.send("LONG")
        await began.wait()
        stopping = asyncio.create_task(serving.__aexit__(None, None, None))
        await stops.wait()
        await asyncio.sleep(0)
        stopping.cancel()
        await asyncio.wait({stopping})
        assert stopping.cancelled()
        assert ended == ["handler"]
        assert await peer.closed() == 1001


def uncancels() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.uncancel()


@pytest.mark.parametrize("evade", [uncancels, lambda: None], ids=["uncancels", "swallows"])
async def test_a_server_that_stops_ends_a_handler_that_does_not_heed_it(
    evade: Callable[[], None], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesa_ws.server.node, "GRACE", 0.05)
    began = asyncio.Event()

    @site.server.on_message("STUCK")
    async def stuck(message: Message, connection: Connection) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            evade()

    async with asyncio.timeout(LIMIT), serve(site.server) as endpoint, Peer.connect(endpoint.url) as peer:
        await peer.authenticate("1")
        await peer.send("STUCK")
        await peer.send("PING", 1)
        await began.wait()
    assert site.told == []


async def test_both_at_once_end_the_server(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mesa_ws.server.node, "GRACE", 0.05)
    began = asyncio.Event()

    @site.server.on_message("STUCK")
    async def stuck(message: Message, connection: Connection) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await cancels_itself_and_returns()

    async with asyncio.timeout(LIMIT), serve(site.server) as endpoint, Peer.connect(endpoint.url) as peer:
        await peer.authenticate("1")
        await peer.send("STUCK")
        await peer.send("PING", 1)
        await began.wait()
    assert site.told == []
    assert "left behind" not in caplog.text


ENDING = """
import asyncio, sys
from mesa_ws import Server, serve, Client, Message

async def main():
    server, began = Server(), asyncio.Event()

    @server.on_connection
    async def stay(connection):
        began.set()
        {how}

    context = serve(server)
    endpoint = await context.__aenter__()
    client = Client(endpoint.url)
    await client.connect()
    await began.wait()
    {then}

asyncio.run(main())
print("over")
"""


@pytest.mark.parametrize(
    ("how", "then", "code", "output"),
    [
        ("await asyncio.Event().wait()", "return", 0, "over\n"),
        ("sys.exit(3)", "await asyncio.Event().wait()", 3, ""),
    ],
    ids=["the event loop ends", "an async handler exits"],
)
def test_a_process_ends(how: str, then: str, code: int, output: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDING.format(how=how, then=then)],
        timeout=LIMIT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, output), done.stderr
