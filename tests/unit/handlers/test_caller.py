"""Calls of handlers: what comes out of them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from mesa_ws.handlers.caller import (
    Caller,
    HandlerCancelled,
    call,
    call_at_once,
    call_for_application,
    is_async,
)


async def cancelled() -> None:
    raise asyncio.CancelledError


class Called:
    async def __call__(self) -> str:
        return "called"

    async def method(self) -> str:
        return "called"

    def plain(self) -> str:
        return "called"


def returns_a_coroutine() -> Awaitable[str]:
    return Called()()


@pytest.fixture
def caller() -> Iterator[Caller]:
    caller = Caller(2, "test")
    yield caller
    caller.shutdown(logging.getLogger(__name__))


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (Called(), True),
        (Called().method, True),
        (partial(Called().method), True),
        (cancelled, True),
        (Called().plain, False),
        (partial(Called().plain), False),
        (returns_a_coroutine, False),
        (print, False),
    ],
)
def test_what_runs_in_the_event_loop(handler: Callable[..., Any], expected: bool) -> None:
    assert is_async(handler) is expected


async def test_what_a_plain_function_returns_is_awaited_if_it_can_be(caller: Caller) -> None:
    assert await caller.call(returns_a_coroutine) == "called"
    assert await call(returns_a_coroutine) == "called"
    assert await call(Called().plain) == "called"


async def test_what_is_named_is_the_handler() -> None:
    with pytest.raises(HandlerCancelled, match=r"^cancelled waited for something that was cancelled$"):
        await call(cancelled)
    with pytest.raises(HandlerCancelled, match=r"^cancelled waited for something that was cancelled$"):
        await call_for_application(cancelled)


def test_what_does_not_wait_raises_exceptions_alone() -> None:
    class Foreign(BaseException):
        pass

    def fail(error: BaseException) -> None:
        raise error

    with pytest.raises(RuntimeError, match="raised Foreign"):
        call_at_once(fail, Foreign())
    with pytest.raises(ValueError, match="own"):
        call_at_once(fail, ValueError("own"))
    with pytest.raises(SystemExit):
        call_at_once(fail, SystemExit(1))


async def test_a_call_that_is_cleared_away_is_no_failure() -> None:
    """So ends what was going on in an event loop that nothing runs any more."""
    calls = list[str]()

    async def wait() -> None:
        await asyncio.sleep(0)

    async def work() -> None:
        with suppress(RuntimeError):
            await call(wait)
        calls.append("goes on")

    working = work()
    working.send(None)
    working.close()
    assert calls == []
