"""What a client does so that no message is missed, and none is handled twice."""

import asyncio
import logging
from typing import Any

import pytest

from mesa_ws.client import Client, Reconnection
from mesa_ws.messages.message import Message
from mesa_ws.messages.recipients import User
from mesa_ws.transports.run import Server, serve

from .conftest import meet
from .scripted import LIMIT, ScriptedServer, Visitor, message

Told = asyncio.Queue[Any]


@pytest.fixture
def told() -> Told:
    """What the callbacks of a test were told."""
    return asyncio.Queue()


async def heard(told: Told, count: int) -> list[Any]:
    """What the callbacks are told next."""
    async with asyncio.timeout(LIMIT):
        return [await told.get() for _ in range(count)]


def at(sequence: int, epoch: str = "aa", status: str = "resumed", lost: int = 0, **more: Any) -> Any:
    """What a server of wire 2 says of a position."""
    return {"e": epoch, "s": sequence, "status": status, "lost": lost, **more}


async def accept(guest: Visitor, place: Any) -> Any:
    """Accept the authentication that comes next; return its `x`."""
    frame = await guest.receive()
    assert frame["op"] == 2
    await guest.send(op=22, d={"id": "1"}, x=place)
    return frame.get("x")


async def meet_resumer(scripted: ScriptedServer, client: Client, place: Any = None) -> Visitor:
    """Connect a client on wire 2, and accept it; its messages follow 5 unless `place` says otherwise."""
    guest = await meet(scripted, client, v=2)
    authenticating = asyncio.create_task(client.authenticate({"id": "1"}))
    await accept(guest, place or at(5, status="fresh"))
    await authenticating
    return guest


async def store(guest: Visitor, *sequences: int) -> None:
    """Send stored messages."""
    for sequence in sequences:
        await guest.send(op=0, d=sequence, s=sequence)


async def ask(guest: Visitor) -> list[Any]:
    """Ask for a sign of life; return what the client says up to its answer."""
    await guest.send(op=1, d={})
    said = [await guest.receive()]
    while said[-1]["op"] != 11:
        said.append(await guest.receive())
    return said[:-1]


def ack(sequence: int, epoch: str = "aa") -> Any:
    return {"op": 3, "d": {"e": epoch, "s": sequence}}


async def numbers(client: Client, count: int) -> list[Any]:
    async with asyncio.timeout(LIMIT):
        return [(await anext(client)).data for _ in range(count)]


# Going on where it was.


async def test_it_says_where_it_is_when_it_comes_back(scripted: ScriptedServer, told: Told) -> None:
    client = scripted.client()
    client.on_message(lambda message: told.put_nowait(message.data))
    everybody = at(3, "bb", "fresh")
    guest = await meet_resumer(scripted, client, at(5, status="fresh", b=everybody))
    await store(guest, 6, 7)
    await guest.send(op=0, d="b", b=9)
    assert await heard(told, 3) == [6, 7, "b"]
    guest.cut()
    second = await scripted.guest(v=2)
    extension = await accept(second, at(7))
    assert extension == {"v": 2, "resume": {"e": "aa", "s": 7, "b": {"e": "bb", "s": 9}}}


async def test_a_new_client_says_no_position(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client, v=2)
    authenticating = asyncio.create_task(client.authenticate({"id": "1"}))
    assert await accept(guest, at(0, status="fresh")) == {"v": 2}
    await authenticating


async def test_who_wants_nothing_that_waits_says_no_position(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client, v=2)
    authenticating = asyncio.create_task(client.authenticate({"id": "1"}, should_sync=False))
    await accept(guest, at(9, status="fresh"))
    await authenticating
    guest.cut()
    second = await scripted.guest(v=2)
    frame = await second.receive()
    assert (frame["d"]["shouldSync"], frame["x"]) == (False, {"v": 2})


