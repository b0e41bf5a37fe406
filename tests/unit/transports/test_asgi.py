"""A server as an ASGI application, called without sockets."""

import asyncio
import gc
import json
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from mesa_ws.close import CloseCode
from mesa_ws.errors import BackendUnavailable, ConnectionClosed
from mesa_ws.messages.envelope import Latest
from mesa_ws.messages.message import Message
from mesa_ws.messages.recipients import User
from mesa_ws.server.connection import Connection
from mesa_ws.transports import asgi_socket
from mesa_ws.transports.asgi_socket import MESSAGES_AT_ONCE, WRITERS_AT_ONCE
from mesa_ws.transports.run import Server

LIMIT = 30.0
EXTENSIONS: dict[str, Any] = {"websocket.http.response": {}}


async def until(is_true: Callable[[], bool]) -> None:
    """Let the event loop run until a condition holds."""
    async with asyncio.timeout(LIMIT):
        while not is_true():
            await asyncio.sleep(0)


class WebSocketServer:
    """What calls the application for one client, with a gate before the client's socket."""

    def __init__(self, server: Server, **scope: Any) -> None:
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.events: list[dict[str, Any]] = []
        self.received = 0
        self.is_reading = asyncio.Event()
        self.is_reading.set()
        self.is_broken = False
        self.scope = {
            "type": "websocket",
            "path": "/ws/",
            "headers": [(b"host", b"x")],
            "query_string": b"a=1",
            "client": ("192.0.2.1", 5),
            "subprotocols": [],
            "extensions": EXTENSIONS,
            **scope,
        }
        self.incoming.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.ensure_future(server(self.scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        event = await self.incoming.get()
        self.received += 1
        return event

    async def _send(self, event: Any) -> None:
        await self.is_reading.wait()
        if self.is_broken:
            raise OSError("the client has gone")
        self.events.append(dict(event))

    @property
    def frames(self) -> list[dict[str, Any]]:
        return [json.loads(event["text"]) for event in self.events if event["type"] == "websocket.send"]

    @property
    def messages(self) -> list[Any]:
        return [frame["d"] for frame in self.frames if frame["op"] == 0]

    @property
    def kinds(self) -> list[str]:
        return [event["type"].removeprefix("websocket.") for event in self.events]

    def client_sends(self, op: int, data: Any = None, type: str | None = None) -> None:
        text = json.dumps({"op": op, "d": data} | ({"t": type} if type else {}))
        self.incoming.put_nowait({"type": "websocket.receive", "text": text})

    def client_closes(self, code: int = 1000) -> None:
        self.incoming.put_nowait({"type": "websocket.disconnect", "code": code, "reason": "bye"})

    async def log_in(self, id: str = "1") -> None:
        self.client_sends(2, {"id": id})
        await until(lambda: any(frame["op"] == 22 for frame in self.frames))

    async def end(self) -> dict[str, Any]:
        async with asyncio.timeout(LIMIT):
            await self.task
        return self.events[-1]


def accepting(**options: Any) -> Server:
    server = Server(**options)

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        return User(data["id"])

    return server


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[None]:
    async with asyncio.timeout(LIMIT), server:
        yield


# Starting and stopping.


class Lifespan:
    """What calls the application for its lifespan."""

    def __init__(self, server: Server) -> None:
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.answers: asyncio.Queue[Any] = asyncio.Queue()
        self.task = asyncio.ensure_future(server({"type": "lifespan"}, self.incoming.get, self.answers.put))

    async def ask(self, event: str) -> Any:
        self.incoming.put_nowait({"type": f"lifespan.{event}"})
        async with asyncio.timeout(LIMIT):
            return await self.answers.get()


async def test_the_lifespan_starts_and_stops_the_server() -> None:
    server = accepting()
    lifespan = Lifespan(server)
    assert await lifespan.ask("startup") == {"type": "lifespan.startup.complete"}
    running = server.is_running
    client = WebSocketServer(server)
    await client.log_in()
    client.is_reading.clear()
    stopping = asyncio.ensure_future(lifespan.ask("shutdown"))
    await until(lambda: not server.is_in_this_loop)  # it has left its cluster
    for _ in range(10):
        await asyncio.sleep(0)
    assert not stopping.done()
    client.is_reading.set()
    assert await stopping == {"type": "lifespan.shutdown.complete"}
    assert (running, server.is_running) == (True, False)
    assert client.task.done(), "it waits for the connections"
    assert (client.events[-1]["type"], client.events[-1]["code"]) == ("websocket.close", 1001)
    late = WebSocketServer(server)
    assert (await late.end(), late.events[0]["status"]) == (late.events[-1], 503)


async def test_a_start_that_fails_is_told_to_who_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    server = accepting()
    start = server.start

    async def fail() -> None:
        await asyncio.sleep(0)
        raise BackendUnavailable("no Redis", maybe_sent=False)

    monkeypatch.setattr(server, "start", fail)
    answer = await Lifespan(server).ask("startup")
    assert (answer["type"], "no Redis" in answer["message"]) == ("lifespan.startup.failed", True)
    first, second = WebSocketServer(server), WebSocketServer(server)
    for client in (first, second):
        await client.end()
        assert client.events[0]["status"] == 503
    monkeypatch.setattr(server, "start", start)
    third = WebSocketServer(server)
    await third.log_in()
    await server.stop()
    assert (await third.end())["code"] == 1001


async def test_the_first_connection_starts_the_server_once_and_none_starts_it_again() -> None:
    server, starts = accepting(), 0
    start = server.start

    async def counted() -> None:
        nonlocal starts
        starts += 1
        await asyncio.sleep(0)
        await start()

    server.start = counted  # type: ignore[method-assign]
    clients = [WebSocketServer(server) for _ in range(3)]
    clients[0].task.cancel()  # the server that it started stays up
    for client in clients[1:]:
        await client.log_in()
    assert starts == 1
    await server.stop()
    late = WebSocketServer(server)
    await late.end()
    assert (starts, late.events[0]["status"]) == (1, 503)


def test_a_server_is_for_one_event_loop(caplog: pytest.LogCaptureFixture) -> None:
    server = accepting()

    async def connect() -> list[dict[str, Any]]:
        client = WebSocketServer(server)
        await until(lambda: bool(client.events))
        if client.kinds == ["accept"]:
            client.client_closes()
        with suppress(asyncio.CancelledError):
            await client.task
        return client.events

    first = asyncio.new_event_loop()
    try:
        assert first.run_until_complete(connect())[0]["type"] == "websocket.accept"
        assert asyncio.run(connect())[0]["status"] == 503
        assert "another event loop" in caplog.text
        first.run_until_complete(server.stop())
    finally:
        first.close()


# Handshakes.


async def test_the_handshake_is_seen_as_the_client_sent_it() -> None:
    server = accepting(trusted_proxies=["192.0.2.0/24"])
    seen: list[Any] = []
    server.on_connection(lambda connection: seen.append(connection.request))
    headers = [(b"host", b"x"), (b"x-forwarded-for", b"198.51.100.7"), (b"cookie", b"a=\xe9")]
    async with serving(server):
        paths = {"path": "/ws/ä", "raw_path": b"/ws/%C3%A4"}
        client = WebSocketServer(server, headers=headers, subprotocols=["b", "a"], **paths)
        await until(lambda: bool(seen))
        other = WebSocketServer(server, headers=headers, client=None, path="/ws/ä")
        await until(lambda: len(seen) == 2)
        for each in (client, other):
            each.client_closes()
            await each.task
    assert client.events[0] == {"type": "websocket.accept", "subprotocol": "b", "headers": []}
    assert [request.target for request in seen] == ["/ws/%C3%A4?a=1", "/ws/%C3%A4?a=1"]
    assert [request.remote_address for request in seen] == [("198.51.100.7", 0), None]
    assert seen[0].headers["Cookie"] == "a=é"


async def test_handshakes_are_refused_before_they_are_accepted() -> None:
    server = accepting(
        allowed_origins=["https://example.com"],
        limits={"max_unauthenticated_per_address": 1, "exempt_networks": None},
    )
    async with serving(server):
        foreign = WebSocketServer(server, headers=[(b"origin", b"https://evil.test")])
        assert (await foreign.end())["type"] == "websocket.http.response.body"
        first = WebSocketServer(server)
        await until(lambda: len(server.connections) == 1)
        second, plain = WebSocketServer(server), WebSocketServer(server, extensions={})
        elsewhere = WebSocketServer(server, client=("192.0.2.2", 5))
        await elsewhere.log_in()
        assert (await plain.end())["type"] == "websocket.close", "it knows no answers with a status"
        await second.end()
        first.client_closes()
        await first.task
        third = WebSocketServer(server)
        await third.log_in("3")
    assert [client.events[0].get("status") for client in (foreign, second)] == [403, 503]
    assert 1 <= int(dict(second.events[0]["headers"])[b"retry-after"]) <= 10
    assert server.connection_limits.refused["max_unauthenticated_per_address"] == 2


async def test_handshakes_that_wait_for_the_start_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    server, may_start = accepting(limits={"max_handshakes": 2}), asyncio.Event()
    start = server.start

    async def start_later() -> None:
        await may_start.wait()
        await start()

    monkeypatch.setattr(server, "start", start_later)
    first, second, third = (WebSocketServer(server) for _ in range(3))
    await third.end()
    assert (third.events[0]["status"], server.connection_limits.refused) == (503, {"max_handshakes": 1})
    may_start.set()
    for client in (first, second):
        await client.log_in()
    assert (server.connection_limits.handshakes, server.connection_limits.begun) == (0, 2)
    await server.stop()
    for client in (first, second):
        await client.end()


async def test_a_server_that_is_starting_is_not_there_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    server, may_open = accepting(), asyncio.Event()
    open = server.backend.open

    async def open_later(*args: Any) -> None:
        await may_open.wait()
        await open(*args)

    monkeypatch.setattr(server.backend, "open", open_later)
    starting = asyncio.ensure_future(server.start())
    await until(lambda: server.is_running)
    early = WebSocketServer(server)
    await early.end()
    assert early.events[0]["status"] == 503
    may_open.set()
    await starting
    late = WebSocketServer(server)
    await late.log_in()
    await server.stop()
    await late.end()


async def test_a_limit_counts_those_that_are_being_accepted() -> None:
    server = accepting(limits={"max_connections": 1})
    async with serving(server):
        first, second = WebSocketServer(server), WebSocketServer(server)
        for client in (first, second):
            client.is_reading.clear()
        await until(lambda: server.connection_limits.handshakes == 2)
        for client in (first, second):
            client.is_reading.set()
        assert (await second.end())["code"] == CloseCode.TRY_AGAIN_LATER
        assert server.connection_limits.refused["max_connections"] == 1
        await first.log_in()
        first.client_closes()
        await first.task


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        *[("GET", "/ws/mesa.js", 200), ("HEAD", "/ws/mesa.mjs", 200), ("GET", "/ws/", 426)],
        *[("POST", "/ws/", 404), ("POST", "/ws/mesa.js", 404), ("GET", "/ws/mesa.js/x", 426)],
    ],
)
async def test_requests_get_the_client_for_browsers_or_are_told_what_is_here(
    method: str, path: str, status: int
) -> None:
    server, events = accepting(), list[Any]()

    async def send(event: Any) -> None:
        events.append(event)

    scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "headers": []}
    await server(dict(scope), asyncio.Queue[Any]().get, send)
    start, body = events
    headers = dict(start["headers"])
    assert start["status"] == status
    assert (len(body["body"]) == int(headers[b"content-length"])) is (method != "HEAD")
    if status == 426:
        assert (headers[b"upgrade"], b"WebSocket" in body["body"]) == (b"websocket", True)
    if status == 200:
        events.clear()
        scope["headers"] = [(b"If-None-Match", headers[b"etag"])]
        await server(dict(scope), asyncio.Queue[Any]().get, send)
        assert (events[0]["status"], events[1]["body"]) == (304, b"")


