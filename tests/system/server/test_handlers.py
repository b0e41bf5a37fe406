"""The application's handlers: what they get, in which order, and what happens when they raise."""

import asyncio
import logging
import threading
from contextvars import ContextVar

import pytest

from mesa_ws.errors import ConnectionClosed, InvalidInput, InvalidMessage, InvalidSettings, NotAuthenticated
from mesa_ws.messages.message import Message
from mesa_ws.messages.recipients import User
from mesa_ws.server.connection import Connection
from mesa_ws.transports.run import Server

from .conftest import Joining, Serving, accepting


async def test_a_connections_life_is_told_in_order(serving: Serving, join: Joining) -> None:
    server = accepting()
    told: asyncio.Queue[tuple[str, object]] = asyncio.Queue()

    @server.on_connection
    async def opened(connection: Connection) -> None:
        told.put_nowait(("connection", connection.id))

    @server.on_authentication
    async def authenticated(connection: Connection) -> None:
        told.put_nowait(("authentication", connection.id))

    @server.on_message
    async def received(message: Message, connection: Connection) -> None:
        told.put_nowait(("message", message))

    @server.on_disconnection
    async def ended(connection: Connection, code: int, reason: str) -> None:
        told.put_nowait(("disconnection", (connection.id, code, reason)))

    peer = await join(await serving(server), "1")
    await peer.send("HI", {"n": 1})
    await peer.socket.close(4000, "bye")
    assert [await told.get() for _ in range(4)] == [
        ("connection", None),
        ("authentication", "1"),
        ("message", Message(0, {"n": 1}, "HI")),
        ("disconnection", ("1", 4000, "bye")),
    ]


@pytest.mark.native("a cut")
async def test_a_cut_connection_is_told_as_1006(serving: Serving, join: Joining) -> None:
    server = accepting()
    codes: asyncio.Queue[int] = asyncio.Queue()

    @server.on_disconnection
    async def ended(connection: Connection, code: int, reason: str) -> None:
        codes.put_nowait(code)

    peer = await join(await serving(server))
    await peer.receive()
    peer.socket.transport.abort()
    assert await codes.get() == 1006


async def test_handlers_are_chosen_by_type(serving: Serving, join: Joining) -> None:
    server = accepting()
    seen: list[str] = []

    @server.on_message
    async def every(message: Message, connection: Connection) -> None:
        seen.append("every")

    @server.on_message("A")
    async def of_a(message: Message, connection: Connection) -> None:
        seen.append("A")

    @server.on_message("PING")
    async def of_ping(message: Message, connection: Connection) -> None:
        connection.send(Message(0, list(seen), "PONG"))

    peer = await join(await serving(server))
    await peer.send("A")
    await peer.send("B")
    await peer.send("PING")
    assert (await peer.until(t="PONG"))["d"] == ["every", "A", "every", "every"]


async def test_messages_of_one_connection_wait_for_each_other(serving: Serving, join: Joining) -> None:
    server = accepting()
    order: list[object] = []

    @server.on_message("SLOW")
    async def slow(message: Message, connection: Connection) -> None:
        await asyncio.sleep(0.02)
        order.append(message.data)

    @server.on_message("QUICK")
    async def quick(message: Message, connection: Connection) -> None:
        connection.send(Message(0, [*order, message.data]))

    peer = await join(await serving(server))
    await peer.send("SLOW", 1)
    await peer.send("SLOW", 2)
    await peer.send("QUICK", 3)
    assert (await peer.until(op=0))["d"] == [1, 2, 3]


async def test_another_connection_does_not_wait(serving: Serving, join: Joining) -> None:
    server = accepting()
    gate = asyncio.Event()

    @server.on_message("WAIT")
    async def wait(message: Message, connection: Connection) -> None:
        await gate.wait()
        connection.send(Message(0, None, "DONE"))

    @server.on_message("OPEN")
    async def open_gate(message: Message, connection: Connection) -> None:
        gate.set()

    endpoint = await serving(server)
    waiting, other = await join(endpoint), await join(endpoint)
    await waiting.send("WAIT")
    await other.send("OPEN")
    assert await waiting.until(t="DONE")


async def test_plain_functions_run_in_threads_with_the_callers_context(
    serving: Serving, join: Joining
) -> None:
    server = accepting()
    request_id: ContextVar[str] = ContextVar("request_id", default="none")
    request_id.set("outer")

    @server.on_message("WHERE")
    def where(message: Message, connection: Connection) -> None:
        here = threading.current_thread().name
        connection.send(Message(0, [here.startswith("mesa-handler"), request_id.get()]))

    peer = await join(await serving(server))
    await peer.send("WHERE")
    assert (await peer.until(op=0))["d"] == [True, "outer"]


