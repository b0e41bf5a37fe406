"""What a node measures, and what waits because of it."""

import asyncio

import pytest

from mesa_ws.server.overload import WINDOW, LoginQueue, LoopLag


def test_a_lag_stays_high_until_it_is_half_of_what_is_allowed() -> None:
    lag = LoopLag(0.2)
    found = []
    for seconds in (0.1, 0.2, 0.3, 0.15, 0.11, 0.1, 0.15, 0.21):
        lag.seen(seconds, 0.0)
        found.append(lag.is_high)
    assert found == [False, False, True, True, True, False, False, True]


def test_the_longest_lag_is_forgotten_after_a_while() -> None:
    lag = LoopLag(1.0)
    lag.seen(0.5, 100.0)
    lag.seen(0.1, 100.0 + WINDOW)
    assert lag.longest == 0.5
    lag.seen(0.2, 100.0 + 2 * WINDOW)
    assert lag.longest == 0.2


async def test_a_turn_that_is_given_up_passes_on() -> None:
    logins, began, may_end = LoginQueue(1), list[int](), asyncio.Event()

    async def log_in(number: int) -> None:
        async with logins:
            began.append(number)
            await may_end.wait()

    first, second, third, fourth = [asyncio.create_task(log_in(number)) for number in range(4)]
    await asyncio.sleep(0)
    assert (began, len(logins.waiting)) == ([0], 3)
    second.cancel()
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)  # the turn is the third one's, which has not run yet
    third.cancel()
    may_end.set()
    await fourth
    assert began == [0, 3]
    assert (logins.under_way, len(logins.waiting)) == (0, 0)
    for task in (first, second, third):
        with pytest.raises(asyncio.CancelledError):
            await task
