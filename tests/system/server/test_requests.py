"""Requests of clients that handlers answer, and requests to clients; the client is any program."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest

from mesa_ws.errors import (
    BackendUnavailable,
    ConnectionClosed,
    InvalidMessage,
    InvalidRecipients,
    InvalidSettings,
    MesaError,
    NotConnected,
    Refused,
    RequestError,
    RequestFailed,
    TimedOut,
    TooManyRequests,
    Unanswered,
    Unsupported,
)
from mesa_ws.messages.message import Message
from mesa_ws.server.connection import Connection
from mesa_ws.server.middleware import Middleware
from mesa_ws.transports.run import Server, serve

from .conftest import Joining, Serving, accepting
from .peer import LIMIT, Peer

PING = Message(0, {"n": 1}, "PING")


async def ask(peer: Peer, type: str = "PING", data: Any = None, id: str = "1") -> dict[str, Any]:
    """Send a request, and return the frame that answers it."""
    await peer.raw(json.dumps({"op": 0, "d": data, "t": type, "x": {"r": id}}))
    while True:
        frame = await peer.receive()
        if frame.get("x", {}).get("a") == id:
            return frame


async def asked(peer: Peer) -> dict[str, Any]:
    """Wait for a request, and return its frame."""
    while True:
        frame = await peer.receive()
        if "r" in frame.get("x", {}):
            return frame


async def reply(peer: Peer, frame: dict[str, Any], data: Any = None, **members: Any) -> None:
    """Answer a request."""
    x = {"a": frame["x"]["r"]} | members
    await peer.raw(json.dumps({"op": 0, "d": data, "t": "ANSWER", "x": x}))


async def wire2(join: Joining, endpoint: Any, id: str) -> Peer:
    peer = await join(endpoint)
    await peer.log_in(id, wire=2)
    return peer


# Requests of clients.


async def test_what_a_handler_returns_is_the_answer(serving: Serving, join: Joining) -> None:
    server = Server()
    server.on_message("SUM")(lambda message, connection: Message(99, sum(message.data), "TOTAL"))
    peer = await join(await serving(server))
    assert await ask(peer, "SUM", [1, 2], id="a-1") == {"op": 99, "d": 3, "t": "TOTAL", "x": {"a": "a-1"}}


async def test_data_becomes_a_message_of_the_type_of_the_request(serving: Serving, join: Joining) -> None:
    server = Server()

    @server.on_message
    async def answer(message: Message, connection: Connection) -> Any:
        return [message.data]

    peer = await join(await serving(server))
    assert await ask(peer, "ECHO", "x") == {"op": 0, "d": ["x"], "t": "ECHO", "x": {"a": "1"}}


async def test_the_first_handler_that_returns_something_answers(serving: Serving, join: Joining) -> None:
    server = Server()
    server.on_message(lambda message, connection: None)
    server.on_message(lambda message, connection: "second")
    server.on_message(lambda message, connection: "third")
    peer = await join(await serving(server))
    assert (await ask(peer))["d"] == "second"


@pytest.mark.parametrize("registers", [True, False])
async def test_a_request_that_no_handler_answers_gets_an_error_at_once(
    registers: bool, serving: Serving, join: Joining
) -> None:
    server = Server()
    if registers:
        server.on_message(lambda message, connection: None)
    peer = await join(await serving(server))
    assert (await ask(peer))["x"]["error"]["code"] == "unanswered"


async def test_what_a_handler_raises_is_not_told_but_reported(serving: Serving, join: Joining) -> None:
    server, reported = Server(), []
    server.on_error(lambda error, connection: reported.append(error))

    @server.on_message
    async def answer(message: Message, connection: Connection) -> None:
        raise ValueError("a secret")

    peer = await join(await serving(server))
    assert (await ask(peer))["x"]["error"] == {"code": "failed", "message": "the handler failed"}
    assert [str(error) for error in reported] == ["a secret"]


async def test_a_deliberate_error_is_told(serving: Serving, join: Joining) -> None:
    server = Server()

    @server.on_message
    def answer(message: Message, connection: Connection) -> None:
        raise RequestError("no such room", code="no_room")

    peer = await join(await serving(server))
    assert (await ask(peer))["x"]["error"] == {"code": "no_room", "message": "no such room"}


@pytest.mark.parametrize("answer", [object(), {(1, 2): 3}, {1: "a", "1": "b"}])
async def test_an_answer_that_json_cannot_hold_is_a_failure(
    serving: Serving, join: Joining, answer: object
) -> None:
    server = Server()
    server.on_message(lambda message, connection: answer)
    peer = await join(await serving(server))
    assert (await ask(peer))["x"]["error"]["code"] == "failed"


async def test_a_request_keeps_its_place_among_messages(serving: Serving, join: Joining) -> None:
    server, order = Server(), []

    @server.on_message
    async def handle(message: Message, connection: Connection) -> Any:
        order.append(message.data)
        return order[:]

    peer = await join(await serving(server))
    await peer.send("ORDER", 1)
    assert (await ask(peer, "ORDER", 2))["d"] == [1, 2]


@pytest.mark.parametrize("extension", [{"r": ""}, {"r": "no spaces"}, {"r": 1}, {"r": "x" * 65}, 1, None])
async def test_what_names_no_request_is_a_message(extension: Any, serving: Serving, join: Joining) -> None:
    server = Server()
    server.on_message("PING")(lambda message, connection: connection.send(Message(0, None, "PONG")))
    peer = await join(await serving(server))
    await peer.raw(json.dumps({"op": 0, "d": 1, "t": "PING", "x": extension}))
    assert "x" not in await peer.until(t="PONG")


async def test_an_answer_to_nothing_is_no_message(serving: Serving, join: Joining) -> None:
    server, received = Server(), []
    server.on_message(lambda message, connection: received.append(message.data))
    peer = await join(await serving(server))
    for x in ({"a": "unknown"}, {"a": 1}, {"a": "unknown", "error": 7}, {"a": "1", "r": "1"}):
        await peer.raw(json.dumps({"op": 0, "d": "answer", "x": x}))
    await ask(peer, data="request")
    assert received == ["request"]


# Requests to clients.


async def test_a_client_is_asked_and_answers(serving: Serving, join: Joining) -> None:
    server = accepting()
    peer = await wire2(join, await serving(server), "0")
    waiting = asyncio.create_task(server.request("0", PING))
    frame = await asked(peer)
    assert (frame["op"], frame["d"], frame["t"]) == (0, {"n": 1}, "PING")
    await reply(peer, frame, "pong")
    answer = await waiting
    assert (answer.opcode, answer.data, answer.type) == (0, "pong", "ANSWER")


async def test_an_id_that_is_away_is_an_error_at_once(serving: Serving) -> None:
    server = accepting()
    await serving(server)
    with pytest.raises(NotConnected, match="'0'"):
        await server.request("0", PING)


async def test_a_client_of_wire_1_cannot_be_asked(serving: Serving, join: Joining) -> None:
    server = accepting()
    peer = await join(await serving(server), "0")
    with pytest.raises(Unsupported, match="wire 2"):
        await server.request("0", PING)
    await server.send(Message(0, None, "LAST"))
    assert (await peer.receive())["t"] == "LAST"


async def test_a_client_that_does_not_answer_is_not_waited_for(serving: Serving, join: Joining) -> None:
    server = accepting()
    peer = await wire2(join, await serving(server), "0")
    with pytest.raises(TimedOut):
        await server.request("0", PING, timeout=0.05)
    frame = await asked(peer)
    await reply(peer, frame, "too late")
    waiting = asyncio.create_task(server.request("0", PING))
    await reply(peer, await asked(peer), "in time")
    assert (await waiting).data == "in time"


async def test_a_client_that_leaves_does_not_answer(serving: Serving, join: Joining) -> None:
    server = accepting()
    peer = await wire2(join, await serving(server), "0")
    waiting = asyncio.create_task(server.request("0", PING))
    await asked(peer)
    await peer.socket.close()
    with pytest.raises(ConnectionClosed):
        await waiting


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        ({"code": "no_room", "message": "why"}, RequestFailed, "no_room"),
        ({"code": "failed"}, RequestFailed, "failed"),
        ({"code": "gone"}, RequestFailed, "failed"),
        ("nonsense", RequestFailed, "failed"),
        ({"code": "unanswered"}, Unanswered, "unanswered"),
    ],
)
async def test_an_error_is_raised_where_it_is_waited_for(
    error: Any, kind: type[RequestFailed], code: str, serving: Serving, join: Joining
) -> None:
    server = accepting()
    peer = await wire2(join, await serving(server), "0")
    waiting = asyncio.create_task(server.request("0", PING))
    await reply(peer, await asked(peer), error=error)
    with pytest.raises(kind) as raised:
        await waiting
    assert raised.value.code == code


async def test_an_answer_that_cannot_be_passed_on_is_a_failure(serving: Serving, join: Joining) -> None:
    server = accepting()
    peer = await wire2(join, await serving(server), "0")
    waiting = asyncio.create_task(server.request("0", PING))
    frame, deep = await asked(peer), list[Any]()
    for _ in range(100_000):
        deep = [deep]
    [connection] = server.connections
    connection.pending_requests.answered(frame["x"]["r"], Message(0, deep))
    with pytest.raises(RequestFailed) as raised:
        await waiting
    assert raised.value.code == "failed"


async def test_an_id_that_leaves_while_it_is_asked_is_an_error_at_once(
    serving: Serving, join: Joining, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = accepting()
    await wire2(join, await serving(server), "0")
    monkeypatch.setattr(server.fanout, "by_id", {})  # the cluster has not heard of it
    with pytest.raises(NotConnected, match="just left"):
        await server.request("0", PING)


async def test_the_first_answer_of_several_connections_counts(serving: Serving, join: Joining) -> None:
    server = accepting()
    endpoint = await serving(server)
    silent, mute, able = [await wire2(join, endpoint, "0") for _ in range(3)]
    await join(endpoint, "0")  # of wire 1
    waiting = asyncio.create_task(server.request("0", PING))
    await asked(silent)
    await reply(mute, await asked(mute), error={"code": "unanswered"})
    await reply(able, await asked(able), "able")
    assert (await waiting).data == "able"


async def test_when_no_connection_answers_the_most_telling_error_is_raised(
    serving: Serving, join: Joining
) -> None:
    server = accepting()
    endpoint = await serving(server)
    leaving, mute = [await wire2(join, endpoint, "0") for _ in range(2)]
    waiting = asyncio.create_task(server.request("0", PING))
    frame = await asked(mute)
    await asked(leaving)
    await leaving.socket.close()
    await reply(mute, frame, error={"code": "unanswered"})
    with pytest.raises(Unanswered):
        await waiting


async def test_a_handler_may_wait_for_an_answer_of_its_own_client(serving: Serving, join: Joining) -> None:
    server = accepting(limits={"max_queued": 2})

    @server.on_message("ASK ME")
    async def handle(message: Message, connection: Connection) -> Any:
        answer = await server.request("0", PING)
        return ["you said", answer.data]

    peer = await wire2(join, await serving(server), "0")
    await peer.raw(json.dumps({"op": 0, "t": "ASK ME", "x": {"r": "1"}}))
    frame = await asked(peer)
    for _ in range(12):  # more than may wait: the answer is behind them, and is read all the same
        await peer.send("NOISE", "x" * 200_000)
    await reply(peer, frame, "yes")
    assert (await peer.until(x={"a": "1"}))["d"] == ["you said", "yes"]


async def test_a_client_that_talks_without_end_is_not_read_for_its_answer(
    serving: Serving, join: Joining
) -> None:
    server, noise = accepting(limits={"max_queued": 2}), []
    is_over: asyncio.Future[type[BaseException]] = asyncio.get_running_loop().create_future()

    @server.on_message("ASK ME")
    async def handle(message: Message, connection: Connection) -> None:
        try:
            await server.request("0", PING, timeout=0.5)
        except MesaError as error:
            is_over.set_result(type(error))

    server.on_message("NOISE")(lambda message, connection: noise.append(1))
    peer = await wire2(join, await serving(server), "0")
    await peer.send("ASK ME")
    frame = await asked(peer)
    for _ in range(100):
        await peer.send("NOISE")
    await reply(peer, frame, "too far behind")
    async with asyncio.timeout(LIMIT):
        assert await is_over is TimedOut


async def test_a_client_has_only_so_many_requests_to_answer(serving: Serving, join: Joining) -> None:
    server = accepting(limits={"max_requests": 2})
    peer = await wire2(join, await serving(server), "0")
    waiting = [asyncio.create_task(server.request("0", PING)) for _ in range(2)]
    frames = [await asked(peer) for _ in waiting]
    with pytest.raises(TooManyRequests):
        await server.request("0", PING)
    for frame in frames:
        await reply(peer, frame, "done")
    assert [answer.data for answer in await asyncio.gather(*waiting)] == ["done", "done"]


async def test_a_call_that_is_given_up_leaves_nothing(serving: Serving, join: Joining) -> None:
    server = accepting()
    peer = await wire2(join, await serving(server), "0")
    waiting = asyncio.create_task(server.request("0", PING, timeout=1))
    frame = await asked(peer)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    [connection] = server.connections
    async with asyncio.timeout(LIMIT):
        while len(connection.pending_requests):
            await asyncio.sleep(0.01)
    await reply(peer, frame, "no reader")
    with pytest.raises(TimedOut):
        await server.request("0", PING, timeout=0.05)


@pytest.mark.parametrize(
    ("id", "message", "timeout", "error"),
    [
        ("*", PING, 1, InvalidRecipients),
        (1, PING, 1, InvalidRecipients),
        ("0", {"t": "PING"}, 1, InvalidMessage),
        ("0", Message(2), 1, InvalidMessage),
        ("0", PING, 0, InvalidSettings),
        ("0", PING, "1", InvalidSettings),
        ("0", PING, True, InvalidSettings),
    ],
)
async def test_what_cannot_be_asked_is_refused(
    id: Any, message: Any, timeout: Any, error: type[Exception], serving: Serving
) -> None:
    server = accepting()
    await serving(server)
    with pytest.raises(error):
        await server.request(id, message, timeout)


async def test_a_server_that_stops_lets_requests_fail(join: Joining) -> None:
    server = accepting()
    async with AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(serve(server))
        peer = await wire2(join, endpoint, "0")
        waiting = asyncio.create_task(server.request("0", PING))
        await asked(peer)
    with pytest.raises((ConnectionClosed, BackendUnavailable)):
        await waiting


# What middleware sees of them, refuses and changes.


class Censor(Middleware):
    """Has its way with what clients send, and with what the server sends."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, str | None]] = []
        self.told: list[tuple[Any, list[str | None], bool]] = []

    async def before_message(self, message: Message, connection: Connection) -> Message | None:
        return self._ruled(message)

    def before_send(self, message: Message, connection: Connection | None) -> Message | None:
        self.sent.append((message.data, connection.id if connection is not None else None))
        return self._ruled(message)

    def on_message_sent(
        self, message: Message, connections: Sequence[Connection], from_this_node: bool
    ) -> None:
        self.told.append((message.data, [each.id for each in connections], from_this_node))

    def _ruled(self, message: Message) -> Message | None:
        match message.data:
            case "kept":
                return None
            case "refused":
                raise Refused("no such thing")
            case "rationed":
                raise RequestError("one a day", "rationed")
            case "broken":
                raise ValueError("secret")
        return Message(message.opcode, f"{message.data}!", message.type)


