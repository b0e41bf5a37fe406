"""The bound on what waits for all clients of a node that read slowly."""

import logging
from collections.abc import Callable

import pytest

from mesa_ws.concurrency.limited_log import LimitedLog
from mesa_ws.server.slow_readers import SlowReaders

MOST = 1600
MARK = 1200
FULL = 1400
ROOM = 1125  # below which none is closed any more


class Queue:
    """A queue whose client takes what waits for it only when the test says so."""

    def __init__(self, readers: SlowReaders, name: str, ends: list[str]) -> None:
        self._readers, self._name, self._ends = readers, name, ends
        self.size = 0
        self.give_up: Callable[[str], None] = self._give_up

    def measure(self) -> int:
        return self.size

    def add(self, size: int) -> None:
        self.size += size
        self._readers.count(self, self.size)

    def _give_up(self, _: str) -> None:
        self._ends.append(f"closed {self._name}")
        self._readers.closing(self, self.size)

    def cut(self) -> None:
        self._ends.append(f"cut {self._name}")
        self.size = 0


@pytest.fixture
def readers() -> SlowReaders:
    return SlowReaders(MOST, LimitedLog(logging.getLogger("mesa_ws.server")))


@pytest.fixture
def ends() -> list[str]:
    return []


@pytest.fixture
def queues(readers: SlowReaders, ends: list[str]) -> list[Queue]:
    return [Queue(readers, name, ends) for name in "abcd"]


def test_nobody_is_closed_up_to_the_mark(queues: list[Queue], ends: list[str], readers: SlowReaders) -> None:
    for queue in queues:
        queue.add(MARK // 4)
    assert (ends, readers.waiting, readers.closed) == ([], MARK, {})


def test_those_for_which_most_waits_are_closed_until_there_is_room(
    queues: list[Queue], ends: list[str], readers: SlowReaders
) -> None:
    a, b, c, d = queues
    a.add(100)
    b.add(500)
    c.add(400)
    d.add(200)
    assert ends == []
    a.add(1)
    assert ends == ["closed b"]
    assert readers.waiting == MARK + 1, "what waits for one that is closing counts"
    a.add(FULL - MARK - 1)
    assert ends == ["closed b"], "up to the mark again"
    assert readers.closed == {"max_node_buffer": 1}


@pytest.mark.parametrize(("waiting", "expected"), [(ROOM, []), (ROOM + 1, ["closed d"])])
def test_enough_are_closed_to_leave_some_room(
    queues: list[Queue], ends: list[str], waiting: int, expected: list[str]
) -> None:
    a, b, c, d = queues
    a.add(10)
    b.add(20)
    c.add(30)
    d.add(MARK - 60)
    d.size = waiting - 61  # it has read since
    a.add(1)
    assert ends == expected


def test_what_was_read_since_it_was_counted_counts_no_more(
    queues: list[Queue], ends: list[str], readers: SlowReaders
) -> None:
    a, b, _, _ = queues
    a.add(MARK)
    a.size = 7
    b.add(MARK // 2)
    assert (ends, readers.waiting) == ([], MARK // 2 + 7)


def test_those_that_are_closing_are_cut_when_all_together_come_close_to_the_bound(
    queues: list[Queue], ends: list[str], readers: SlowReaders
) -> None:
    a, b, c, d = queues
    a.add(MARK + 1)
    b.add(FULL - MARK - 1)
    assert (ends, readers.waiting) == (["closed a"], FULL)
    c.add(1)
    assert (ends, readers.waiting) == (["closed a", "cut a"], FULL - MARK)
    d.add(MARK)
    assert ends[2:] == ["closed d"]
    readers.closing(d, 0)
    assert readers.waiting == FULL - MARK, "it has ended"


def test_one_message_beyond_the_bound_is_freed_at_once(
    queues: list[Queue], ends: list[str], readers: SlowReaders
) -> None:
    queues[0].add(MOST + 1)
    assert (ends, readers.waiting) == (["closed a", "cut a"], 0)


def test_a_client_whose_end_has_others_written_to_is_closed_before_they_are(
    queues: list[Queue], ends: list[str], readers: SlowReaders
) -> None:
    a, b, c, _ = queues
    close = a.give_up

    def tell(why: str) -> None:
        close(why)
        b.add(MARK)
        ends.append("told b")

    a.give_up = tell
    b.add(100)
    c.add(200)
    a.add(MARK)
    assert ends[:2] == ["closed a", "cut a"]
    assert ends.index("told b") < ends.index("closed b")
    assert readers.closed == {"max_node_buffer": 3}


def test_a_minute_has_one_line(queues: list[Queue], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    for queue in queues:
        queue.add(MARK + 1)
    [record] = caplog.records
    assert record.getMessage() == (
        "limits.max_node_buffer is 1600: closing a client that reads slowly, for which 1201 bytes wait"
    )
