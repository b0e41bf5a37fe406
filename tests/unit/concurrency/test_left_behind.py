"""How tasks and threads that do not end are named."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from mesa_ws.concurrency.left_behind import MOST_NAMED, report_tasks, report_threads
from mesa_ws.handlers.caller import Caller
from mesa_ws.handlers.threads import Threads

log = logging.getLogger("mesa_ws.test")


async def waits(gate: asyncio.Event) -> None:
    await gate.wait()


async def yields(gate: asyncio.Event) -> AsyncIterator[None]:
    await waits(gate)
    yield


class Awaitable:
    """Awaited through a generator."""

    def __init__(self, gate: asyncio.Event) -> None:
        self._gate = gate

    def __await__(self) -> Iterator[object]:
        yield from waits(self._gate).__await__()


async def report(caplog: pytest.LogCaptureFixture, *works: object, twice: bool = False) -> list[str]:
    """Start tasks that wait, and return the lines that are logged of them."""
    tasks = [asyncio.ensure_future(work) for work in works]  # type: ignore[call-overload]
    await asyncio.sleep(0)
    for _ in range(2 if twice else 1):
        report_tasks(log, tasks)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return caplog.messages


async def test_a_task_is_named_for_the_function_of_the_application_it_is_in(
    caplog: pytest.LogCaptureFixture,
) -> None:
    [line] = await report(caplog, Caller(1, "test").call(waits, asyncio.Event()))
    assert line.startswith("1 task goes on although cancelled, and is left behind: waits (")
    assert f"{__file__}:{waits.__code__.co_firstlineno + 1})" in line


@pytest.mark.parametrize("make", [Awaitable, lambda gate: anext(yields(gate))])
async def test_what_awaiting_puts_in_between_hides_nothing(
    caplog: pytest.LogCaptureFixture, make: Callable[[asyncio.Event], object]
) -> None:
    [line] = await report(caplog, make(asyncio.Event()))
    assert f"{__file__}:" in line


async def test_a_task_that_is_in_no_application_is_named_for_where_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    [line] = await report(caplog, asyncio.Event().wait())
    assert "left behind: Event.wait (" in line


async def test_a_task_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    assert len(await report(caplog, waits(asyncio.Event()), twice=True)) == 1


async def test_many_tasks_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    gate = asyncio.Event()
    functions: dict[str, object] = {"asyncio": asyncio}
    names = [f"waits_{number}" for number in range(MOST_NAMED + 2)]
    for name in names:
        exec(f"async def {name}(gate):\n    await gate.wait()", functions)
    works = [functions[name](gate) for name in names]  # type: ignore[operator]
    [line] = await report(caplog, waits(gate), waits(gate), *works)
    assert line.startswith(f"{MOST_NAMED + 4} tasks go on although cancelled, and are left behind: waits (")
    assert line.endswith(" and 3 more")
    assert "(2 times)" in line


async def test_a_task_that_is_done_is_not_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    done = asyncio.ensure_future(asyncio.sleep(0))
    await done
    report_tasks(log, [done])
    assert caplog.messages == []


def test_a_thread_is_named_for_what_it_runs(caplog: pytest.LogCaptureFixture) -> None:
    begun, gate, threads = threading.Event(), threading.Event(), Threads(1, "test")

    def hangs() -> None:
        begun.set()
        gate.wait()

    future = threads.submit(hangs)
    begun.wait()
    report_threads(log, threads.busy)
    gate.set()
    future.result()
    threads.shutdown()
    [line] = caplog.messages
    assert line.startswith("1 thread is still at work, and is left behind: ")
    assert f"hangs ({__file__}:" in line
    assert threads.busy == []
