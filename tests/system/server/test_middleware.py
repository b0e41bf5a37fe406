"""Middleware: the calls of its hooks, what they may refuse or change, and what their faults do."""

import asyncio
import logging
import threading
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from mesa_ws import Middleware
from mesa_ws.errors import Refused
from mesa_ws.messages.envelope import prepare
from mesa_ws.messages.message import Message
from mesa_ws.server import node
from mesa_ws.server.connection import Connection
from mesa_ws.transports.run import Server, serve
from tests.system.waiting import until

from .conftest import Joining, Serving, accepting
from .peer import LIMIT, Peer
from .sync import Flaky, storing

Told = asyncio.Queue[tuple[Any, ...]]


def answering(**options: Any) -> Server:
    server = accepting(**options)

    @server.on_message("PING")
    async def pong(message: Message, connection: Connection) -> None:
        connection.send(Message(0, message.data, "PONG"))

    return server


async def told(queue: Told, count: int) -> list[tuple[Any, ...]]:
    async with asyncio.timeout(LIMIT):
        return [await queue.get() for _ in range(count)]


class Life(Middleware):
    """Records the calls of its hooks about connections."""

    def __init__(self, name: str, queue: Told) -> None:
        self.name = name
        self.queue = queue

    async def on_connection(self, connection: Connection) -> None:
        self.queue.put_nowait((self.name, "connection"))

    async def on_authenticated(self, connection: Connection) -> None:
        self.queue.put_nowait((self.name, "authenticated", connection.id))

    async def on_message_received(self, message: Message, connection: Connection) -> None:
        self.queue.put_nowait((self.name, "message", message.type))

    async def on_disconnection(self, connection: Connection, code: int, reason: str) -> None:
        self.queue.put_nowait((self.name, "disconnection", code, reason))


async def test_a_connections_life_is_told_to_each_in_the_order_of_registration(
    serving: Serving, join: Joining
) -> None:
    server, queue = accepting(), Told()
    server.use(Life("a", queue))
    server.use(Life("b", queue))
    peer = await join(await serving(server), "1")
    await peer.send("HI")
    await peer.socket.close(4000, "bye")
    assert await told(queue, 8) == [
        ("a", "connection"),
        ("b", "connection"),
        ("a", "authenticated", "1"),
        ("b", "authenticated", "1"),
        ("a", "message", "HI"),
        ("b", "message", "HI"),
        ("a", "disconnection", 4000, "bye"),
        ("b", "disconnection", 4000, "bye"),
    ]


async def test_a_hook_is_called_after_the_applications_handlers(serving: Serving, join: Joining) -> None:
    server, queue = accepting(), Told()
    server.use(Life("hook", queue))

    @server.on_message
    async def handle(message: Message, connection: Connection) -> None:
        queue.put_nowait(("handler", message.type))

    peer = await join(await serving(server))
    await peer.send("HI")
    assert await told(queue, 3) == [("hook", "connection"), ("handler", "HI"), ("hook", "message", "HI")]


async def test_a_plain_hook_runs_in_a_thread(serving: Serving, join: Joining) -> None:
    server, queue = accepting(), Told()
    loop = asyncio.get_running_loop()

    class Plain:
        def on_connection(self, connection: Connection) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, (threading.current_thread().name[:12],))

    server.use(Plain)
    await join(await serving(server))
    assert await told(queue, 1) == [("mesa-handler",)]


async def test_a_hook_that_raises_is_reported_and_harms_no_other(serving: Serving, join: Joining) -> None:
    server, queue = accepting(), Told()

    class Broken(Middleware):
        async def on_connection(self, connection: Connection) -> None:
            raise ValueError("broken")

    class Reporting(Middleware):
        async def on_error(self, error: Exception, connection: Connection | None) -> None:
            queue.put_nowait((type(error), str(error), type(connection)))

    server.use(Broken)
    server.use(Reporting)
    server.use(Life("next", queue))
    await join(await serving(server), "1")
    assert await told(queue, 3) == [
        (ValueError, "broken", Connection),
        ("next", "connection"),
        ("next", "authenticated", "1"),
    ]