RULINGS = [
    ("kept", {"code": "unanswered", "message": "a middleware dropped the request"}),
    ("refused", {"code": "refused", "message": "no such thing"}),
    ("rationed", {"code": "rationed", "message": "one a day"}),
    ("broken", {"code": "failed", "message": "the handler failed"}),
]


@pytest.mark.parametrize(("data", "told"), RULINGS)
async def test_what_is_refused_before_it_is_handled_fails_at_once(
    serving: Serving, join: Joining, data: str, told: Any
) -> None:
    server, handled, errors = accepting(), list[Message](), list[str]()
    server.use(Censor)
    server.on_message(lambda message, connection: handled.append(message))
    server.on_error(lambda error, connection: errors.append(str(error)))
    peer = await join(await serving(server))
    assert (await ask(peer, data=data))["x"]["error"] == told
    assert (handled, errors) == ([], ["secret"] if data == "broken" else [])


@pytest.mark.parametrize(("data", "told"), RULINGS)
async def test_an_answer_that_may_not_be_sent_is_an_error(
    serving: Serving, join: Joining, data: str, told: Any
) -> None:
    server, errors = accepting(), list[str]()
    server.use(Censor)
    server.on_message(lambda message, connection: data)
    server.on_error(lambda error, connection: errors.append(str(error)))
    peer = await join(await serving(server))
    assert (await ask(peer, data="anything"))["x"]["error"] == told
    assert errors == (["secret"] if data == "broken" else [])