async def test_other_scopes_are_an_error() -> None:
    with pytest.raises(ValueError, match="got 'smtp'"):
        await accepting()({"type": "smtp"}, asyncio.Queue[Any]().get, asyncio.Queue[Any]().put)


# Sending.


async def test_what_is_written_arrives_in_order_and_writing_never_waits() -> None:
    server = accepting()
    async with serving(server):
        client = WebSocketServer(server)
        await client.log_in()
        client.is_reading.clear()
        for number in range(100):
            await server.send(Message(0, number, "N"), ["1"])
        await until(lambda: server.slow_readers.waiting > 0)
        assert client.messages == []
        client.is_reading.set()
        await until(lambda: len(client.messages) == 100)
        assert client.messages == list(range(100))
        await until(lambda: server.slow_readers.waiting == 0)
        client.client_closes()
        await client.task


async def test_a_client_that_reads_again_gets_all_that_waited() -> None:
    server = accepting(limits={"max_buffered": 1_000_000})
    async with serving(server):
        client = WebSocketServer(server)
        await client.log_in()
        (connection,) = server.connections
        client.is_reading.clear()
        for number in range(9):
            connection.send(Message(0, [number, "x" * 100_000], "N"))
        await until(lambda: connection.send_queue.is_congested)  # more than half of `max_buffered` waits
        client.is_reading.set()
        await until(lambda: len(client.messages) == 9)
        assert [number for number, _ in client.messages] == list(range(9))
        await until(lambda: not connection.send_queue.is_congested)
        client.client_closes()
        await client.task


