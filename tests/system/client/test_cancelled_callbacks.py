"""Callbacks of a client that are cancelled, or raise what is no exception."""

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from mesa_ws.client import Client
from mesa_ws.errors import RequestFailed
from mesa_ws.messages.message import Message
from mesa_ws.transports.run import Endpoint, Server
from tests.system.cancelling import (
    WAYS,
    Way,
    cancel_this_task,
    cancels_itself_and_waits,
    swallows_its_cancellation,
)
from tests.system.waiting import until

from .conftest import meet, meet_user
from .scripted import LIMIT, ScriptedServer

every_way = pytest.mark.parametrize("fails", WAYS, ids=lambda way: way.__name__)


def failing(client: Client, fails: Way) -> tuple[list[str], list[Exception]]:
    """What a client was told and reported, of which the callbacks for BOOM and for errors fail."""
    told, reported = list[str](), list[Exception]()

    @client.on_message
    async def on_message(message: Message) -> None:
        if message.type == "BOOM":
            await fails()
        else:
            told.append(str(message.type))

    @client.on_disconnected
    async def on_disconnected(code: int, reason: str, will_reconnect: bool) -> None:
        told.append(f"ended {code}")
        await fails()

    @client.on_error
    async def on_error(error: Exception) -> None:
        reported.append(error)
        await fails()

    return told, reported


@every_way
async def test_the_next_ones_are_told(
    scripted: ScriptedServer, fails: Way, caplog: pytest.LogCaptureFixture
) -> None:
    client = scripted.client()
    told, reported = failing(client, fails)
    guest = await meet(scripted, client)
    for type in ("BOOM", "A", "BOOM", "B"):
        await guest.dispatch(type)
    await until(lambda: told == ["A", "B"])
    await guest.close(1001)
    guest = await scripted.guest()
    await guest.dispatch("C")
    await until(lambda: told == ["A", "B", "ended 1001", "C"])
    assert len(reported) == 3
    assert all(isinstance(error, Exception) for error in reported)
    assert caplog.text.count("raised\n") == 6
    async with asyncio.timeout(LIMIT):
        await client.aclose()
    assert told[4:] == ["ended 1000"]


@every_way
async def test_the_server_gets_an_answer_to_its_request(
    server: Server, endpoint: Endpoint, fails: Way
) -> None:
    reported = list[Exception]()
    async with Client(endpoint.url) as client:

        @client.on_request("BOOM")
        async def boom(message: Message) -> None:
            await fails()

        client.on_request("PING")(lambda message: "pong")
        client.on_error(reported.append)
        await client.authenticate({"id": "1"})
        with pytest.raises(RequestFailed, match="failed"):
            await server.request("1", Message(0, None, "BOOM"))
        assert (await server.request("1", Message(0, None, "PING"))).data == "pong"
    assert len(reported) == 1


@every_way
async def test_a_token_function_at_a_reconnect_is_tried_again(scripted: ScriptedServer, fails: Way) -> None:
    client, reported, calls = scripted.client(), list[Exception](), list[int]()

    async def token() -> Mapping[str, Any]:
        calls.append(len(calls))
        if len(calls) in {2, 3}:
            await fails()
        return {"token": len(calls)}

    client.on_error(reported.append)
    guest = await meet_user(scripted, client, token)
    await guest.close(1001)
    for _ in range(2):
        await scripted.guest()
    guest = await scripted.guest()
    assert await guest.welcome(id="1") == {"token": 4, "shouldSync": True}
    await until(lambda: client.is_authenticated)
    assert len(reported) == 2
    assert all(isinstance(error, Exception) for error in reported)


async def test_a_token_function_that_takes_too_long_and_cancels_itself_is_tried_again(
    scripted: ScriptedServer,
) -> None:
    client, reported, calls = scripted.client(), list[Exception](), list[int]()

    async def token() -> Mapping[str, Any]:
        calls.append(len(calls))
        if len(calls) == 2:
            try:
                await asyncio.Event().wait()
            finally:
                cancel_this_task()
        return {"token": len(calls)}

    client.on_error(reported.append)
    guest = await meet(scripted, client)
    authenticating = asyncio.create_task(client.authenticate(token, timeout=0.2))
    await guest.welcome(id="1")
    await authenticating
    await guest.close(1001)
    await scripted.guest()
    guest = await scripted.guest()
    assert (await guest.welcome(id="1"))["token"] == 3
    assert [type(error).__name__ for error in reported] == ["TimedOut"]