async def test_sends_from_a_thread_keep_their_order(serving: Serving, join: Joining) -> None:
    server = accepting()

    @server.on_message("COUNT")
    def count(message: Message, connection: Connection) -> None:
        for n in range(100):
            connection.send(Message(0, n))

    peer = await join(await serving(server))
    await peer.send("COUNT")
    assert [(await peer.until(op=0))["d"] for _ in range(100)] == list(range(100))


async def test_an_object_with_an_async_call_is_a_handler(serving: Serving, join: Joining) -> None:
    class Answering:
        async def __call__(self, message: Message, connection: Connection) -> None:
            connection.send(Message(0, "answer"))

    server = accepting()
    server.on_message(Answering())
    peer = await join(await serving(server))
    await peer.send("X")
    assert (await peer.until(op=0))["d"] == "answer"


async def test_a_handler_that_raises_is_reported_and_harms_nobody(
    serving: Serving, join: Joining, caplog: pytest.LogCaptureFixture
) -> None:
    server = accepting()
    reported: list[tuple[str, str | None]] = []

    @server.on_message("BOOM")
    async def boom(message: Message, connection: Connection) -> None:
        raise ValueError("boom")

    @server.on_error
    async def report(error: BaseException, connection: Connection) -> None:
        reported.append((str(error), connection.id))
        raise RuntimeError("the reporter is broken too")

    @server.on_message("PING")
    async def pong(message: Message, connection: Connection) -> None:
        connection.send(Message(0, {}, "PONG"))

    endpoint = await serving(server)
    peer, neighbour = await join(endpoint, "1"), await join(endpoint, "2")
    with caplog.at_level(logging.ERROR, "mesa_ws.server"):
        await peer.send("BOOM")
        assert await peer.received("X") == []
    assert await neighbour.received("X") == []
    assert reported == [("boom", "1")]
    assert [record.message.split()[-1] for record in caplog.records] == ["raised", "raised"]


async def test_a_reply_to_a_client_that_left_is_no_error(
    serving: Serving, join: Joining, caplog: pytest.LogCaptureFixture
) -> None:
    server = accepting()
    gone = asyncio.Event()
    failed: list[BaseException] = []

    @server.on_message("LATE")
    async def late(message: Message, connection: Connection) -> None:
        while connection.is_open:
            await asyncio.sleep(0)
        gone.set()
        connection.send(Message(0, "too late"))

    @server.on_error
    async def report(error: BaseException, connection: Connection) -> None:
        failed.append(error)

    endpoint = await serving(server)
    peer = await join(endpoint)
    await peer.send("LATE")
    await peer.socket.close()
    await gone.wait()
    assert failed == []


async def test_only_one_authenticator_can_be_registered() -> None:
    server = accepting()
    with pytest.raises(InvalidSettings, match="authenticator: expected one function"):
        server.authenticator(lambda data, connection: None)


async def test_on_message_wants_a_function_or_a_type() -> None:
    with pytest.raises(InvalidSettings, match="on_message: expected a function or a message type"):
        Server().on_message(5)  # type: ignore[call-overload]


async def connected(server: Server, serving: Serving, join: Joining, id: str | None = "1") -> Connection:
    await join(await serving(server), id)
    while not server.connections:
        await asyncio.sleep(0)
    [connection] = server.connections
    return connection


async def test_the_request_is_there_to_read(serving: Serving, join: Joining) -> None:
    server = accepting()
    endpoint = await serving(server)
    endpoint = endpoint._replace(url=endpoint.url + "chat?token=a%20b&x=")
    await join(endpoint, additional_headers={"X-Device": "phone"})
    [connection] = server.connections
    request = connection.request
    assert (request.path, request.query) == ("/chat", {"token": "a b", "x": ""})
    assert request.headers["x-device"] == "phone"
    assert request.remote_address is not None
    assert request.remote_address[0] == "127.0.0.1"
    assert "a%20b" not in repr(request)


async def test_a_connection_keeps_the_applications_values(serving: Serving, join: Joining) -> None:
    connection = await connected(accepting(), serving, join)
    connection.state.room = "kitchen"
    assert connection.state.room == "kitchen"


