"""The application's callbacks: when they are called, and what they may do."""

import asyncio
import logging
from functools import partial
from typing import Any

import pytest

from mesa_ws.client import Client, ClientLimits, ConnectionInfo
from mesa_ws.errors import InvalidSettings, Unsupported
from mesa_ws.messages.message import Message
from mesa_ws.transports.run import Endpoint

from .conftest import meet
from .scripted import LIMIT, ScriptedServer, message

Told = asyncio.Queue[Any]


@pytest.fixture
def told() -> Told:
    """What the callbacks of a test were told."""
    return asyncio.Queue()


async def heard(told: Told, count: int) -> list[Any]:
    """What the callbacks are told next."""
    async with asyncio.timeout(LIMIT):
        return [await told.get() for _ in range(count)]


async def test_a_callback_gets_every_message(scripted: ScriptedServer, told: Told) -> None:
    client = scripted.client()

    @client.on_message
    async def note(message: Message) -> None:
        told.put_nowait((message.type, message.data))

    guest = await meet(scripted, client)
    await guest.dispatch("FIRST", 1)
    await guest.dispatch("SECOND", 2)
    assert await heard(told, 2) == [("FIRST", 1), ("SECOND", 2)]


async def test_a_callback_of_a_type_gets_that_type_alone(scripted: ScriptedServer, told: Told) -> None:
    client = scripted.client()

    @client.on_message("PING")
    def note(message: Message) -> None:
        told.put_nowait(message.data)

    guest = await meet(scripted, client)
    await guest.dispatch("OTHER", 1)
    await guest.dispatch("PING", 2)
    await guest.send(op=0, d=3)
    await guest.dispatch("PING", 4)
    assert await heard(told, 2) == [2, 4]


async def test_callbacks_are_called_in_the_order_of_registration(
    scripted: ScriptedServer, told: Told
) -> None:
    client = scripted.client()
    client.on_message(lambda message: told.put_nowait("every"))
    client.on_message("PING")(lambda message: told.put_nowait("typed"))
    client.on_message(lambda message: told.put_nowait("every again"))
    guest = await meet(scripted, client)
    await guest.dispatch("PING")
    assert await heard(told, 3) == ["every", "typed", "every again"]


async def test_a_callback_is_finished_before_the_next_begins(scripted: ScriptedServer, told: Told) -> None:
    client = scripted.client()

    @client.on_message
    async def slow(message: Message) -> None:
        told.put_nowait(f"{message.type} begins")
        await asyncio.sleep(0.01)
        told.put_nowait(f"{message.type} ends")

    guest = await meet(scripted, client)
    await guest.dispatch("FIRST")
    await guest.dispatch("SECOND")
    assert await heard(told, 4) == ["FIRST begins", "FIRST ends", "SECOND begins", "SECOND ends"]


async def test_anything_that_can_be_awaited_is(scripted: ScriptedServer, told: Told) -> None:
    async def note(prefix: str, message: Message) -> None:
        told.put_nowait(f"{prefix} {message.type}")

    client = scripted.client()
    client.on_message(partial(note, "partial"))
    client.on_message(lambda message: note("lambda", message))
    guest = await meet(scripted, client)
    await guest.dispatch("M")
    assert await heard(told, 2) == ["partial M", "lambda M"]


async def test_decorators_return_the_function_itself() -> None:
    client = Client("ws://localhost")

    def callback(*args: Any) -> None:
        """Do nothing."""

    assert client.on_message(callback) is callback
    assert client.on_message("T")(callback) is callback
    assert client.on_connected(callback) is callback
    assert client.on_disconnected(callback) is callback
    assert client.on_error(callback) is callback


async def test_a_slow_callback_makes_the_client_stop_reading(scripted: ScriptedServer, told: Told) -> None:
    client = scripted.client(ClientLimits(max_queued=4))
    may_go_on = asyncio.Event()

    @client.on_message
    async def slow(message: Message) -> None:
        await may_go_on.wait()
        told.put_nowait(message.type)

    guest = await meet(scripted, client)
    for number in range(1_000):
        sending = asyncio.create_task(guest.dispatch(str(number), "x" * 100_000))
        done, _ = await asyncio.wait({sending}, timeout=0.3)
        if not done:
            break
    else:
        raise AssertionError("nothing holds the server back")
    may_go_on.set()
    assert await heard(told, number + 1) == [str(each) for each in range(number + 1)]
    await sending


