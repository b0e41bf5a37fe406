"""Handlers for tests: `async def` handlers that fail with a `BaseException`."""

import asyncio
from collections.abc import Awaitable, Callable

Way = Callable[[], Awaitable[None]]


class Foreign(BaseException):
    """A `BaseException` of another library, such as a timeout of gevent."""


def cancel_this_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


async def cancels_itself_and_waits() -> None:
    cancel_this_task()
    await asyncio.Event().wait()


async def cancels_itself_and_returns() -> None:
    cancel_this_task()


async def cancels_itself_twice() -> None:
    try:
        await cancels_itself_and_waits()
    finally:
        cancel_this_task()


async def cancels_itself_and_raises() -> None:
    cancel_this_task()
    raise ValueError("as well")


async def is_cancelled_by_another_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_soon(task.cancel)
    await asyncio.Event().wait()


async def waits_for_something_cancelled() -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def raises_cancelled_error() -> None:
    raise asyncio.CancelledError


async def raises_generator_exit() -> None:
    raise GeneratorExit


async def raises_what_is_no_exception() -> None:
    raise Foreign


WAYS: tuple[Way, ...] = (
    cancels_itself_and_waits,
    cancels_itself_and_returns,
    cancels_itself_twice,
    cancels_itself_and_raises,
    is_cancelled_by_another_task,
    waits_for_something_cancelled,
    raises_cancelled_error,
    raises_generator_exit,
    raises_what_is_no_exception,
)


async def swallows_its_cancellation() -> None:
    """Not a failure: the handler has caught the exception."""
    try:
        await cancels_itself_and_waits()
    except asyncio.CancelledError:
        return