async def test_an_answer_passes_what_sees_all_that_is_sent(serving: Serving, join: Joining) -> None:
    server = accepting()
    censor = server.use(Censor)
    server.on_message(lambda message, connection: f"about {message.data}")
    peer = await join(await serving(server), "1")
    censor.told.clear()
    assert (await ask(peer, data="tea"))["d"] == "about tea!!"
    assert censor.sent == [("about tea!", "1")]
    assert censor.told == [("about tea!!", ["1"], True)]


async def test_a_request_is_told_as_received_when_it_was_handled(serving: Serving, join: Joining) -> None:
    server, told = accepting(), list[str]()

    class Received(Middleware):
        async def on_message_received(self, message: Message, connection: Connection) -> None:
            told.append(f"received {message.data}")

    server.use(Received)
    server.on_message(lambda message, connection: told.append("handled"))
    peer = await join(await serving(server))
    for n in (1, 2):
        await ask(peer, data=n)
    assert told[:3] == ["handled", "received 1", "handled"]


async def test_a_request_to_a_client_passes_it_too(serving: Serving, join: Joining) -> None:
    server = accepting()
    censor = server.use(Censor)
    peer = await wire2(join, await serving(server), "0")
    waiting = asyncio.create_task(server.request("0", Message(0, "who", "WHO")))
    frame = await asked(peer)
    assert frame["d"] == "who!"
    await reply(peer, frame, "me")
    assert (await waiting).data == "me"
    assert censor.sent == [("who", None)]
    assert censor.told == [("who!", ["0"], True)]
    with pytest.raises(Unanswered, match="a middleware dropped the request"):
        await server.request("0", Message(0, "kept"))
    with pytest.raises(Refused, match="no such thing"):
        await server.request("0", Message(0, "refused"))