async def test_a_client_that_never_reads_is_closed_and_its_memory_is_freed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asgi_socket, "CLOSE_TIMEOUT", 0.05)
    server = accepting(limits={"max_buffered": 1_000_000})
    codes: list[int] = []
    server.on_disconnection(lambda connection, code, reason: codes.append(code))
    async with serving(server):
        client = WebSocketServer(server)
        await client.log_in()
        client.is_reading.clear()
        for _ in range(11):
            await server.send(Message(0, "x" * 100_000, "N"), ["1"])
        await until(lambda: server.connections == ())
        assert 400_000 < server.slow_readers.waiting < 1_200_000
        async with asyncio.timeout(LIMIT):
            await client.task
        assert (server.slow_readers.waiting, server.slow_readers.closed["max_buffered"]) == (0, 1)
        assert client.kinds.count("close") == 0, "it could not be sent"
        await until(lambda: codes == [CloseCode.SLOW_READER])


async def test_what_is_written_in_one_turn_is_bounded_as_well() -> None:
    server = accepting(limits={"max_buffered": 1_000_000})
    async with serving(server):
        client = WebSocketServer(server)
        await client.log_in()
        (connection,) = server.connections
        with suppress(ConnectionClosed):
            for _ in range(12):  # more than has room, before the writer has had a turn
                connection.send(Message(0, "x" * 100_000))
        assert not connection.is_open
        assert (await client.end())["code"] == CloseCode.SLOW_READER


