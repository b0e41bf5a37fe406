"""Plain `def` handlers: how they send and ask, and what they cannot do."""

import asyncio
import threading
import warnings
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

import mesa_ws.server.event_loop
import mesa_ws.server.node
from mesa_ws import AsyncDispatcher, Connection, Message, Server, User
from mesa_ws.client import Client
from mesa_ws.errors import BackendUnavailable, InvalidRecipients, MesaError, NotConnected
from mesa_ws.transports.run import serve

from .conftest import Joining, Serving, accepting
from .peer import LIMIT, Peer

PING = Message(0, None, "PING")

Use = Callable[[Server], Any]
"""What a plain handler does with its server."""


async def outcome_of(server: Server, serving: Serving, join: Joining, use: Use) -> Any:
    """Return what a plain handler got from `use`, or what it raised."""
    outcome: asyncio.Queue[Any] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    @server.on_message("USE")
    def handle(message: Message, connection: Connection) -> None:
        loop.call_soon_threadsafe(outcome.put_nowait, use(server))

    @server.on_error
    async def failed(error: BaseException, connection: Connection | None) -> None:
        outcome.put_nowait(error)

    peer = await join(await serving(server), "1")
    await peer.send("USE")
    async with asyncio.timeout(LIMIT):
        return await outcome.get()


async def test_it_sends(serving: Serving, join: Joining) -> None:
    server = accepting()

    @server.on_message("SAY")
    def say(message: Message, connection: Connection) -> None:
        receipt = server.send_blocking(Message(0, message.data, "SAID"), ["1", "2"], ["2"])
        server.send_blocking(Message(0, receipt.deliveries["1"].online, "ONLINE"), [connection.id or ""])

    endpoint = await serving(server)
    first, second = await join(endpoint, "1"), await join(endpoint, "2")
    await second.send("SAY", "hello")
    assert (await first.until(t="SAID"))["d"] == "hello"
    assert (await second.until(t="ONLINE"))["d"] == 1
    assert [frame for frame in second.frames if frame.get("t") == "SAID"] == []


async def test_it_asks_the_client_whose_message_it_handles(serving: Serving) -> None:
    server, answers = accepting(), list[Any]()

    @server.on_message("ASK")
    def ask(message: Message, connection: Connection) -> Any:
        answers.append(server.request_blocking("1", PING).data)
        return "asked"

    async with Client((await serving(server)).url) as client:
        client.on_request("PING")(lambda message: "pong")
        await client.authenticate({"id": "1"})
        assert (await client.request(Message(0, None, "ASK"))).data == "asked"
    assert answers == ["pong"]


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        (lambda server: server.presence_blocking.online(["1", "2"]), {"1": 1, "2": 0}),
        (lambda server: server.presence_blocking.count(), 1),
        (lambda server: server.presence_blocking.connections(), 1),
        (lambda server: list(server.presence_blocking.ids()), ["1"]),
    ],
    ids=["online", "count", "connections", "ids"],
)
async def test_it_knows_who_is_online(use: Use, expected: object, serving: Serving, join: Joining) -> None:
    assert await outcome_of(accepting(), serving, join, use) == expected


@pytest.mark.parametrize(
    ("use", "error"),
    [
        (lambda server: server.send_blocking(PING, "1"), InvalidRecipients),
        (lambda server: server.request_blocking("away", PING), NotConnected),
        (lambda server: server.presence_blocking.online(7), InvalidRecipients),
    ],
    ids=["send", "request", "presence"],
)
async def test_what_fails_is_raised_in_its_thread(
    use: Use, error: type[Exception], serving: Serving, join: Joining
) -> None:
    assert type(await outcome_of(accepting(), serving, join, use)) is error


@pytest.mark.parametrize("hook", ["authenticator", "before_message"])
async def test_so_do_authenticators_and_middleware(hook: str, serving: Serving, join: Joining) -> None:
    server = Server()

    class Telling:
        def before_message(self, message: Message, connection: Connection) -> Message:
            server.send_blocking(Message(0, hook, "CALLED"))
            return message

    @server.authenticator
    def authenticate(data: Any, connection: Connection) -> User:
        if hook == "authenticator":
            server.send_blocking(Message(0, hook, "CALLED"))
        return User(data["id"])

    if hook == "before_message":
        server.use(Telling())
    peer = await join(await serving(server))
    await peer.send(data={"id": "1"}, op=2)
    await peer.send("ANY")
    assert (await peer.until(t="CALLED"))["d"] == hook


DISPATCHER = AsyncDispatcher("redis://127.0.0.1:1")


