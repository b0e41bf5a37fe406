"""The parts of the demo, where one of them does not do its work."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from mesa_ws.cli import demo, demo_servers
from mesa_ws.cli.demo import connected_clients
from mesa_ws.cli.demo_servers import DemoFailed, DemoServer, dispatch
from mesa_ws.cli.process import run
from mesa_ws.messages.message import Message
from mesa_ws.messages.recipients import User
from mesa_ws.server.connection import Connection
from mesa_ws.transports.run import Server, serve

ARGUMENTS = ("--insecure-demo-auth", "--port", "0", "--no-api")


def children() -> set[int]:
    """The processes that this one has started, as Linux tells them."""
    listed = Path(f"/proc/self/task/{os.getpid()}/children")
    return {int(child) for child in listed.read_text().split()}


async def test_a_server_that_does_not_start_tells_why() -> None:
    with pytest.raises(DemoFailed, match="the server did not start: Invalid value for '--port': expected"):
        await DemoServer("A", ("--port", "x"), {}).start()


async def test_a_server_that_takes_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_servers, "START_LIMIT", 0.001)
    before = children()
    with pytest.raises(DemoFailed, match="the server did not start within"):
        await DemoServer("A", ARGUMENTS, {}).start()
    assert children() <= before


async def test_a_server_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_servers, "STOP_LIMIT", 0.05)
    before = children()
    server = DemoServer("A", ARGUMENTS, {})
    await server.start()
    [started] = children() - before
    os.kill(started, signal.SIGSTOP)
    await server.stop()
    assert children() <= before


async def test_a_dispatch_that_fails_tells_why() -> None:
    environment = {"MESA_URL": "http://127.0.0.1:1", "MESA_API_KEY": "0123456789abcdef"}
    with pytest.raises(DemoFailed, match="the dispatch failed: cannot connect to the dispatch API"):
        await dispatch(("HELLO", "1", "--all"), environment)


async def test_a_dispatch_that_takes_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_servers, "START_LIMIT", 0.001)
    before = children()
    with pytest.raises(DemoFailed, match="the dispatch did not end within"):
        await dispatch(("HELLO", "1", "--all"), {})
    assert children() <= before


async def test_a_message_that_does_not_come_is_told_with_what_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "LIMIT", 0.01)
    site = Server()

    @site.authenticator
    async def authenticate(data: dict[str, str], connection: Connection) -> User:
        return User(data["id"])

    async with serve(site) as endpoint, connected_clients([endpoint.url]) as clients:
        await site.send(Message(0, None, "HELLO"), ["1"])
        async with asyncio.timeout(10):
            while not clients.notes["1"]:
                await asyncio.sleep(0.01)
        with pytest.raises(DemoFailed, match=r"clients: expected every message .* '1': \['HELLO'\]"):
            await clients.received()


def test_work_that_cancels_itself_was_not_interrupted() -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run(work())