async def test_a_token_function_may_cancel_a_task_of_the_application(
    scripted: ScriptedServer,
) -> None:
    client = scripted.client()
    await meet(scripted, client)

    async def token() -> Mapping[str, Any]:
        await cancels_itself_and_waits()
        return {}

    authenticating = asyncio.create_task(client.authenticate(token))
    await asyncio.wait({authenticating})
    assert authenticating.cancelled()


async def test_a_token_function_that_waits_for_something_cancelled_is_an_error_of_authenticate(
    scripted: ScriptedServer,
) -> None:
    client = scripted.client()
    await meet(scripted, client)

    async def token() -> Mapping[str, Any]:
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="waited for something that was cancelled"):
        await client.authenticate(token)


class Store:
    """Keeps positions, if it does not fail."""

    def __init__(self, fails: Way) -> None:
        self._fails = fails
        self.saves = 0

    def load(self) -> None:
        """Nothing is there."""

    async def save(self, data: bytes) -> None:
        self.saves += 1
        if self.saves == 1:
            await self._fails()


@every_way
async def test_a_store_of_positions_that_fails_like_that_is_asked_again(
    scripted: ScriptedServer, fails: Way
) -> None:
    store, reported = Store(fails), list[Exception]()
    client = scripted.client(positions=store)
    client.on_error(reported.append)
    client.on_message(lambda message: None)
    guest = await meet(scripted, client, v=2)
    authenticating = asyncio.create_task(client.authenticate({"id": "1"}))
    await guest.authentication()
    await guest.send(op=22, d={}, x={"e": "epoch", "s": 0, "status": "fresh", "lost": 0})
    await authenticating
    for sequence in range(1, 65):
        await guest.send(op=0, t="M", s=sequence)
    await until(lambda: len(reported) == 1)
    for sequence in range(65, 129):
        await guest.send(op=0, t="M", s=sequence)
    acknowledged = 0
    while acknowledged < 128:  # on a slow machine also in between, after a second
        frame = await guest.receive()
        assert frame["op"] == 3
        assert acknowledged < frame["d"]["s"] <= 128
        acknowledged = frame["d"]["s"]


async def test_a_callback_that_deals_with_its_cancellation_has_not_failed(scripted: ScriptedServer) -> None:
    client = scripted.client()
    told, reported = failing(client, swallows_its_cancellation)
    guest = await meet(scripted, client)
    await guest.dispatch("BOOM")
    await guest.dispatch("A")
    await until(lambda: told == ["A"])
    assert reported == []


async def test_a_task_that_was_kept_and_is_cancelled_later_goes_on(scripted: ScriptedServer) -> None:
    """A client that has nothing to tell, or is connected, waits; that is not the application's code."""
    client, told, kept = scripted.client(), list[str](), set[asyncio.Task[Any]]()

    def keep() -> None:
        task = asyncio.current_task()
        assert task is not None
        kept.add(task)

    @client.on_message
    async def on_message(message: Message) -> None:
        keep()
        told.append(str(message.type))

    async def token() -> Mapping[str, Any]:
        keep()
        return {}

    guest = await meet_user(scripted, client, token)
    kept.clear()
    await guest.close(1001)
    guest = await scripted.guest()
    await guest.welcome()
    await guest.dispatch("A")
    await until(lambda: told == ["A"])
    assert len(kept) == 2
    for task in kept:
        task.cancel()
    await guest.dispatch("B")
    await until(lambda: told == ["A", "B"])
    await guest.close(1001)
    guest = await scripted.guest()
    await guest.welcome()
    await guest.dispatch("C")
    await until(lambda: told == ["A", "B", "C"])


async def test_closing_that_is_cancelled_ends_a_callback_that_does_not_heed_it(
    scripted: ScriptedServer,
) -> None:
    client, began, told = scripted.client(), asyncio.Event(), list[str]()

    @client.on_message
    async def on_message(message: Message) -> None:
        told.append(str(message.type))
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancel_this_task()

    client.on_disconnected(lambda *args: told.append("ended"))
    guest = await meet(scripted, client)
    await guest.dispatch("A")
    await guest.dispatch("B")
    await began.wait()
    closing = asyncio.create_task(client.aclose())
    await guest.closed()
    closing.cancel()
    async with asyncio.timeout(LIMIT):
        await asyncio.wait({closing})
        await client.aclose()
    assert told == ["A"]


ENDING = """
import asyncio, sys
from mesa_ws import Client, Message, Server, serve

async def main():
    server, began = Server(), asyncio.Event()
    server.on_connection(lambda connection: connection.send(Message(0, 1, "A")))

    context = serve(server)
    endpoint = await context.__aenter__()
    client = Client(endpoint.url)

    @client.on_message
    async def on_message(message):
        began.set()
        {how}

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
    ids=["the event loop ends", "a callback exits"],
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