async def test_what_was_not_handled_is_asked_for_again_and_handed_over_once(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet_resumer(scripted, client)
    await store(guest, 6, 7, 8)
    assert await numbers(client, 2) == [6, 7]  # so 6 is handled, 7 is not, 8 waits
    guest.cut()
    second = await scripted.guest(v=2)
    assert (await accept(second, at(6)))["resume"]["s"] == 6
    await store(second, 7, 8, 9)
    assert await numbers(client, 2) == [8, 9]


async def test_it_goes_on_from_where_it_began_also_before_it_takes_a_message(
    scripted: ScriptedServer,
) -> None:
    client = scripted.client()
    guest = await meet_resumer(scripted, client, at(5, status="fresh", lost=2, b=at(3, "bb", "fresh")))
    await store(guest, 6)
    await guest.send(op=0, d="b", b=4)
    guest.cut()
    second = await scripted.guest(v=2)
    extension = await accept(second, at(5, b=at(3, "bb")))
    assert extension == {"v": 2, "resume": {"e": "aa", "s": 5, "b": {"e": "bb", "s": 3}}}
    await store(second, 6, 7)
    await second.send(op=0, d="b", b=4)
    await second.send(op=0, d="c", b=5)
    assert sorted(map(str, await numbers(client, 4))) == ["6", "7", "b", "c"]


@pytest.mark.parametrize("to", ["1", "*"])
async def test_a_client_that_is_cut_before_it_takes_a_message_misses_none(to: str) -> None:
    server = Server(sync=True)
    server.authenticator(lambda data, connection: User(data["id"]))
    away = Reconnection(interval=0.2, max_pause=0.2)
    async with serve(server) as endpoint, Client(endpoint.url, reconnect=away) as client:
        await client.authenticate({"id": "1"})
        await server.send(message("N", 1), to if to == "*" else [to])
        (connection,) = server.connections
        cut = asyncio.Event()
        client.on_disconnected(lambda code, reason, will_reconnect: cut.set())
        connection.disconnect()
        async with asyncio.timeout(LIMIT):
            await cut.wait()
        await server.send(message("N", 2), to if to == "*" else [to])
        async with asyncio.timeout(LIMIT):
            while not client.is_authenticated:
                await asyncio.sleep(0.005)
        assert await numbers(client, 2) == [1, 2]
        await server.send(message("N", 3), to if to == "*" else [to])
        assert await numbers(client, 1) == [3]


async def test_a_message_in_a_callback_is_not_asked_for_as_handled(
    scripted: ScriptedServer, told: Told
) -> None:
    client = scripted.client()
    may_go_on = asyncio.Event()

    @client.on_message
    async def work(message: Message) -> None:
        told.put_nowait(message.data)
        await may_go_on.wait()

    guest = await meet_resumer(scripted, client)
    await store(guest, 6)
    assert await heard(told, 1) == [6]
    guest.cut()
    second = await scripted.guest(v=2)
    assert (await accept(second, at(5)))["resume"]["s"] == 5
    await store(second, 6, 7)
    may_go_on.set()
    assert await heard(told, 1) == [7]
    assert told.empty()


async def test_after_a_fork_numbers_are_those_of_the_new_epoch(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet_resumer(scripted, client)
    await store(guest, 6)
    await guest.send(op=9, d=at(4, "cc", "forked"))
    await store(guest, 5)
    assert await numbers(client, 2) == [6, 5]
    waiting = asyncio.ensure_future(anext(client))
    await asyncio.sleep(0)
    assert await ask(guest) == [ack(5, "cc")]
    await store(guest, 6)
    assert (await waiting).data == 6


async def test_another_server_of_wire_1_is_told_no_position(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet_resumer(scripted, client)
    await store(guest, 6)
    await numbers(client, 1)
    guest.cut()
    second = await scripted.guest()
    assert await accept(second, None) is None
    await second.send(op=0, d="again", s=1)
    assert await numbers(client, 1) == ["again"]
    assert await ask(second) == []


# Acknowledging.


async def test_what_was_handled_is_acknowledged_within_seconds(scripted: ScriptedServer, told: Told) -> None:
    client = scripted.client()
    client.on_message(lambda message: told.put_nowait(message.data))
    guest = await meet_resumer(scripted, client)
    await store(guest, 6, 7, 8)
    assert await guest.receive() == ack(8)


async def test_64_messages_are_acknowledged_at_once(scripted: ScriptedServer) -> None:
    client = scripted.client()
    client.on_message(lambda message: None)
    guest = await meet_resumer(scripted, client)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await store(guest, *range(6, 134))
    said = [await guest.receive(), await guest.receive()]
    assert loop.time() > begun + 1 or said == [ack(6 + 63), ack(6 + 127)]
    # The first that is handled is the position itself.


async def test_an_answer_to_a_heartbeat_follows_what_is_new(scripted: ScriptedServer, told: Told) -> None:
    client = scripted.client()
    client.on_message(lambda message: told.put_nowait(message.data))
    guest = await meet_resumer(scripted, client)
    await store(guest, 6, 7)
    await heard(told, 2)
    assert await ask(guest) == [ack(7)]
    assert await ask(guest) == []


async def test_a_message_is_handled_when_the_next_is_asked_for(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet_resumer(scripted, client)
    await store(guest, 6, 7)
    await numbers(client, 1)
    assert await ask(guest) == []
    await numbers(client, 1)
    assert await ask(guest) == [ack(6)]


async def test_a_message_is_handled_when_its_callbacks_have_returned(
    scripted: ScriptedServer, told: Told
) -> None:
    client = scripted.client()
    may_go_on = asyncio.Event()

    @client.on_message
    async def work(message: Message) -> None:
        told.put_nowait("begins")
        await may_go_on.wait()

    client.on_message(lambda message: told.put_nowait("ends"))
    guest = await meet_resumer(scripted, client)
    await store(guest, 6)
    await heard(told, 1)
    assert await ask(guest) == []
    may_go_on.set()
    await heard(told, 1)
    assert await ask(guest) == [ack(6)]


async def test_a_message_whose_callback_raised_is_handled(scripted: ScriptedServer, told: Told) -> None:
    client = scripted.client()
    client.on_error(told.put_nowait)
    client.on_message(lambda message: 1 / 0)
    guest = await meet_resumer(scripted, client)
    await store(guest, 6)
    await heard(told, 1)
    assert await guest.receive() == ack(6)


async def test_closing_acknowledges_what_was_handled_first(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet_resumer(scripted, client)
    await store(guest, 6, 7, 8)
    assert await numbers(client, 2) == [6, 7]
    closing = asyncio.create_task(client.aclose())
    assert await guest.receive() == ack(6)
    assert await guest.closed() == (1000, "")
    await closing


# What is missing.


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (at(9, lost=3), [("lost", 3)]),
        (at(6, "cc", "forked", rollback="r"), ["forked"]),
        (at(9, "cc", "forked", 3, rollback="r"), ["forked", ("lost", 3)]),
        (at(2, "cc", "reset"), ["reset"]),
        (at(2, "cc", "reset", 4), ["reset", ("lost", 4)]),
    ],
)
@pytest.mark.parametrize("iterates", [False, True])
async def test_what_is_missing_is_told_between_the_messages(
    scripted: ScriptedServer, told: Told, place: Any, said: list[Any], iterates: bool
) -> None:
    client = scripted.client()
    client.on_lost(lambda number: told.put_nowait(("lost", number)))
    client.on_forked(lambda: told.put_nowait("forked"))
    client.on_reset(lambda: told.put_nowait("reset"))
    guest = await meet_resumer(scripted, client)
    taking = _take(client, told, iterates=iterates)
    await store(guest, 6)
    assert await heard(told, 1) == [6]
    guest.cut()
    second = await scripted.guest(v=2)
    await accept(second, place)
    await store(second, place["s"] + 1)
    assert await heard(told, len(said) + 1) == [*said, place["s"] + 1]
    taking.cancel()


async def test_a_rollback_is_told_once_however_often_the_server_says_so(
    scripted: ScriptedServer, told: Told
) -> None:
    client = scripted.client()
    client.on_forked(lambda: told.put_nowait("forked"))
    _take(client, told, iterates=False)
    guest = await meet_resumer(scripted, client, at(5, status="fresh", b=at(3, "bb", "fresh")))
    await guest.send(op=9, d=at(5, "cc", "forked", ended=5, rollback="r"))
    await guest.send(op=9, d=at(3, "dd", "forked", ended=3, b=True, rollback="r"))
    await store(guest, 6)
    assert await heard(told, 2) == ["forked", 6]
    guest.cut()
    second = await scripted.guest(v=2)
    await accept(second, at(6, "ee", "forked", ended=6, rollback="r"))
    await store(second, 7)
    assert await heard(told, 1) == [7]
    assert await ask(second) == [ack(7, "ee")]
    await second.send(op=9, d=at(7, "ff", "forked", ended=7, rollback="another"))
    await store(second, 8)
    assert await heard(told, 2) == ["forked", 8]


async def test_a_rollback_that_no_callback_is_told_is_logged(
    scripted: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    client = scripted.client()
    guest = await meet_resumer(scripted, client)
    with caplog.at_level(logging.WARNING, "mesa_ws.client"):
        await guest.send(op=9, d=at(5, "cc", "forked", ended=5, rollback="r"))
        await store(guest, 6)
        assert await numbers(client, 1) == [6]
    assert "messages may be missing" in caplog.text
    assert "on_forked" in caplog.text


async def _iterate(client: Client, told: Told) -> None:
    async for each in client:
        told.put_nowait(each.data)


def _take(client: Client, told: Told, *, iterates: bool) -> "asyncio.Future[Any]":
    """Put what the client receives into `told`."""
    if iterates:
        return asyncio.ensure_future(_iterate(client, told))
    client.on_message(lambda message: told.put_nowait(message.data))
    return asyncio.get_running_loop().create_future()


async def test_an_iteration_waits_until_a_loss_was_told(scripted: ScriptedServer, told: Told) -> None:
    client = scripted.client()
    may_go_on = asyncio.Event()

    @client.on_lost
    async def lost(number: int) -> None:
        told.put_nowait(number)
        await may_go_on.wait()

    guest = await meet_resumer(scripted, client)
    await guest.send(op=9, d=at(9, lost=4))
    await store(guest, 10)
    waiting = asyncio.ensure_future(anext(client))
    assert await heard(told, 1) == [4]
    assert await ask(guest) == []
    waiting.cancel()
    waiting = asyncio.ensure_future(anext(client))
    await ask(guest)
    assert not waiting.done()
    may_go_on.set()
    assert (await waiting).data == 10
    assert await ask(guest) == [ack(9)]


async def test_closing_ends_an_iteration_that_waits_for_a_loss_to_be_told(
    scripted: ScriptedServer, told: Told
) -> None:
    client = scripted.client()

    @client.on_lost
    async def lost(number: int) -> None:
        told.put_nowait(number)
        await client.aclose()

    guest = await meet_resumer(scripted, client)
    waiting = asyncio.ensure_future(anext(client))
    await guest.send(op=9, d=at(9, lost=4))
    await store(guest, 10)
    await guest.closed()
    with pytest.raises(StopAsyncIteration):
        await waiting


async def test_closing_ends_an_iteration_that_waits_for_other_callbacks(
    scripted: ScriptedServer, told: Told
) -> None:
    client = scripted.client()
    may_go_on = asyncio.Event()

    @client.on_connected
    async def connected(info: Any) -> None:
        await may_go_on.wait()

    client.on_lost(told.put_nowait)
    guest = await meet_resumer(scripted, client)
    waiting = asyncio.ensure_future(anext(client))
    await guest.send(op=9, d=at(9, lost=4))
    await ask(guest)
    closing = asyncio.create_task(client.aclose())
    with pytest.raises(StopAsyncIteration):
        async with asyncio.timeout(LIMIT):
            await waiting
    may_go_on.set()
    await closing
    assert told.empty()  # it is no news for who has left


async def test_what_a_server_leaves_out_is_lost_and_logged(
    scripted: ScriptedServer, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    client = scripted.client()
    client.on_lost(told.put_nowait)
    client.on_message(lambda message: told.put_nowait(("message", message.data)))
    guest = await meet_resumer(scripted, client)
    with caplog.at_level(logging.WARNING, "mesa_ws.client"):
        await store(guest, 8)
        assert await heard(told, 2) == [2, ("message", 8)]
    assert "the server broke a rule: it left out 2 messages" in caplog.text


async def test_without_callbacks_what_is_missing_is_logged(
    scripted: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    client = scripted.client()
    guest = await meet_resumer(scripted, client)
    with caplog.at_level(logging.WARNING, "mesa_ws.client"):
        await guest.send(op=9, d=at(9, "cc", "reset", 4))
        await store(guest, 10)
        assert await numbers(client, 1) == [10]
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "messages may be missing, or come again" in caplog.text
    assert "4 messages are lost" in caplog.text


# A server that is about to go.


async def test_a_server_that_asks_for_it_is_left_and_come_back_to(
    scripted: ScriptedServer, told: Told
) -> None:
    client = scripted.client()
    client.on_disconnected(lambda *ending: told.put_nowait(ending))
    client.on_message(lambda message: told.put_nowait(message.data))
    guest = await meet_resumer(scripted, client)
    await store(guest, 6)
    await guest.send(op=7, d={"after": 0.2})
    loop = asyncio.get_running_loop()
    begun = loop.time()
    assert await guest.receive() == ack(6)
    assert await guest.closed() == (1000, "")
    assert (await heard(told, 2))[0] == 6
    second = await scripted.guest(v=2)
    assert loop.time() - begun > 0.15
    assert (await accept(second, at(6)))["resume"]["s"] == 6


async def test_it_stays_until_what_came_is_handled(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet_resumer(scripted, client)
    await store(guest, 6)
    await guest.send(op=7, d={"after": 0.001})
    await numbers(client, 1)
    assert await ask(guest) == []
    waiting = asyncio.ensure_future(anext(client))
    assert await guest.receive() == ack(6)
    assert await guest.closed() == (1000, "")
    second = await scripted.guest(v=2)
    await accept(second, at(6))
    await store(second, 7)
    assert (await waiting).data == 7


async def test_a_server_that_goes_before_is_stayed_away_from_as_long(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet_resumer(scripted, client)
    await store(guest, 6)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await guest.send(op=7, d={"after": 0.2})
    await guest.close(1001)
    await accept(await scripted.guest(v=2), at(5))
    assert loop.time() - begun > 0.15
    assert await numbers(client, 1) == [6]


async def test_what_is_sent_meanwhile_waits(scripted: ScriptedServer) -> None:
    client = scripted.client()
    away = asyncio.Event()
    client.on_disconnected(lambda *ending: away.set())
    client.on_message(lambda message: None)
    guest = await meet_resumer(scripted, client)
    await guest.send(op=7, d={"after": 0.1})
    await guest.closed()
    await away.wait()
    await client.send(message("KEPT"))
    second = await scripted.guest(v=2)
    await accept(second, at(5))
    assert await second.types(1) == ["KEPT"]


async def test_who_does_not_come_back_does_not_leave(scripted: ScriptedServer) -> None:
    client = scripted.client(reconnect=False)
    client.on_message(lambda message: None)
    guest = await meet_resumer(scripted, client)
    await guest.send(op=7, d={"after": 0.001})
    await guest.send(op=7, d={"after": 0.002})
    await client.send(message("STILL HERE"))
    assert await guest.types(1) == ["STILL HERE"]
    for _ in range(5):
        assert await ask(guest) == []