async def test_an_on_error_that_raises_is_called_once(
    serving: Serving, join: Joining, caplog: pytest.LogCaptureFixture
) -> None:
    server = answering()
    calls: list[Exception] = []

    class Looping(Middleware):
        async def on_connection(self, connection: Connection) -> None:
            raise ValueError("first")

        async def on_error(self, error: Exception, connection: Connection | None) -> None:
            calls.append(error)
            raise ValueError("second")

    server.use(Looping)
    peer = await join(await serving(server))
    assert await peer.received("X") == []
    assert [str(error) for error in calls] == ["first"]
    assert "on_error handler" in caplog.text


async def test_a_login_can_be_changed_before_the_authenticator_sees_it(
    serving: Serving, join: Joining
) -> None:
    server = accepting()

    class Renaming(Middleware):
        async def before_authentication(self, data: Any, connection: Connection) -> Any:
            return {"id": data["id"].lower()} if data["id"].isupper() else None

    server.use(Renaming)
    endpoint = await serving(server)
    upper, lower = await join(endpoint), await join(endpoint)
    assert [await upper.authenticate("ALICE"), await lower.authenticate("bob")] == [
        {"id": "alice"},
        {"id": "bob"},
    ]


async def test_a_login_can_be_refused_before_the_authenticator_sees_it(
    serving: Serving, join: Joining
) -> None:
    server = Server()
    asked: list[Any] = []

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> None:
        asked.append(data)

    class Closed(Middleware):
        async def before_authentication(self, data: Any, connection: Connection) -> Any:
            raise Refused("not today")

    server.use(Closed)
    peer = await join(await serving(server))
    await peer.send(data={"id": "1"}, op=2)
    assert await peer.closed() == 1008
    assert asked == []


async def test_a_login_hook_that_fails_lets_the_client_come_back(serving: Serving, join: Joining) -> None:
    server = accepting()

    class Broken(Middleware):
        async def before_authentication(self, data: Any, connection: Connection) -> Any:
            raise ValueError("broken")

    server.use(Broken)
    peer = await join(await serving(server))
    await peer.send(data={"id": "1"}, op=2)
    assert await peer.closed() == 1011


async def test_a_login_hook_that_takes_too_long_is_the_authenticators_time(
    serving: Serving, join: Joining
) -> None:
    server = accepting(authentication={"timeout": 0.5})

    class Slow(Middleware):
        async def before_authentication(self, data: Any, connection: Connection) -> Any:
            await asyncio.Event().wait()

    server.use(Slow)
    peer = await join(await serving(server))
    await peer.send(data={"id": "1"}, op=2)
    assert await peer.closed() == 1011


async def test_a_message_can_be_changed_and_dropped_before_it_is_handled(
    serving: Serving, join: Joining
) -> None:
    server = answering()

    class Doubling(Middleware):
        async def before_message(self, message: Message, connection: Connection) -> Message | None:
            return None if message.data is None else Message(0, message.data * 2, message.type)

    class Adding(Middleware):
        def before_message(self, message: Message, connection: Connection) -> Message | None:  # type: ignore[override]
            return Message(0, message.data + 1, message.type)

    server.use(Doubling)
    server.use(Adding)
    peer = await join(await serving(server))
    await peer.send("PING")
    await peer.send("PING", 5)
    assert (await peer.until(t="PONG"))["d"] == 11


@pytest.mark.parametrize(
    ("answer", "logged", "reported"),
    [
        (Refused("no"), "refused a message", []),
        (ValueError("broken"), "the message is not handled", [ValueError]),
        ("text", "expected a Message or None, got str", [TypeError]),
    ],
)
async def test_a_message_whose_hook_says_no_is_not_handled(
    serving: Serving,
    join: Joining,
    caplog: pytest.LogCaptureFixture,
    answer: Any,
    logged: str,
    reported: list[Any],
) -> None:
    server, queue = answering(), Told()
    errors: list[Any] = []

    class Deciding(Middleware):
        async def before_message(self, message: Message, connection: Connection) -> Message | None:
            if message.data == "good":
                return message
            if isinstance(answer, Exception):
                raise answer
            return answer  # type: ignore[no-any-return]

        async def on_error(self, error: Exception, connection: Connection | None) -> None:
            errors.append(type(error))

    server.use(Deciding)
    server.use(Life("seen", queue))
    peer = await join(await serving(server))
    with caplog.at_level(logging.INFO, "mesa_ws.server"):
        await peer.send("PING", "bad")
        await peer.send("PING", "good")
        assert (await peer.until(t="PONG"))["d"] == "good"
    assert errors == reported
    assert logged in caplog.text
    assert await told(queue, 2) == [("seen", "connection"), ("seen", "message", "PING")]


