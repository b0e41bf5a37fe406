"""Messages of a subscription, as they arrive on the connection."""

import asyncio
import sys
import time
from itertools import count, repeat
from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, NoPermissionError

from mesa_ws.backend.redis_client.connection import BLOCK, LARGE_READ, TURN, AsyncConnection, Handlers
from mesa_ws.backend.redis_client.master import FIXED

SIGN = b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"


class MemoryTransport(asyncio.Transport):
    """A transport whose peer is the test."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = True
        self.is_aborted = False

    def set_protocol(self, protocol: object) -> None:
        """Do nothing: the test calls the protocol."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: the test writes nothing."""

    def pause_reading(self) -> None:
        assert (self.reads, self.is_aborted) == (True, False)
        self.reads = False

    def resume_reading(self) -> None:
        assert (self.reads, self.is_aborted) == (False, False)
        self.reads = True

    def is_closing(self) -> bool:
        return self.is_aborted

    def abort(self) -> None:
        self.is_aborted = True


class Listening:
    """A connection that listens, with what its messages were and in which turns of the loop they came."""

    def __init__(self, before: bytes = b"") -> None:
        self.transport = MemoryTransport()
        reader = asyncio.StreamReader()
        reader.feed_data(before)
        opened = SimpleNamespace(
            mesa_master=FIXED, _reader=reader, _writer=SimpleNamespace(transport=self.transport)
        )
        self.connection = AsyncConnection(opened)
        self.messages: list[bytes] = []
        self.turns: list[int] = []
        self.signs = 0
        self.turn = 0

    def on_message(self, message: bytes) -> None:
        self.messages.append(message)
        self.turns.append(self.turn)

    def on_sign(self) -> None:
        self.signs += 1

    async def begin(self, handlers: Handlers | None = None) -> "asyncio.Task[None]":
        task = asyncio.create_task(self.connection.listen(handlers or {b"a": self.on_message}, self.on_sign))
        await asyncio.sleep(0)
        return task

    async def go_on(self, turns: int) -> None:
        for _ in range(turns):
            self.turn += 1
            await asyncio.sleep(0)


def published(*messages: bytes, channel: bytes = b"a") -> bytes:
    return b"".join(
        b"*3\r\n$7\r\nmessage\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(channel), channel, len(each), each)
        for each in messages
    )


def numbers(until: int) -> list[bytes]:
    return [b"%d" % number for number in range(until)]


@pytest.fixture
def slow_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which the time of a turn is over whenever it is looked at."""
    monkeypatch.setattr(time, "monotonic", count(0.0, TURN).__next__)


@pytest.fixture
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which no time passes."""
    monkeypatch.setattr(time, "monotonic", repeat(0.0).__next__)


@pytest.mark.usefixtures("stopped_clock")
async def test_what_arrives_together_is_handled_in_one_turn_with_one_call_for_each_message() -> None:
    listening = Listening()
    await listening.begin()
    wire, calls = published(*numbers(500)), list[str]()
    sys.setprofile(lambda frame, event, _: calls.append(frame.f_code.co_name) if event == "call" else None)
    try:
        listening.connection.data_received(wire)
    finally:
        sys.setprofile(None)
    assert listening.messages == numbers(500)
    assert calls.count("on_message") == 500
    assert len(calls) <= 505


async def test_messages_go_to_the_handler_of_their_channel_in_their_order() -> None:
    seen: list[tuple[str, bytes]] = []
    listening = Listening()
    handlers = {b"a": lambda each: seen.append(("a", each)), b"b": lambda each: seen.append(("b", each))}
    await listening.begin(handlers)
    wire = published(b"1") + published(b"2", channel=b"b") + SIGN + published(b"3")
    for at in range(len(wire)):
        listening.connection.data_received(wire[at : at + 1])
    assert (seen, listening.signs) == ([("a", b"1"), ("b", b"2"), ("a", b"3")], 1)


async def test_what_came_before_the_listening_is_handled_first() -> None:
    listening = Listening(published(b"1"))
    listening.connection.data_received(published(b"2"))
    assert listening.messages == []
    await listening.begin()
    assert listening.messages == [b"1", b"2"]
    listening.connection.data_received(published(b"3"))
    assert listening.messages == [b"1", b"2", b"3"]


@pytest.mark.usefixtures("slow_clock")
async def test_others_get_their_turn_while_many_messages_are_handled() -> None:
    listening = Listening()
    await listening.begin()
    listening.connection.data_received(published(*numbers(5 * BLOCK)))
    assert listening.messages == numbers(BLOCK)
    assert [listening.transport.reads] == [False]
    await listening.go_on(10)
    assert listening.messages == numbers(5 * BLOCK)
    assert max(map(listening.turns.count, listening.turns)) == BLOCK
    assert listening.transport.reads


async def test_a_large_read_is_the_only_one_of_its_turn() -> None:
    listening = Listening()
    await listening.begin()
    listening.connection.data_received(published(bytes(LARGE_READ // 2)))
    reads = [listening.transport.reads]
    listening.connection.data_received(published(bytes(LARGE_READ)))
    reads.append(listening.transport.reads)
    await listening.go_on(1)
    assert [*reads, listening.transport.reads] == [True, False, True]
    assert len(listening.messages) == 2


@pytest.mark.usefixtures("slow_clock")
async def test_nothing_is_handled_in_a_later_turn_after_the_end() -> None:
    listening = Listening()
    task = await listening.begin()
    listening.connection.data_received(published(*numbers(2 * BLOCK)))
    listening.connection.end()
    await listening.go_on(3)
    assert len(listening.messages) == BLOCK
    assert isinstance(task.exception(), RedisConnectionError)


@pytest.mark.usefixtures("stopped_clock")
async def test_a_handler_may_end_the_connection() -> None:
    listening = Listening()
    await listening.begin({b"a": lambda _: listening.connection.end(), b"b": listening.on_message})
    wire = published(b"0") + published(*numbers(3 * BLOCK), channel=b"b")
    listening.connection.data_received(wire)
    await listening.go_on(3)
    assert len(listening.messages) < BLOCK


@pytest.mark.parametrize(
    ("wire", "error"),
    [
        (published(b"1"), ZeroDivisionError),
        (b"-NOPERM no permissions\r\n", NoPermissionError),
        (b"HTTP/1.1 400 Bad Request\r\n", InvalidResponse),
    ],
)
async def test_an_error_ends_the_connection(wire: bytes, error: type[Exception]) -> None:
    def fail(_: bytes) -> Any:
        raise ZeroDivisionError

    listening = Listening()
    task = await listening.begin({b"a": fail, b"b": listening.on_message})
    listening.connection.data_received(wire + published(b"2", channel=b"b"))
    with pytest.raises(error):
        await task
    assert listening.transport.is_aborted
    assert listening.messages == []
