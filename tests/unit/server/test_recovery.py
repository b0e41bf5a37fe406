"""A node's position among the messages to everybody."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from mesa_ws.backend.outbox import Entry, Page
from mesa_ws.concurrency.limited_log import LimitedLog
from mesa_ws.messages.receipt import Position
from mesa_ws.server import recovery
from mesa_ws.server.recovery import BroadcastReader
from tests.system.server.peer import LIMIT


class Source:
    """Has another epoch than before; answers with what was there when it was asked.

    Attributes:
        top: the last message.
        answers: one for each question, set to let its answer go.
        is_prompt: whether answers go at once.
    """

    def __init__(self) -> None:
        self.top = 7
        self.answers: list[asyncio.Event] = []
        self.is_prompt = False

    async def broadcasts(self, position: Position | None) -> Page:
        if position is None:
            return Page("fresh", "old", 5, 5, 0)
        page = Page("reset", "new", self.top, self.top, 0)
        if position.epoch == "new":
            entries = tuple(_entry(n) for n in range(position.sequence + 1, self.top + 1))
            page = Page("resumed", "new", position.sequence, self.top, 0, entries)
        answer = asyncio.Event()
        self.answers.append(answer)
        if not self.is_prompt:
            await answer.wait()
        return page


def _entry(sequence: int) -> Entry:
    return Entry(sequence, str(sequence), b"{}")


async def test_two_that_catch_up_at_once_announce_nothing_twice() -> None:
    source = Source()
    announced: list[int] = []
    resets: list[int] = []
    reader = BroadcastReader(
        source.broadcasts,
        _spawn,
        lambda _, entry: announced.append(entry.sequence),
        lambda: resets.append(len(announced)),
        LimitedLog(recovery.log),
    )
    await reader.start()
    both = [_spawn(reader.catch_up()) for _ in range(2)]
    await asyncio.sleep(0)
    source.answers[0].set()
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    source.top = 8
    reader.offer(Position("new", 8), _entry(8))
    source.is_prompt = True
    for answer in source.answers:
        answer.set()
    await asyncio.gather(*both)
    source.top = 9
    reader.offer(Position("new", 9), _entry(9))
    await reader.catch_up()
    assert (announced, resets) == ([8, 9], [0])


def _spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(work)


@pytest.mark.parametrize(("ended", "expected"), [(7, [6, 7, 8]), (6, [6, 7, 7, 8])])
async def test_what_came_while_a_fork_was_read_is_announced_once(ended: int, expected: list[int]) -> None:
    announced: list[int] = []

    async def broadcasts(position: Position | None) -> Page:
        if position is None:
            return Page("fresh", "old", 5, 5, 0)
        for sequence in (6, 7):
            reader.offer(Position("old", sequence), _entry(sequence))
        return Page("forked", "new", 5, 8, 0, tuple(map(_entry, (6, 7, 8))), ended)

    reader = BroadcastReader(
        broadcasts,
        _spawn,
        lambda _, entry: announced.append(entry.sequence),
        lambda: None,
        LimitedLog(recovery.log),
    )
    await reader.start()
    await reader.catch_up()
    assert (announced, reader.position) == (expected, ("new", 8))


async def test_a_message_that_comes_again_asks_for_nothing() -> None:
    source = Source()
    announced: list[int] = []
    reader = BroadcastReader(
        source.broadcasts,
        _spawn,
        lambda _, entry: announced.append(entry.sequence),
        lambda: None,
        LimitedLog(recovery.log),
    )
    await reader.start()
    for sequence in (6, 7, 6, 7, 5):
        reader.offer(Position("old", sequence), _entry(sequence))
    await asyncio.sleep(0)
    assert (announced, source.answers) == ([6, 7], [])


async def test_a_fault_while_it_reads_on_keeps_no_later_message_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recovery, "RETRY", 0.0)
    source, announced, all_there = Source(), list[int](), asyncio.Event()
    source.is_prompt = True

    def announce(position: Position, entry: Entry) -> None:
        if entry.sequence in (8, 9):
            raise ValueError("a fault in writing")
        announced.append(entry.sequence)
        if entry.sequence == 10:
            all_there.set()

    reader = BroadcastReader(source.broadcasts, _spawn, announce, lambda: None, LimitedLog(recovery.log))
    await reader.start()
    source.top = 7
    await reader.catch_up()
    source.top = 10
    reader.offer(Position("new", 10), _entry(10))
    async with asyncio.timeout(LIMIT):
        await all_there.wait()
    assert announced == [10]
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "a bug in reading messages to everybody; the node reads on"
    ]