class Translating(Middleware):
    def __init__(self) -> None:
        self.seen: list[Connection | None] = []

    def before_send(self, message: Message, connection: Connection | None) -> Message | None:
        self.seen.append(connection)
        if message.data == "secret":
            return None
        if message.data == "forbidden":
            raise Refused("forbidden")
        return Message(0, f"{message.data}!", message.type)


async def test_what_the_server_sends_can_be_changed_dropped_and_refused(
    serving: Serving, join: Joining
) -> None:
    server = answering()
    middleware = server.use(Translating)
    peer = await join(await serving(server), "1")
    assert (await server.send(Message(0, "secret", "X"), ["1"])).deliveries == {}
    with pytest.raises(Refused, match="forbidden"):
        await server.send(Message(0, "forbidden", "X"), ["1"])
    await server.send(Message(0, "hi", "X"), ["1"])
    assert await peer.received("X") == ["hi!"]
    assert middleware.seen[:3] == [None, None, None]


async def test_what_a_connection_is_sent_can_be_changed_dropped_and_refused(
    serving: Serving, join: Joining
) -> None:
    server = answering()
    middleware = server.use(Translating)
    peer = await join(await serving(server), "1")
    [connection] = server.connections
    connection.send(Message(0, "secret", "X"))
    with pytest.raises(Refused, match="forbidden"):
        connection.send(Message(0, "forbidden", "X"))
    connection.send(Message(0, "hi", "X"))
    assert await peer.received("X") == ["hi!"]
    assert middleware.seen[:3] == [connection] * 3


class Telling(Middleware):
    """Records the calls of its hooks about sent messages."""

    def __init__(self, queue: Told) -> None:
        self.queue = queue

    def on_message_sent(
        self, message: Message, connections: Sequence[Connection], from_this_node: bool
    ) -> None:
        self.queue.put_nowait((message, sorted(str(each.id) for each in connections), from_this_node))

    async def on_undeliverable_message_sent(self, message: Message, ids: Sequence[str]) -> None:
        self.queue.put_nowait(("undeliverable", message, list(ids)))

    async def on_redeliver_undeliverable_messages(
        self, messages: Sequence[Message], connection: Connection
    ) -> None:
        self.queue.put_nowait(("redelivered", list(messages), connection.id))


HI = Message(0, "hi", "HI")


@pytest.mark.parametrize("sync", [False, True])
async def test_a_sent_message_is_told_with_its_connections(
    serving: Serving, join: Joining, sync: bool
) -> None:
    server, queue = accepting(sync=sync), Told()
    endpoint = await serving(server)
    for id in ("1", "1", "2"):
        await join(endpoint, id)
    server.use(Telling(queue))
    await server.send(HI, ["1", "3"])
    await server.send(HI, ["*"], ["1"])
    expected: list[tuple[Any, ...]] = [(HI, ["1", "1"], True), (HI, ["2"], True)]
    if sync:
        expected.append(("undeliverable", HI, ["3"]))
    assert sorted(await told(queue, len(expected)), key=str) == sorted(expected, key=str)
    server.connections[0].send(HI)
    assert await told(queue, 1) == [(HI, ["1"], True)]


async def test_a_message_from_elsewhere_is_told_as_such(serving: Serving, join: Joining) -> None:
    server, queue = accepting(), Told()
    await join(await serving(server), "1")
    server.use(Telling(queue))
    await server.bus.dispatch([prepare(HI, ["1"])])
    await server.bus.dispatch([prepare(HI, ["absent"])])
    await server.send(HI)
    assert await told(queue, 2) == [(HI, ["1"], False), (HI, ["1"], True)]


