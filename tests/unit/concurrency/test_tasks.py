"""Who ends a task: its owner, the event loop or a time limit; nothing else does."""

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from mesa_ws.concurrency import tasks
from mesa_ws.concurrency.event_loops import abandon_task
from mesa_ws.concurrency.tasks import end, persist, start, survive, unwatch, watch


@pytest.fixture
async def watched() -> AsyncIterator[None]:
    watch()
    yield
    await unwatch()


def this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def wait_for_ever() -> None:
    await asyncio.Event().wait()


async def is_cancelled(work: Callable[[], Awaitable[Any]]) -> bool:
    """Cancel the current task, do some work, and return whether a cancellation is raised after it."""
    this_task().cancel()
    await work()
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        return True
    return False


async def test_what_is_to_be_raised_is_taken_back(watched: None) -> None:
    assert not await is_cancelled(survive)
    assert this_task().cancelling() == 0


async def test_whether_it_was_raised_is_told(watched: None) -> None:
    this_task().cancel()
    assert await survive()
    assert not await survive()
    this_task().cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)
    assert not await survive()
    assert this_task().cancelling() == 0


async def test_work_that_is_cancelled_begins_again(watched: None) -> None:
    began = list[int]()

    async def work() -> str:
        began.append(1)
        if len(began) < 3:
            this_task().cancel()
            await asyncio.sleep(0)
        return "done"

    assert await persist(work) == "done"
    assert len(began) == 3


@pytest.mark.parametrize("evade", [asyncio.Task.uncancel, asyncio.Task.cancel, lambda task: None])
async def test_the_owner_ends_a_task_whatever_it_does(
    evade: Callable[[asyncio.Task[Any]], Any], watched: None
) -> None:
    async def work() -> None:
        try:
            await wait_for_ever()
        except asyncio.CancelledError:
            evade(this_task())
            await survive()
            raise AssertionError("it goes on") from None

    task = start(work())
    await asyncio.sleep(0)
    end(task)
    await asyncio.wait({task})
    assert task.cancelled()
    assert task not in tasks.ended


async def test_the_end_of_all_tasks_ends_each(watched: None) -> None:
    task = start(persist(wait_for_ever))
    await asyncio.sleep(0)
    ours = asyncio.all_tasks() - {this_task()}
    for each in ours:
        each.cancel()
    await asyncio.wait(ours, timeout=10)
    assert task.cancelled()


async def test_where_nobody_watches_every_cancellation_ends_a_task() -> None:
    task = start(persist(wait_for_ever))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=10)
    assert task.cancelled()


async def test_one_watch_is_there_for_all_and_none_after_the_last() -> None:
    before = asyncio.all_tasks()
    watch()
    watch()
    assert len(asyncio.all_tasks() - before) == 1
    await unwatch()
    assert len(asyncio.all_tasks() - before) == 1
    await unwatch()
    await unwatch()
    assert asyncio.all_tasks() == before
    assert asyncio.get_running_loop() not in tasks._watches


async def test_a_watch_that_was_cancelled_is_replaced(watched: None) -> None:
    loop = asyncio.get_running_loop()
    tasks._watches[loop].task.cancel()
    watch()
    assert not tasks._watches[loop].is_cancelled
    await unwatch()
    watch()


async def test_a_watch_that_is_replaced_is_there_for_those_who_had_it() -> None:
    watch()
    tasks._watches[asyncio.get_running_loop()].task.cancel()
    watch()
    await unwatch()
    assert not tasks._is_loop_ending(asyncio.get_running_loop())
    await unwatch()
    assert asyncio.get_running_loop() not in tasks._watches


async def test_threads_may_begin_to_watch_at_the_same_time(watched: None) -> None:
    class ClosedInAnotherThread(asyncio.SelectorEventLoop):
        """Another thread looks for closed loops, too, and begins to watch one, while this is looked at."""

        def is_closed(self) -> bool:
            if not super().is_closed():
                return False
            watches.pop(self, None)
            watches[another] = watches[asyncio.get_running_loop()]
            return True

    watches = tasks._watches
    closed, another = ClosedInAnotherThread(), asyncio.new_event_loop()
    closed.close()
    watches[closed] = watches[asyncio.get_running_loop()]
    try:
        watch()
        await unwatch()
        assert closed not in watches
    finally:
        watches.pop(another, None)
        another.close()


def test_a_loop_that_was_closed_is_forgotten() -> None:
    async def begin() -> None:
        watch()

    asyncio.run(begin())
    asyncio.run(begin())
    assert sum(loop.is_closed() for loop in tasks._watches) <= 1


def test_a_task_that_was_ended_in_a_loop_that_was_closed_is_forgotten() -> None:
    async def stubborn() -> None:
        while True:
            with suppress(asyncio.CancelledError):
                await wait_for_ever()

    async def begin() -> "asyncio.Task[None]":
        task = start(stubborn())
        await asyncio.sleep(0)
        end(task)
        return task

    async def begin_another() -> None:
        watch()
        await unwatch()

    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(begin())
    loop.close()
    abandon_task(task)
    asyncio.run(begin_another())
    assert task not in tasks.ended


async def test_a_time_limit_stays_one_beside_other_cancellations(watched: None) -> None:
    async def work() -> None:
        async with asyncio.timeout(0.001) as limit:
            try:
                await wait_for_ever()
            finally:
                this_task().cancel()
                await survive(limit=limit)

    with pytest.raises(TimeoutError):
        await work()
    assert this_task().cancelling() == 0


def eager(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> "asyncio.Task[Any]":
    """Begin a task at once, as `asyncio.eager_task_factory` does, which Python 3.11 does not have."""
    try:
        work.send(None)
    except StopIteration:
        work = asyncio.sleep(0)
    return asyncio.Task(work, loop=loop, **options)


async def test_a_task_begins_after_its_creator_has_gone_on() -> None:
    asyncio.get_running_loop().set_task_factory(eager)
    seen = list[str]()

    async def work() -> None:
        seen.append("work")

    task = start(work())
    seen.append("creator")
    await asyncio.wait({task})
    assert seen == ["creator", "work"]


@pytest.mark.parametrize("rounds", [0, 1])
async def test_a_task_that_ends_before_it_has_begun_leaves_nothing(rounds: int) -> None:
    asyncio.get_running_loop().set_task_factory(lambda loop, work, **options: asyncio.Task(work, loop=loop))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        task = start(wait_for_ever())
        for _ in range(rounds):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        gc.collect()
    assert task.cancelled()
    assert [each for each in warned if "never awaited" in str(each.message)] == []


def test_an_event_loop_that_is_given_up_leaves_nothing_behind() -> None:
    """Without that handlers keep it from ending, as `asyncio.run` cancels them once."""

    async def main() -> None:
        watch()
        start(persist(partial(persist, wait_for_ever)))
        await asyncio.sleep(0)

    asyncio.run(main())