async def test_a_greeting_may_be_more_than_half_of_what_may_wait() -> None:
    server = accepting(limits={"max_buffered": 100})
    async with serving(server):
        client = WebSocketServer(server)
        await until(lambda: len(client.frames) == 1)
        client.client_closes()
        await client.task
        assert server.connections == ()


async def test_a_close_frame_follows_what_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi_socket, "CLOSE_TIMEOUT", 3600.0)
    server = accepting()
    async with serving(server):
        for code, expected in ((4321, 4321), (1005, 1000)):
            client = WebSocketServer(server)
            await client.log_in(str(code))
            (connection,) = server.connections
            connection.send(Message(0, "last"))
            connection.disconnect(code)
            connection.disconnect(4999)
            end = await client.end()
            assert (client.messages, end["type"], end["code"]) == (["last"], "websocket.close", expected)


async def test_what_may_be_dropped_is_dropped_only_for_a_client_that_does_not_read() -> None:
    server = accepting()
    async with serving(server):
        client = WebSocketServer(server)
        await client.log_in()
        for number in range(50):  # in one turn of the event loop
            await server.send(Message(0, number, "N"), ["1"], delivery="volatile")
        await until(lambda: len(client.messages) == 50)
        client.is_reading.clear()
        await server.send(Message(0, "kept"), ["1"])
        await asyncio.sleep(0.01)
        for number in range(3):
            await server.send(Message(0, number, "N"), ["1"], delivery="volatile")
            await server.send(Message(0, f"place {number}", "P"), ["1"], delivery=Latest("place"))
        await asyncio.sleep(0.01)  # later messages of a burst are written in the next turn
        client.is_reading.set()
        await until(lambda: len(client.messages) == 52)
        assert client.messages[50:] == ["kept", "place 2"]
        assert server.slow_readers.skipped == {"volatile": 3, "latest": 2}
        client.client_closes()
        await client.task


async def test_writers_begin_some_in_a_turn() -> None:
    server, count = accepting(limits={"max_unauthenticated_per_address": None}), 3 * WRITERS_AT_ONCE
    async with serving(server):
        clients = [WebSocketServer(server) for _ in range(count)]
        await until(lambda: all(client.frames for client in clients))
        await server.send(Message(0, 1, "N"))
        most = done = 0
        while done < count:
            await asyncio.sleep(0)
            now = sum(len(client.messages) for client in clients)
            most, done = max(most, now - done), now
        assert most <= WRITERS_AT_ONCE
        for client in clients:
            client.client_closes()
            await client.task


async def test_a_send_that_fails_ends_the_connection_with_the_code_that_is_received() -> None:
    server, ends = accepting(), list[tuple[int, str]]()
    server.on_disconnection(lambda connection, code, reason: ends.append((code, reason)))
    async with serving(server):
        client = WebSocketServer(server)
        await client.log_in()
        (connection,) = server.connections
        client.is_broken = True
        connection.send(Message(0, 1))
        await until(connection.send_queue.is_cut)
        client.client_closes(4567)
        await client.task
        await until(lambda: ends == [(4567, "bye")])


