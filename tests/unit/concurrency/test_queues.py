"""Ordered queues: the order of each key, batches, and what cancelling does."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import pytest

from mesa_ws.concurrency.queues import Batcher, FairSlots, KeyedQueues
from mesa_ws.concurrency.tasks import unwatch, watch


@pytest.fixture
async def watched() -> AsyncIterator[None]:
    watch()
    yield
    await unwatch()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0)


class Gate:
    """Handles items, each one when the test opens it; notes the order."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.done: list[str] = []
        self.opened: dict[str, asyncio.Event] = {}

    async def handle(self, item: str) -> None:
        self.begun.append(item)
        await self.opened.setdefault(item, asyncio.Event()).wait()
        self.done.append(item)

    def open(self, *items: str) -> None:
        for item in items:
            self.opened.setdefault(item, asyncio.Event()).set()


async def test_items_of_one_key_go_in_order_and_hold_up_no_other_key() -> None:
    gate = Gate()
    queues = KeyedQueues(gate.handle)
    for item in ("a1", "a22", "b1"):
        queues.put(item[0], item, len(item))
    await until(lambda: gate.begun == ["a1", "b1"])
    assert (queues.count, queues.size, len(queues.tasks)) == (3, 7, 2)
    gate.open("b1")
    await until(lambda: len(queues.tasks) == 1)
    assert (queues.count, queues.size) == (2, 5)
    gate.open("a22")
    assert gate.done == ["b1"]
    gate.open("a1")
    await queues.drained()
    assert gate.done == ["b1", "a1", "a22"]
    assert (queues.count, queues.size, queues.tasks, queues._queues) == (0, 0, set(), {})


async def test_an_item_whose_task_is_cancelled_by_foreign_code_is_handled_again(
    watched: None, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    queues = KeyedQueues(gate.handle)
    queues.put("a", "a1")
    await until(lambda: gate.begun == ["a1"])
    next(iter(queues.tasks)).cancel()
    await until(lambda: gate.begun == ["a1", "a1"])
    gate.open("a1")
    await queues.drained()
    assert gate.done == ["a1"]
    assert caplog.messages == ["a task of Mesa was cancelled by foreign code; it goes on"]


async def test_queues_that_are_cancelled_drop_their_items_and_take_others() -> None:
    gate = Gate()
    queues = KeyedQueues(gate.handle)
    queues.put("a", "a1", 2)
    queues.put("a", "a2", 2)
    await until(lambda: gate.begun == ["a1"])
    gate.open("a1", "a2", "a3")
    queues.put("b", "b1", 2)  # its task has not begun when it is cancelled
    queues.cancel()
    await until(lambda: not queues.tasks)
    assert (gate.begun, gate.done, queues.count, queues.size) == (["a1"], [], 0, 0)
    queues.put("a", "a3")
    await queues.drained()
    assert gate.done == ["a3"]


class Calls:
    """Runs batches, each one when the test opens it."""

    def __init__(self, answer: Callable[[str], str] = str.upper) -> None:
        self.batches: list[list[str]] = []
        self.slots = asyncio.Semaphore(0)
        self._answer = answer

    async def run(self, batch: list[str]) -> list[str]:
        self.batches.append(batch)
        await self.slots.acquire()
        return [self._answer(item) for item in batch]


async def test_what_comes_during_a_call_goes_together_in_order() -> None:
    calls = Calls()
    batcher = Batcher(calls.run, most=2, name="batches")
    first = asyncio.ensure_future(batcher.call("a"))
    await until(lambda: calls.batches == [["a"]])
    second = asyncio.ensure_future(batcher.call("b"))
    await asyncio.sleep(0)
    batcher.add("c")
    batcher.add("d")
    settled = asyncio.ensure_future(batcher.settled())
    calls.slots.release()
    assert await first == "A"
    await until(lambda: calls.batches == [["a"], ["b", "c"]])
    calls.slots.release()
    assert await second == "B"
    await until(lambda: calls.batches == [["a"], ["b", "c"], ["d"]])
    assert not settled.done()
    calls.slots.release()
    await settled


async def test_a_batch_has_no_more_bytes_than_it_may_unless_its_first_item_alone_has() -> None:
    calls = Calls()
    batcher = Batcher(calls.run, most=10, name="batches", size_of=len, max_size=4)
    for item in ("123456", "12", "34", "5"):
        batcher.add(item)
    for _ in range(3):
        calls.slots.release()
    await batcher.settled()
    assert calls.batches == [["123456"], ["12", "34"], ["5"]]


async def test_the_error_of_a_batch_reaches_its_callers_and_else_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(item: str) -> str:
        if item == "ok":
            return item
        raise ValueError(item)

    calls = Calls(fail)
    for _ in range(4):
        calls.slots.release()
    batcher = Batcher(calls.run, most=1, name="batches")
    with pytest.raises(ValueError, match=r"^bad$"):
        await batcher.call("bad")
    assert caplog.records == []
    with caplog.at_level(logging.ERROR):
        batcher.add("worse")
        await batcher.settled()
    assert caplog.messages == ["the task batches dropped a batch"]
    assert await batcher.call("ok") == "ok"
    given_up = asyncio.ensure_future(batcher.call("ok"))
    await asyncio.sleep(0)
    given_up.cancel()
    await batcher.settled()
    assert calls.batches[-1] == ["ok"]


async def test_closing_a_batcher_drops_what_waits() -> None:
    calls = Calls()
    batcher = Batcher(calls.run, most=1, name="batches")
    batcher.add("a")
    batcher.add("b")
    await until(lambda: calls.batches == [["a"]])
    await batcher.aclose()
    assert calls.batches == [["a"]]
    calls.slots.release()
    batcher.add("c")  # "b" was dropped
    await batcher.settled()
    assert calls.batches == [["a"], ["c"]]


async def test_slots_are_given_to_keys_in_turn_and_to_each_in_order() -> None:
    slots, begun = FairSlots(2), list[str]()

    async def work(name: str) -> None:
        await slots.acquire(name[0])
        begun.append(name)

    tasks = {name: asyncio.create_task(work(name)) for name in ("a1", "a2", "a3", "a4", "a5", "b1", "c1")}
    await until(lambda: begun == ["a1", "a2"])
    for order in (["a3"], ["b1"], ["c1"], ["a4"]):
        slots.release()
        await until(lambda: len(begun) == 3)
        assert begun[2:] == order
        del begun[2:]
    tasks["a5"].cancel()
    slots.release()
    slots.release()
    await asyncio.gather(*tasks.values(), return_exceptions=True)
    assert [work.cancelled() for work in tasks.values()] == [False] * 4 + [True] + [False] * 2
    await work("d1")
    await work("d2")
    assert begun == ["a1", "a2", "d1", "d2"]


async def test_a_slot_that_was_given_to_a_task_that_is_cancelled_goes_to_the_next() -> None:
    slots = FairSlots(1)
    await slots.acquire("a")
    first, second = (asyncio.create_task(slots.acquire(key)) for key in "bc")
    await asyncio.sleep(0)
    slots.release()
    first.cancel()
    await asyncio.wait([first, second])
    assert (first.cancelled(), second.cancelled()) == (True, False)