# Callbacks that fail.


async def test_a_callback_that_raises_is_logged_and_reported(
    scripted: ScriptedServer, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    client = scripted.client()
    client.on_error(told.put_nowait)
    problem = LookupError("a bug")

    @client.on_message
    async def fail(message: Message) -> None:
        raise problem

    client.on_message(lambda message: told.put_nowait("the next one"))
    guest = await meet(scripted, client)
    with caplog.at_level(logging.ERROR, "mesa_ws.client"):
        await guest.dispatch("M")
        assert await heard(told, 2) == [problem, "the next one"]
    assert "fail raised" in caplog.text
    assert client.is_connected


@pytest.mark.parametrize("kind", ["connected", "disconnected"])
async def test_callbacks_of_the_connection_may_raise_as_well(
    scripted: ScriptedServer, told: Told, kind: str
) -> None:
    client = scripted.client()
    client.on_error(told.put_nowait)

    def fail(*args: Any) -> None:
        raise LookupError(kind)

    getattr(client, f"on_{kind}")(fail)
    (await meet(scripted, client)).cut()
    await scripted.guest()
    assert [str(error) for error in await heard(told, 1)] == [kind]


async def test_a_reporter_that_raises_is_only_logged(
    scripted: ScriptedServer, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    client = scripted.client()

    @client.on_error
    async def fail_as_well(error: Exception) -> None:
        raise ValueError("another bug")

    client.on_error(lambda error: told.put_nowait(str(error)))
    client.on_message(lambda message: 1 / message.data)
    guest = await meet(scripted, client)
    with caplog.at_level(logging.ERROR, "mesa_ws.client"):
        await guest.dispatch("M", 0)
        assert await heard(told, 1) == ["division by zero"]
    assert "fail_as_well raised" in caplog.text


async def test_a_callback_that_waits_for_something_cancelled_does_no_harm(
    scripted: ScriptedServer, told: Told
) -> None:
    client = scripted.client()
    client.on_error(told.put_nowait)

    @client.on_message("CANCELLED")
    async def wait(message: Message) -> None:
        doomed = asyncio.get_running_loop().create_future()
        doomed.cancel()
        await doomed

    client.on_message("NEXT")(lambda message: told.put_nowait("next"))
    guest = await meet(scripted, client)
    await guest.dispatch("CANCELLED")
    await guest.dispatch("NEXT")
    error, following = await heard(told, 2)
    assert "cancelled" in str(error)
    assert following == "next"


# Callbacks that call the client.


async def test_a_callback_may_send(scripted: ScriptedServer) -> None:
    client = scripted.client()

    @client.on_message
    async def answer(question: Message) -> None:
        await client.send(message("ANSWER", question.data))

    guest = await meet(scripted, client)
    await guest.dispatch("QUESTION", 42)
    assert await guest.receive() == {"op": 0, "d": 42, "t": "ANSWER"}


async def test_a_callback_may_authenticate_while_messages_flood_in(
    scripted: ScriptedServer, told: Told
) -> None:
    client = scripted.client(ClientLimits(max_queued=1))

    @client.on_message("LOGIN")
    async def authenticate(message: Message) -> None:
        told.put_nowait(await client.authenticate({"id": "1"}))

    guest = await meet(scripted, client)
    await guest.dispatch("LOGIN")
    await guest.authentication()
    for _ in range(5):
        await guest.dispatch("FLOOD", "x" * 50_000)
    await guest.send(op=22, d={"id": "1"})
    assert await heard(told, 1) == [{"id": "1"}]


@pytest.mark.parametrize("wraps", [False, True])
async def test_a_callback_may_close_the_client(scripted: ScriptedServer, told: Told, wraps: bool) -> None:
    client = scripted.client()

    @client.on_message
    async def close(message: Message) -> None:
        await (asyncio.wait_for(client.aclose(), LIMIT) if wraps else client.aclose())
        told.put_nowait("closed")

    client.on_disconnected(lambda *ending: told.put_nowait(ending))
    guest = await meet(scripted, client)
    await guest.dispatch("BYE")
    assert await guest.closed() == (1000, "")
    assert await heard(told, 2) == ["closed", (1000, "", False)]
    async with asyncio.timeout(LIMIT):
        await client.wait_closed()


async def test_a_callback_and_the_application_may_close_at_once(scripted: ScriptedServer, told: Told) -> None:
    client = scripted.client()
    closing = asyncio.Event()

    @client.on_message
    async def close(message: Message) -> None:
        closing.set()
        await client.aclose()

    client.on_disconnected(lambda *ending: told.put_nowait(ending))
    guest = await meet(scripted, client)
    await guest.dispatch("BYE")
    async with asyncio.timeout(LIMIT):
        await closing.wait()
        await asyncio.gather(client.aclose(), client.aclose(), guest.closed())
    assert await heard(told, 1) == [(1000, "", False)]


async def test_a_callback_that_uses_a_closed_client_is_no_error(
    scripted: ScriptedServer, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    client = scripted.client()
    client.on_error(told.put_nowait)

    @client.on_message
    async def close(received: Message) -> None:
        await client.aclose()
        await client.send(message("LATE"))

    guest = await meet(scripted, client)
    with caplog.at_level(logging.ERROR, "mesa_ws.client"):
        await guest.dispatch("BYE")
        await guest.closed()
        await client.aclose()
    assert told.empty()
    assert not caplog.records


async def test_closing_lets_a_running_callback_finish(scripted: ScriptedServer, told: Told) -> None:
    client = scripted.client()
    may_go_on = asyncio.Event()

    @client.on_message
    async def work(message: Message) -> None:
        told.put_nowait("begins")
        await may_go_on.wait()
        told.put_nowait("ends")

    guest = await meet(scripted, client)
    await guest.dispatch("FIRST")
    await guest.dispatch("DROPPED")
    assert await heard(told, 1) == ["begins"]
    closing = asyncio.create_task(client.aclose())
    await guest.closed()
    finished, _ = await asyncio.wait({closing}, timeout=0.1)
    assert not finished
    may_go_on.set()
    await closing
    assert told.get_nowait() == "ends"
    assert told.empty()


async def test_cancelling_the_close_cancels_a_callback_that_hangs(
    scripted: ScriptedServer, told: Told
) -> None:
    client = scripted.client()

    @client.on_message
    async def hang(message: Message) -> None:
        told.put_nowait("begins")
        try:
            await asyncio.Event().wait()
        finally:
            told.put_nowait("cancelled")

    guest = await meet(scripted, client)
    await guest.dispatch("FIRST")
    await heard(told, 1)
    closing = asyncio.create_task(client.aclose())
    await guest.closed()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert await heard(told, 1) == ["cancelled"]


async def test_the_connection_is_told_even_if_nobody_takes_messages(
    scripted: ScriptedServer, told: Told
) -> None:
    client = scripted.client()

    @client.on_connected
    def connected(info: ConnectionInfo) -> None:
        told.put_nowait("connected")

    client.on_disconnected(lambda code, reason, will_reconnect: told.put_nowait(code))
    guest = await meet(scripted, client)
    await guest.dispatch("WAITS")
    await guest.close(1001)
    assert await heard(told, 2) == ["connected", 1001]
    assert (await anext(client)).type == "WAITS"


# Callbacks or iteration.


async def test_a_client_with_message_callbacks_cannot_be_iterated(endpoint: Endpoint) -> None:
    client = Client(endpoint.url)
    client.on_message("PING")(print)
    async with client:
        with pytest.raises(Unsupported, match="the on_message callbacks of this client get its messages"):
            async for _ in client:
                pass
        with pytest.raises(Unsupported):
            await anext(client)


async def test_a_client_that_is_iterated_takes_no_message_callbacks(endpoint: Endpoint) -> None:
    async with Client(endpoint.url) as client:
        aiter(client)
        with pytest.raises(Unsupported, match="`async for` gets the messages of this client"):
            client.on_message(print)


async def test_a_callback_registered_late_gets_what_waits(scripted: ScriptedServer, told: Told) -> None:
    client = scripted.client()
    arrived = asyncio.Event()
    client.on_disconnected(lambda *ending: arrived.set())
    guest = await meet(scripted, client)
    await guest.dispatch("FIRST")
    await guest.dispatch("SECOND")
    await guest.close(1001)
    await arrived.wait()
    client.on_message(lambda message: told.put_nowait(message.type))
    await (await scripted.guest()).dispatch("THIRD")
    assert await heard(told, 3) == ["FIRST", "SECOND", "THIRD"]


@pytest.mark.parametrize("wrong", [None, 42, object()])
async def test_what_is_no_callback_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidSettings, match="expected a function or a message type"):
        Client("ws://localhost").on_message(wrong)