# Receiving.


async def test_a_client_is_received_only_as_fast_as_its_messages_are_handled() -> None:
    server, go, handled = accepting(limits={"max_queued": 4}), asyncio.Event(), list[int]()

    @server.on_message
    async def handle(message: Message, connection: Connection) -> None:
        await go.wait()
        handled.append(message.data)

    async with serving(server):
        client = WebSocketServer(server)
        await client.log_in()
        before = client.received
        for number in range(50):
            client.client_sends(0, number, "N")
        await asyncio.sleep(0.05)
        assert 4 <= client.received - before <= 6
        go.set()
        await until(lambda: len(handled) == 50)
        assert handled == list(range(50))
        client.client_closes()
        await client.task


async def test_others_have_their_turn_while_a_client_floods() -> None:
    server = accepting()
    async with serving(server):
        client = WebSocketServer(server)
        await client.log_in()
        for _ in range(10 * MESSAGES_AT_ONCE):
            client.client_sends(11, {})
        most, before = 0, client.received
        while client.incoming.qsize():
            await asyncio.sleep(0)
            most, before = max(most, client.received - before), client.received
        assert 0 < most <= MESSAGES_AT_ONCE
        client.client_closes()
        await client.task


async def test_bytes_are_read_as_text_and_what_is_too_big_closes_1009() -> None:
    server = accepting(limits={"max_message": 1000})
    async with serving(server):
        client = WebSocketServer(server)
        client.incoming.put_nowait({"type": "websocket.receive", "bytes": b'{"op":2,"d":{"id":"7"}}'})
        await until(lambda: any(frame["op"] == 22 for frame in client.frames))
        client.client_sends(0, "ä" * 1000)
        assert (await client.end())["code"] == 1009


@pytest.mark.parametrize("nothing", [{}, {"text": None}, {"text": None, "bytes": None}])
async def test_an_event_without_a_message_is_an_error_of_the_protocol(nothing: dict[str, Any]) -> None:
    server = accepting()
    async with serving(server):
        client = WebSocketServer(server)
        await client.log_in()
        client.incoming.put_nowait({"type": "websocket.receive", **nothing})
        assert (await client.end())["code"] == CloseCode.PROTOCOL_ERROR


async def test_a_bug_ends_one_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = accepting()
    async with serving(server):
        client = WebSocketServer(server)
        await client.log_in()
        monkeypatch.setattr(Connection, "receive", lambda *_: 1 / 0)
        client.client_sends(0)
        assert (await client.end())["code"] == CloseCode.INTERNAL_ERROR
        assert "ZeroDivisionError" in caplog.text


async def test_silence_is_asked_about_with_op_1() -> None:
    server = accepting(keepalive={"interval": 0.05, "timeout": 0.05})
    async with serving(server):
        client = WebSocketServer(server)
        await client.log_in()
        await until(lambda: any(frame["op"] == 1 for frame in client.frames))
        client.client_sends(11, {})
        await until(lambda: sum(frame["op"] == 1 for frame in client.frames) == 2)
        assert (await client.end())["code"] == CloseCode.NO_KEEPALIVE


async def test_a_connection_that_has_ended_is_freed_at_once() -> None:
    server = accepting()
    async with serving(server):
        for is_slow in (False, True):
            client = WebSocketServer(server)
            await client.log_in()
            freed = [weakref.ref(each) for each in server.connections]
            if is_slow:
                client.is_reading.clear()
                await server.send(Message(0, "x" * 1000), ["1"])
            gc.collect()
            gc.disable()
            try:
                client.client_closes()
                await client.task
                await until(lambda: [each() for each in freed] == [None])  # noqa: B023 - it is called at once
            finally:
                gc.enable()
            await until(
                lambda: not any(task.get_name() == "mesa-asgi-writer" for task in asyncio.all_tasks())
            )


async def test_two_may_wait_for_the_end_of_all_connections() -> None:
    server = accepting()
    lifespan = Lifespan(server)
    await lifespan.ask("startup")
    client = WebSocketServer(server)
    await client.log_in()
    client.is_reading.clear()
    waiting = [asyncio.ensure_future(server.__aexit__(None, None, None)) for _ in range(2)]
    await until(lambda: server.connections == ())
    assert not any(each.done() for each in waiting)
    client.is_reading.set()
    async with asyncio.timeout(LIMIT):
        await asyncio.gather(*waiting, client.task)
    lifespan.task.cancel()