async def test_what_waited_for_a_client_is_told_at_its_login(serving: Serving, join: Joining) -> None:
    server, queue = accepting(sync=True), Told()
    server.use(Telling(queue))
    endpoint = await serving(server)
    await server.send(HI, ["1"])
    await join(endpoint, "1")
    await join(endpoint, "2")
    await server.send(HI, ["2"])
    assert await told(queue, 4) == [
        ("undeliverable", HI, ["1"]),
        ("redelivered", [HI], "1"),
        ("redelivered", [], "2"),
        (HI, ["2"], True),
    ]
    await server.send(HI, ["2", "away"])
    assert await told(queue, 2) == [(HI, ["2"], True), ("undeliverable", HI, ["away"])]


async def test_what_only_passed_by_is_no_backlog(serving: Serving, join: Joining) -> None:
    backend, queue = Flaky(), Told()
    server = storing(backend)
    server.use(Telling(queue))
    await join(await serving(server), "1")
    backend.is_deaf = True
    await server.send(HI, ["1"])
    await asyncio.sleep(0)
    backend.is_deaf = False
    await server.catch_up()
    await server.send(HI, ["1"])
    assert await told(queue, 2) == [("redelivered", [], "1"), (HI, ["1"], True)]
    assert queue.empty()


async def test_an_async_hook_of_sent_messages_keeps_their_order(serving: Serving, join: Joining) -> None:
    server, queue = accepting(), Told()

    class Later(Middleware):
        async def on_message_sent(  # type: ignore[override]
            self, message: Message, connections: Sequence[Connection], from_this_node: bool
        ) -> None:
            await asyncio.sleep(0)
            queue.put_nowait((message.data,))

    server.use(Later)
    await join(await serving(server), "1")
    for n in range(10):
        await server.send(Message(0, n))
    assert await told(queue, 10) == [(n,) for n in range(10)]