async def test_a_connection_says_who_and_where_in_its_repr(serving: Serving, join: Joining) -> None:
    connection = await connected(accepting(), serving, join)
    assert repr(connection) == "<Connection id='1' from 127.0.0.1>"


async def test_a_connection_says_who_it_is_as_soon_as_it_is_somebody(serving: Serving, join: Joining) -> None:
    server = Server()

    @server.authenticator
    async def authenticate(data: dict[str, str], connection: Connection) -> User:
        assert (connection.id, connection.user, connection.is_authenticated) == (None, None, False)
        return User(data["id"], {"name": "Anna"})

    connection = await connected(server, serving, join)
    assert (connection.id, connection.is_authenticated) == ("1", True)
    assert connection.user == User("1", {"name": "Anna"})


async def test_messages_are_stored_where_the_rules_say_so(serving: Serving, join: Joining) -> None:
    server = accepting(rules={"store_messages": True})
    connection = await connected(server, serving, join)
    connection.send(Message(0, 1, "OUT"))
    assert connection.messages is not None
    assert connection.messages.sent == [Message(0, 1, "OUT")]
    assert connection.messages.received == []


async def test_messages_of_both_directions_are_stored_up_to_a_bound(serving: Serving, join: Joining) -> None:
    server = accepting(rules={"store_messages": True})

    @server.on_message
    async def echo(message: Message, connection: Connection) -> None:
        connection.send(Message(0, message.data, "PONG" if message.type == "PING" else "N"))

    peer = await join(await serving(server), "1")
    for n in range(150):
        await peer.send("N", n)
    assert await peer.received("N") == [*range(150)]
    [connection] = server.connections
    assert connection.messages is not None
    for kept in (connection.messages.received, connection.messages.sent):
        assert [message.data for message in kept][:-1] == [*range(51, 150)]


async def test_nothing_is_stored_otherwise(serving: Serving, join: Joining) -> None:
    connection = await connected(accepting(), serving, join)
    assert connection.messages is None


async def test_update_user_moves_the_connection_to_another_id(serving: Serving, join: Joining) -> None:
    server = accepting()
    peer = await join(await serving(server), "1")
    [connection] = server.connections
    connection.update_user(User("2", {"id": "2", "name": "Two"}))
    assert connection.id == "2"
    while not (await server.presence.online(["2"]))["2"]:
        await asyncio.sleep(0)
    assert await server.presence.online(["1"]) == {"1": 0}
    await server.send(Message(0, "to two"), ["2"])
    assert (await peer.until(op=0))["d"] == "to two"


async def test_update_user_needs_an_authenticated_connection(serving: Serving, join: Joining) -> None:
    connection = await connected(accepting(), serving, join, id=None)
    with pytest.raises(NotAuthenticated, match="the client has no user yet"):
        connection.update_user(User("1"))


async def test_sending_to_an_ended_connection_raises(serving: Serving, join: Joining) -> None:
    connection = await connected(accepting(), serving, join)
    connection.disconnect(4100, "enough")
    with pytest.raises(ConnectionClosed, match=r"close code 4100: enough"):
        connection.send(Message())


async def test_what_cannot_be_sent_is_refused(serving: Serving, join: Joining) -> None:
    connection = await connected(accepting(), serving, join)
    with pytest.raises(InvalidMessage, match="opcode: expected one that the protocol does not use, got 22"):
        connection.send(Message(22))


@pytest.mark.parametrize(
    ("code", "reason"), [(1006, ""), (999, ""), (5000, ""), (1004, ""), (1000, "x" * 124)]
)
async def test_a_close_that_rfc_6455_does_not_allow_is_refused(
    serving: Serving, join: Joining, code: int, reason: str
) -> None:
    connection = await connected(accepting(), serving, join)
    with pytest.raises(InvalidInput, match="expected"):
        connection.disconnect(code, reason)


@pytest.mark.native("an empty close frame")
async def test_disconnect_without_a_code_sends_an_empty_close_frame(serving: Serving, join: Joining) -> None:
    server = accepting()
    peer = await join(await serving(server), "1")
    server.connections[0].disconnect()
    assert await peer.closed() == 1005


async def test_disconnect_sends_code_and_reason(serving: Serving, join: Joining) -> None:
    server = accepting()
    peer = await join(await serving(server), "1")
    server.connections[0].disconnect(4321, "enough")
    assert await peer.closed() == 4321
    assert peer.socket.close_reason == "enough"
