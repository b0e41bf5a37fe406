"""Requests of our client and to it: the server is ours, or does what the test says."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from mesa_ws.client import Client, ClientLimits
from mesa_ws.errors import (
    ConnectionClosed,
    InvalidMessage,
    InvalidSettings,
    MesaError,
    Reject,
    RequestError,
    RequestFailed,
    TimedOut,
    TooManyRequests,
    Unanswered,
    Unsupported,
)
from mesa_ws.messages.message import Message
from mesa_ws.messages.recipients import User
from mesa_ws.server.connection import Connection
from mesa_ws.transports.run import Endpoint, Server, serve
from tests.system.waiting import until

from .conftest import meet
from .scripted import LIMIT, ScriptedServer, Visitor

PING = Message(0, {"n": 1}, "PING")


async def join(stack: AsyncExitStack, endpoint: Endpoint, id: str | None = "0", **options: Any) -> Client:
    client = await stack.enter_async_context(Client(endpoint.url, **options))
    if id is not None:
        await client.authenticate({"id": id})
    return client


@pytest.fixture
async def quiet() -> Server:
    """A server that believes who clients say they are, and has no message handlers yet."""
    server = Server()

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        return User(data["id"])

    return server


# Asking the server.


@pytest.mark.parametrize("id", ["0", None])
async def test_the_server_answers(quiet: Server, stack: AsyncExitStack, id: str | None) -> None:
    quiet.on_message("DOUBLE")(lambda message, connection: message.data * 2)
    client = await join(stack, await stack.enter_async_context(serve(quiet)), id)
    assert await client.request(Message(0, 21, "DOUBLE")) == Message(0, 42, "DOUBLE")


async def test_each_answer_finds_its_request(quiet: Server, stack: AsyncExitStack) -> None:
    quiet.on_message(lambda message, connection: message.data)
    client = await join(stack, await stack.enter_async_context(serve(quiet)))
    answers = await asyncio.gather(*(client.request(Message(0, n)) for n in range(20)))
    assert [answer.data for answer in answers] == list(range(20))


async def test_a_deliberate_error_is_raised_here(quiet: Server, stack: AsyncExitStack) -> None:
    @quiet.on_message
    async def refuse(message: Message, connection: Connection) -> None:
        raise RequestError("no such room", code="no_room")

    client = await join(stack, await stack.enter_async_context(serve(quiet)))
    with pytest.raises(RequestFailed, match="no such room") as raised:
        await client.request(PING)
    assert (raised.value.code, raised.value.text) == ("no_room", "no such room")


async def test_a_client_may_reject_what_it_is_asked(quiet: Server, stack: AsyncExitStack) -> None:
    client = await join(stack, await stack.enter_async_context(serve(quiet)))
    errors = list[Exception]()
    client.on_error(errors.append)

    @client.on_request
    def refuse(message: Message) -> None:
        raise Reject("no number", "bad_number")

    with pytest.raises(RequestFailed, match="no number") as raised:
        await quiet.request("0", PING)
    assert raised.value.code == "bad_number"
    assert errors == []


async def test_without_a_handler_the_error_comes_at_once(quiet: Server, stack: AsyncExitStack) -> None:
    client = await join(stack, await stack.enter_async_context(serve(quiet)))
    with pytest.raises(Unanswered):
        await client.request(PING)


async def test_a_callback_may_wait_for_an_answer(quiet: Server, stack: AsyncExitStack) -> None:
    quiet.on_message(lambda message, connection: "answer")
    endpoint = await stack.enter_async_context(serve(quiet))
    client = await join(stack, endpoint, limits=ClientLimits(max_queued=1))
    answers: asyncio.Queue[Any] = asyncio.Queue()

    @client.on_message
    async def handle(message: Message) -> None:
        answers.put_nowait((await client.request(PING)).data)

    for _ in range(3):  # more than may wait: reading pauses but for the answer
        await quiet.send(Message(0, None, "EVENT"), ["0"])
    async with asyncio.timeout(LIMIT):
        assert [await answers.get() for _ in range(3)] == ["answer"] * 3


async def test_an_answer_behind_messages_without_end_is_not_read(scripted: ScriptedServer) -> None:
    client, may_go_on, handled = scripted.client(ClientLimits(max_queued=2)), asyncio.Event(), list[Any]()

    @client.on_message
    async def handle(message: Message) -> None:
        await may_go_on.wait()
        handled.append(message.data["n"])

    visitor = await meet(scripted, client, v=2)
    waiting, request = await ask(client, visitor, timeout=1)

    async def talk() -> None:
        for n in range(200):
            await visitor.dispatch("NOISE", {"n": n, "of": "x" * 200_000})
        await visitor.send(op=0, d="too far behind", x={"a": request})

    talking = asyncio.create_task(talk())
    try:
        with pytest.raises(TimedOut):
            await waiting
    finally:
        may_go_on.set()
    await until(lambda: len(handled) == 200)
    assert handled == list(range(200))
    await talking


async def test_a_server_of_wire_1_is_not_asked(scripted: ScriptedServer) -> None:
    client = scripted.client()
    visitor = await meet(scripted, client)
    with pytest.raises(Unsupported, match="wire 2"):
        await client.request(PING)
    await client.send(Message(0, None, "NEXT"))
    assert (await visitor.receive())["t"] == "NEXT"


async def ask(client: Client, visitor: Visitor, **options: Any) -> tuple["asyncio.Task[Message]", str]:
    """Begin a request, and return its id once it has arrived."""
    waiting = asyncio.create_task(client.request(PING, **options))
    frame = await visitor.receive()
    assert (frame["op"], frame["d"], frame["t"]) == (0, {"n": 1}, "PING")
    return waiting, frame["x"]["r"]


async def test_a_server_that_says_nothing_is_not_waited_for(scripted: ScriptedServer) -> None:
    client = scripted.client()
    visitor = await meet(scripted, client, v=2)
    waiting, request = await ask(client, visitor, timeout=0.05)
    with pytest.raises(TimedOut):
        await waiting
    await visitor.send(op=0, d="too late", x={"a": request})
    again, request = await ask(client, visitor)
    await visitor.send(op=0, d="in time", x={"a": request})
    assert (await again).data == "in time"


async def test_a_connection_that_ends_ends_its_requests(scripted: ScriptedServer) -> None:
    client = scripted.client()
    visitor = await meet(scripted, client, v=2)
    waiting, _ = await ask(client, visitor)
    visitor.cut()
    with pytest.raises(ConnectionClosed):
        await waiting


async def test_a_client_that_is_away_asks_when_it_is_back(scripted: ScriptedServer) -> None:
    client = scripted.client()
    visitor = await meet(scripted, client, v=2)
    visitor.cut()
    visitor = await scripted.visitor()
    waiting = asyncio.create_task(client.request(PING))
    await visitor.greet(v=2)
    request = (await visitor.receive())["x"]["r"]
    await visitor.send(op=0, d="back", x={"a": request})
    assert (await waiting).data == "back"


async def test_a_client_that_stays_away_gives_up_in_time(scripted: ScriptedServer) -> None:
    client = scripted.client()
    visitor = await meet(scripted, client, v=2)
    visitor.cut()
    await scripted.visitor()
    with pytest.raises(TimedOut):
        await client.request(PING, timeout=0.05)


async def test_closing_the_client_ends_its_requests(scripted: ScriptedServer) -> None:
    client = scripted.client()
    visitor = await meet(scripted, client, v=2)
    waiting, _ = await ask(client, visitor)
    closing = asyncio.create_task(client.aclose())
    await visitor.closed()
    await closing
    with pytest.raises(ConnectionClosed):
        await waiting
    with pytest.raises(ConnectionClosed):
        await client.request(PING)


async def test_a_request_that_is_given_up_leaves_nothing(scripted: ScriptedServer) -> None:
    client = scripted.client(limits=ClientLimits(max_requests=1, close_timeout=0.2))
    visitor = await meet(scripted, client, v=2)
    waiting, request = await ask(client, visitor)
    with pytest.raises(TooManyRequests, match="1 already wait for answers"):
        await client.request(PING)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await visitor.send(op=0, d="no call gets this", x={"a": request})
    again, request = await ask(client, visitor)
    await visitor.send(op=0, d="heard", x={"a": request})
    assert (await again).data == "heard"


async def test_an_answer_is_no_message(scripted: ScriptedServer) -> None:
    client = scripted.client()
    visitor = await meet(scripted, client, v=2)
    waiting, request = await ask(client, visitor)
    for x in ({"a": "unknown"}, {"a": 7}, {"a": request}, {"a": request}):
        await visitor.send(op=0, d=1, x=x)
    await visitor.dispatch("MESSAGE")
    await waiting
    assert (await anext(client)).type == "MESSAGE"


@pytest.mark.parametrize(
    ("message", "timeout", "error"),
    [
        (Message(2), 1, InvalidMessage),
        ("PING", 1, InvalidMessage),
        (PING, 0, InvalidSettings),
        (PING, "1", InvalidSettings),
    ],
)
async def test_what_cannot_be_asked_is_refused(
    scripted: ScriptedServer, message: Any, timeout: Any, error: type[Exception]
) -> None:
    client = scripted.client()
    await meet(scripted, client, v=2)
    with pytest.raises(error):
        await client.request(message, timeout)


async def test_a_client_that_was_not_connected_cannot_ask() -> None:
    with pytest.raises(MesaError, match="not connected"):
        await Client("ws://127.0.0.1:1").request(PING)


# Answering the server.


async def test_the_client_answers(quiet: Server, stack: AsyncExitStack) -> None:
    client = await join(stack, await stack.enter_async_context(serve(quiet)))

    @client.on_request("DOUBLE")
    async def double(message: Message) -> Any:
        return message.data * 2

    client.on_request(lambda message: Message(99, "else", "ELSE"))
    assert await quiet.request("0", Message(0, 21, "DOUBLE")) == Message(0, 42, "DOUBLE")
    assert await quiet.request("0", PING) == Message(99, "else", "ELSE")


async def test_a_client_without_a_handler_says_so_at_once(quiet: Server, stack: AsyncExitStack) -> None:
    client = await join(stack, await stack.enter_async_context(serve(quiet)))
    with pytest.raises(Unanswered):
        await quiet.request("0", PING)
    client.on_request("OTHER")(lambda message: 1)
    client.on_request("PING")(lambda message: None)
    with pytest.raises(Unanswered):
        await quiet.request("0", PING)


async def test_a_request_is_no_message(quiet: Server, stack: AsyncExitStack) -> None:
    client = await join(stack, await stack.enter_async_context(serve(quiet)))
    client.on_request(lambda message: 1)
    await quiet.request("0", PING)
    await quiet.send(Message(0, None, "MESSAGE"), ["0"])
    assert (await anext(client)).type == "MESSAGE"


async def test_what_a_handler_raises_is_reported_and_not_told(quiet: Server, stack: AsyncExitStack) -> None:
    client = await join(stack, await stack.enter_async_context(serve(quiet)))
    reported: asyncio.Queue[Exception] = asyncio.Queue()
    client.on_error(reported.put_nowait)

    @client.on_request
    def fail(message: Message) -> None:
        raise ValueError("a secret")

    with pytest.raises(RequestFailed) as raised:
        await quiet.request("0", PING)
    assert raised.value.code == "failed"
    assert "secret" not in str(raised.value)
    async with asyncio.timeout(LIMIT):
        assert str(await reported.get()) == "a secret"


@pytest.mark.parametrize("code", ["no_room", "refused"])
async def test_a_deliberate_error_reaches_the_asker(quiet: Server, stack: AsyncExitStack, code: str) -> None:
    client = await join(stack, await stack.enter_async_context(serve(quiet)))

    @client.on_request
    def fail(message: Message) -> None:
        raise RequestError("no \ud800 such room" + "!" * 2000, code)

    with pytest.raises(RequestFailed, match=r"no \? such room") as raised:
        await quiet.request("0", PING)
    assert raised.value.code == code
    assert len(raised.value.text) == 1000


@pytest.mark.parametrize("answer", [object(), {(1, 2): 3}, {1: "a", "1": "b"}])
async def test_an_answer_that_json_cannot_hold_is_a_failure(
    quiet: Server, stack: AsyncExitStack, answer: object
) -> None:
    client = await join(stack, await stack.enter_async_context(serve(quiet)))
    client.on_request(lambda message: answer)
    with pytest.raises(RequestFailed):
        await quiet.request("0", PING)


async def test_a_handler_whose_connection_has_ended_has_failed(quiet: Server, stack: AsyncExitStack) -> None:
    client = await join(stack, await stack.enter_async_context(serve(quiet)))

    @client.on_request
    async def fail(message: Message) -> None:
        raise ConnectionClosed

    with pytest.raises(RequestFailed):
        await quiet.request("0", PING)


async def test_both_ends_may_ask_each_other_while_they_handle(quiet: Server, stack: AsyncExitStack) -> None:
    @quiet.on_message("OUTER")
    async def outer(message: Message, connection: Connection) -> Any:
        return ["outer", (await quiet.request("0", Message(0, None, "INNER"))).data]

    client = await join(stack, await stack.enter_async_context(serve(quiet)))
    answers: asyncio.Queue[Any] = asyncio.Queue()
    client.on_request("INNER")(lambda message: "inner")

    @client.on_message("GO")
    async def go(message: Message) -> None:
        answers.put_nowait((await client.request(Message(0, None, "OUTER"))).data)

    await quiet.send(Message(0, None, "GO"), ["0"])
    async with asyncio.timeout(LIMIT):
        assert await answers.get() == ["outer", "inner"]


async def test_a_client_answers_so_many_at_a_time(quiet: Server, stack: AsyncExitStack) -> None:
    endpoint = await stack.enter_async_context(serve(quiet))
    client = await join(stack, endpoint, limits={"max_requests": 1})
    began, may_end = asyncio.Event(), asyncio.Event()

    @client.on_request
    async def answer(message: Message) -> str:
        began.set()
        await may_end.wait()
        return "done"

    waiting = asyncio.create_task(quiet.request("0", PING))
    await began.wait()
    with pytest.raises(TooManyRequests):
        await quiet.request("0", PING)
    may_end.set()
    assert (await waiting).data == "done"


async def test_closing_waits_for_handlers_of_requests(quiet: Server, stack: AsyncExitStack) -> None:
    client = await join(stack, await stack.enter_async_context(serve(quiet)))
    began, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @client.on_request
    async def answer(message: Message) -> None:
        began.set()
        await may_end.wait()
        ended.set()

    waiting = asyncio.create_task(quiet.request("0", PING))
    await began.wait()
    closing = asyncio.create_task(client.aclose())
    with pytest.raises(ConnectionClosed):
        await waiting
    assert not closing.done()
    may_end.set()
    await closing
    assert ended.is_set()


async def test_cancelling_the_close_cancels_handlers_of_requests(
    quiet: Server, stack: AsyncExitStack
) -> None:
    client = await join(stack, await stack.enter_async_context(serve(quiet)))
    began, was_cancelled = asyncio.Event(), asyncio.Event()

    @client.on_request
    async def answer(message: Message) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            was_cancelled.set()

    waiting = asyncio.create_task(quiet.request("0", PING))
    await began.wait()
    closing = asyncio.create_task(client.aclose())
    with pytest.raises(ConnectionClosed):
        await waiting
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    async with asyncio.timeout(LIMIT):
        await was_cancelled.wait()


async def test_a_handler_may_close_the_client(quiet: Server, stack: AsyncExitStack) -> None:
    client = await join(stack, await stack.enter_async_context(serve(quiet)))

    @client.on_request
    async def leave(message: Message) -> str:
        await client.aclose()
        return "no call gets this"

    with pytest.raises(ConnectionClosed):
        await quiet.request("0", PING)


@pytest.mark.parametrize("given", [None, 7])
async def test_what_is_no_handler_is_refused(given: Any) -> None:
    with pytest.raises(InvalidSettings, match="on_request"):
        Client("ws://127.0.0.1:1").on_request(given)