@pytest.mark.parametrize(
    ("use", "name", "instead"),
    [
        (lambda server: server.send(PING, ["1"]), "server.send", "use server.send_blocking"),
        (lambda server: server.request("1", PING), "server.request", "use server.request_blocking"),
        (lambda server: server.presence.online(["1"]), "presence.online", "use server.presence_blocking"),
        (lambda server: server.presence.count(), "presence.count", "use server.presence_blocking"),
        (lambda server: server.presence.connections(), "presence.connections", "presence_blocking"),
        (lambda _: DISPATCHER.dispatch(PING, ["1"]), "AsyncDispatcher.dispatch", "use a Dispatcher"),
        (lambda _: DISPATCHER.dispatch_many([]), "AsyncDispatcher.dispatch_many", "use a Dispatcher"),
        (lambda _: DISPATCHER.request("1", PING), "AsyncDispatcher.request", "use a Dispatcher"),
        (lambda server: server.disconnect(["1"]), "server.disconnect", "use a Dispatcher"),
        (lambda server: server.revoke(["1"]), "server.revoke", "use a Dispatcher"),
        (lambda _: DISPATCHER.disconnect(["1"]), "AsyncDispatcher.disconnect", "use a Dispatcher"),
        (lambda _: DISPATCHER.revoke(["1"]), "AsyncDispatcher.revoke", "use a Dispatcher"),
        (lambda _: DISPATCHER.status(None), "AsyncDispatcher.status", "use a Dispatcher"),  # type: ignore[call-overload]
    ],
)
async def test_a_coroutine_that_it_cannot_await_is_an_error_at_once(
    use: Use, name: str, instead: str, serving: Serving, join: Joining
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        error = await outcome_of(accepting(), serving, join, use)
    assert isinstance(error, MesaError)
    assert str(error).startswith(f"{name} does nothing in a `def` handler")
    assert instead in str(error)


async def test_it_may_run_an_event_loop_of_its_own(serving: Serving, join: Joining) -> None:
    async def dispatch() -> None:
        async with AsyncDispatcher("redis://127.0.0.1:1") as dispatcher:
            await dispatcher.dispatch(PING, [])

    assert await outcome_of(accepting(), serving, join, lambda _: asyncio.run(dispatch())) is None


async def test_a_coroutine_that_it_returns_is_awaited(serving: Serving, join: Joining) -> None:
    server = accepting()

    async def answer(connection: Connection) -> None:
        await server.send(Message(0, None, "AWAITED"), [connection.id or ""])

    server.on_message("RETURN")(lambda message, connection: answer(connection))
    peer = await join(await serving(server), "1")
    await peer.send("RETURN")
    assert await peer.until(t="AWAITED")


@pytest.mark.parametrize(
    "use",
    [
        lambda server: server.send_blocking(PING, ["1"]),
        lambda server: server.request_blocking("1", PING),
        lambda server: server.presence_blocking.count(),
    ],
    ids=["send", "request", "presence"],
)
async def test_the_blocking_forms_refuse_the_event_loop_of_the_server(use: Use, serving: Serving) -> None:
    server = accepting()
    await serving(server)
    with pytest.raises(MesaError, match=r"_blocking was called in the event loop of the server"):
        use(server)


async def test_they_need_a_server_that_runs() -> None:
    with pytest.raises(MesaError, match="the server is not running"):
        await asyncio.to_thread(Server().send_blocking, PING)


async def test_a_thread_of_any_kind_may_use_them(serving: Serving, join: Joining) -> None:
    server = accepting()
    peer = await join(await serving(server), "1")
    await asyncio.to_thread(server.send_blocking, PING, ["1"])
    assert await peer.until(t="PING")


async def test_the_context_of_the_thread_goes_along(serving: Serving, join: Joining) -> None:
    server, seen, name = accepting(), list[str](), ContextVar("name", default="none")

    class Seeing:
        def before_send(self, message: Message, connection: Connection | None) -> Message:
            seen.append(name.get())
            return message

    def use(server: Server) -> None:
        name.set("the handler's")
        server.send_blocking(PING, ["1"])

    server.use(Seeing())
    await outcome_of(server, serving, join, use)
    assert seen == ["the handler's"]


async def test_a_server_that_stops_lets_no_thread_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesa_ws.server.node, "GRACE", 0.05)
    server, begun, raised = accepting(), threading.Event(), list[BaseException]()
    has_ended = threading.Event()

    @server.on_message
    def wait(message: Message, connection: Connection) -> None:
        begun.set()
        try:
            server.wait_in_thread("send", asyncio.Event().wait)
        except BackendUnavailable as error:
            raised.append(error)
        finally:
            has_ended.set()

    async with serve(server) as endpoint, Peer.connect(endpoint.url) as peer:
        await peer.send("WAIT")
        assert await asyncio.to_thread(begun.wait, LIMIT)
    assert await asyncio.to_thread(has_ended.wait, LIMIT)
    assert [str(error) for error in raised] == ["the server is stopping; the message may have been sent"]


async def test_what_a_thread_begins_while_the_server_leaves_its_cluster_ends_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, begun, ended = accepting(), asyncio.Event(), list[str]()
    waiting = list[asyncio.Task[None]]()
    leave = server.backend.aclose

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("work")

    async def aclose() -> None:
        waiting.append(asyncio.create_task(asyncio.to_thread(server.wait_in_thread, "send", work)))
        await begun.wait()
        await leave()

    monkeypatch.setattr(server.backend, "aclose", aclose)
    async with asyncio.timeout(LIMIT):
        async with serve(server):
            pass
        assert ended == ["work"]
        with pytest.raises(BackendUnavailable, match="the server is stopping"):
            await waiting[0]
