"""Who ends a task: its owner, the event loop or a time limit; nothing else does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from mesa_ws.concurrency import tasks
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
    assert task not in tasks._ended


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


def test_a_loop_that_was_closed_is_forgotten() -> None:
    async def begin() -> None:
        watch()

    asyncio.run(begin())
    asyncio.run(begin())
    assert sum(loop.is_closed() for loop in tasks._watches) <= 1


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


async def test_a_task_that_ends_before_it_has_begun_leaves_nothing() -> None:
    asyncio.get_running_loop().set_task_factory(lambda loop, work, **options: asyncio.Task(work, loop=loop))
    task = start(wait_for_ever())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


def test_an_event_loop_that_is_given_up_leaves_nothing_behind() -> None:
    """Without that handlers keep it from ending, as `asyncio.run` cancels them once."""

    async def main() -> None:
        watch()
        start(persist(partial(persist, wait_for_ever)))
        await asyncio.sleep(0)

    asyncio.run(main())