async def test_a_hook_of_sent_messages_that_is_too_slow_is_told_less(
    serving: Serving, join: Joining, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mesa_ws.server.notifications.MOST", 3)
    server, queue = answering(), Told()
    busy, gate = asyncio.Event(), asyncio.Event()

    class Slow(Middleware):
        async def on_message_sent(  # type: ignore[override]
            self, message: Message, connections: Sequence[Connection], from_this_node: bool
        ) -> None:
            busy.set()
            await gate.wait()
            queue.put_nowait((message.data,))

    server.use(Slow)
    peer = await join(await serving(server), "1")
    await server.send(Message(0, 0, "N"))
    await busy.wait()
    for n in range(1, 10):
        await server.send(Message(0, n, "N"))
    assert await peer.received("N") == list(range(10)), "the client gets them all"
    gate.set()
    assert await told(queue, 4) == [(0,), (1,), (2,), (3,)]
    await until(lambda: "Slow.on_message_sent were dropped" in caplog.text)
    assert "7 calls of " in caplog.text
    assert "further ones are dropped" in caplog.text
    assert queue.empty()


async def test_a_hook_that_hangs_holds_up_those_of_no_other_middleware(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "GRACE", 0.05)
    monkeypatch.setattr("mesa_ws.server.notifications.MOST", 3)
    server, queue = accepting(sync=True), Told()

    async def hang(message: Message, ids: Sequence[str]) -> None:
        await asyncio.Event().wait()

    async def tell(message: Message, ids: Sequence[str]) -> None:
        queue.put_nowait((message.data, ids))

    server.use(SimpleNamespace(on_undeliverable_message_sent=hang))
    server.use(SimpleNamespace(on_undeliverable_message_sent=tell))
    await serving(server)
    for n in range(5):
        await server.send(Message(0, n), ["away"])
        assert await told(queue, 1) == [(n, ["away"])]


async def test_a_hook_of_sent_messages_that_raises_is_reported(serving: Serving, join: Joining) -> None:
    server, queue = answering(), Told()

    class Broken(Middleware):
        def on_message_sent(
            self, message: Message, connections: Sequence[Connection], from_this_node: bool
        ) -> None:
            raise ValueError("broken")

        async def on_error(self, error: Exception, connection: Connection | None) -> None:
            queue.put_nowait((str(error),))

    server.use(Broken)
    peer = await join(await serving(server), "1")
    await server.send(Message(0, "hi", "HI"))
    assert await peer.received("HI") == ["hi"]
    assert await told(queue, 1) == [("broken",)]


async def test_portals_that_come_and_go_are_told(serving: Serving) -> None:
    server, queue = accepting(), Told()

    class Portals(Middleware):
        async def on_portal_join(self, id: str) -> None:
            queue.put_nowait(("join", id))

        async def on_portal_leave(self, id: str) -> None:
            queue.put_nowait(("leave", id))

    server.use(Portals)
    await serving(server)
    server.portal_joined("p")
    server.portal_left("p")
    assert await told(queue, 2) == [("join", "p"), ("leave", "p")]


async def test_who_comes_and_goes_in_the_cluster_is_told(serving: Serving, join: Joining) -> None:
    server, queue = accepting(presence={"grace": 0}), Told()

    class Presence(Middleware):
        async def on_online(self, id: str) -> None:
            queue.put_nowait(("online", id))

        async def on_offline(self, id: str) -> None:
            queue.put_nowait(("offline", id))

    server.use(Presence)
    peer = await join(await serving(server), "1")
    await peer.socket.close()
    assert await told(queue, 2) == [("online", "1"), ("offline", "1")]


async def test_before_a_server_stops_messages_still_reach_clients() -> None:
    server, queue = answering(), Told()

    @server.on_stop
    async def goodbye() -> None:
        for connection in server.connections:
            connection.send(Message(0, "soon", "STOPPING"))

    class Stopping(Middleware):
        async def on_stop(self) -> None:
            queue.put_nowait(("hook", server.is_running, len(server.connections)))

    server.use(Stopping)
    async with AsyncExitStack() as stack:
        async with serve(server) as endpoint:
            peer = await stack.enter_async_context(Peer.connect(endpoint.url))
            await peer.receive()
        assert (await peer.until(t="STOPPING"))["d"] == "soon"
        assert await peer.closed() == 1001
    assert await told(queue, 1) == [("hook", False, 1)]


async def test_a_server_stops_without_a_stop_handler_that_hangs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(node, "GRACE", 0.01)
    server = accepting()

    @server.on_stop
    async def hang() -> None:
        await asyncio.Event().wait()

    @server.on_stop
    async def never() -> None:
        raise AssertionError

    async with asyncio.timeout(LIMIT):
        async with serve(server):
            pass
    assert "on_stop did not finish" in caplog.text


async def test_a_server_that_is_stopped_twice_tells_it_once() -> None:
    server = accepting()
    calls: list[bool] = []

    @server.on_stop
    async def stopping() -> None:
        calls.append(server.is_running)

    async with serve(server):
        pass
    await server.stop()
    assert calls == [False]


# Hooks that take no end.


async def test_a_login_hook_shares_the_time_of_the_authenticator(serving: Serving, join: Joining) -> None:
    server = accepting(authentication={"timeout": 0.2})

    class Hanging(Middleware):
        async def before_authentication(self, data: Any, connection: Connection) -> Any:
            await asyncio.Event().wait()

    server.use(Hanging)
    peer = await join(await serving(server))
    await peer.send(data={"id": "1"}, op=2)
    assert await peer.closed() == 1011


HANGING = ["on_connection", "before_message", "on_message_received", "on_disconnection"]


@pytest.mark.parametrize("hook", HANGING)
async def test_a_hook_that_hangs_keeps_only_its_own_connection_waiting(
    serving: Serving, join: Joining, monkeypatch: pytest.MonkeyPatch, hook: str
) -> None:
    monkeypatch.setattr(node, "GRACE", 0.05)
    server, stuck = answering(), asyncio.Event()

    async def hang(*args: Any) -> Any:
        if not stuck.is_set():
            stuck.set()
            await asyncio.Event().wait()
        return args[0]

    server.use(SimpleNamespace(**{hook: hang}))
    endpoint = await serving(server)
    first = await join(endpoint)
    await first.send("STUCK")
    if hook == "on_disconnection":
        await first.socket.close()
    async with asyncio.timeout(LIMIT):
        await stuck.wait()
    second = await join(endpoint, "2")
    await second.send("PING", "alive")
    assert (await second.until(t="PONG"))["d"] == "alive"
    await second.socket.close()


@pytest.mark.parametrize("hook", ["on_message_received", "on_message_sent", "on_disconnection"])
async def test_a_server_stops_although_a_hook_hangs(monkeypatch: pytest.MonkeyPatch, hook: str) -> None:
    monkeypatch.setattr(node, "GRACE", 0.05)
    server, stuck = answering(), asyncio.Event()

    async def hang(*args: Any) -> None:
        stuck.set()
        await asyncio.Event().wait()

    server.use(SimpleNamespace(**{hook: hang}))
    async with asyncio.timeout(LIMIT), serve(server) as endpoint:
        async with Peer.connect(endpoint.url) as peer:
            await peer.send("PING")
            await peer.until(t="PONG")
        await stuck.wait()
    assert not server.is_running


async def test_a_server_that_starts_again_begins_with_no_calls_that_waited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(node, "GRACE", 0.05)
    monkeypatch.setattr("mesa_ws.server.notifications.MOST", 3)
    server, queue, stuck = answering(), Told(), asyncio.Event()

    class Sent(Middleware):
        async def on_message_sent(  # type: ignore[override]
            self, message: Message, connections: Sequence[Connection], from_this_node: bool
        ) -> None:
            if message.type == "PONG" and not stuck.is_set():
                stuck.set()
                await asyncio.Event().wait()
            queue.put_nowait((message.data,))

    server.use(Sent)
    async with asyncio.timeout(LIMIT), serve(server) as endpoint, Peer.connect(endpoint.url) as peer:
        await peer.send("PING", "stuck")
        await stuck.wait()
        for _ in range(3):  # as many as may wait
            await peer.send("PING", "waits")
        await peer.received("PONG")
    async with serve(server) as endpoint, Peer.connect(endpoint.url) as peer:
        await peer.send("PING", "again")
        assert await told(queue, 1) == [("again",)]


# Messages that are stored, and messages without a recipient.


async def test_a_request_that_a_middleware_keeps_is_not_answered(serving: Serving, join: Joining) -> None:
    server, asked = accepting(), list[Message]()

    @server.on_message("SECRET")
    async def tell(message: Message, connection: Connection) -> str:
        asked.append(message)
        return "the secret"

    class Silent(Middleware):
        async def before_message(self, message: Message, connection: Connection) -> Message | None:
            return None

    server.use(Silent)
    peer = await join(await serving(server))
    await peer.raw('{"op":0,"d":null,"t":"SECRET","x":{"r":"1"}}')
    answer = await peer.receive()
    while "x" not in answer:
        answer = await peer.receive()
    assert answer["x"]["error"]["code"] == "unanswered"
    assert asked == []


async def test_what_reaches_nobody_is_not_told(serving: Serving, join: Joining) -> None:
    server, told_of = accepting(), list[Any]()

    class Sent(Middleware):
        def on_message_sent(
            self, message: Message, connections: Sequence[Connection], from_this_node: bool
        ) -> None:
            told_of.append((message.data, len(connections)))

    server.use(Sent)
    endpoint = await serving(server)
    await server.send(Message(0, "to no connection", "HI"))
    peer = await join(endpoint)
    await server.send(Message(0, "to one", "HI"))
    await peer.messages(1)
    assert told_of == [("to one", 1)]


async def test_what_is_too_late_for_its_connection_is_not_told(serving: Serving, join: Joining) -> None:
    server, told_of, has_ended = accepting(), list[Any](), asyncio.Event()

    class Sent(Middleware):
        def on_message_sent(
            self, message: Message, connections: Sequence[Connection], from_this_node: bool
        ) -> None:
            told_of.append(message.data)

    server.use(Sent)

    @server.on_message("LEAVE ME")
    async def leave(message: Message, connection: Connection) -> str:
        thread = threading.Thread(target=connection.send, args=(Message(0, "of a thread"),))
        thread.start()
        thread.join()  # this thread of the event loop hears of the message later
        connection.disconnect()
        return "the answer"

    @server.on_disconnection
    async def ended(connection: Connection, code: int, reason: str) -> None:
        has_ended.set()

    peer = await join(await serving(server))
    await peer.raw('{"op":0,"t":"LEAVE ME","x":{"r":"1"}}')
    async with asyncio.timeout(LIMIT):
        await has_ended.wait()
    assert told_of == []
