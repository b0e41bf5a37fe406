"""How long a client waits before it comes back, and others before they try again."""

import asyncio
import random
from itertools import pairwise
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesa_ws.concurrency.retry import SPREAD, Backoff, ReconnectBackoff, SpacedCall
from mesa_ws.settings import Reconnection

TRIES = 200
SEEDS = 1000


@pytest.fixture(params=[0.0, 1.0], ids=["least", "most"])
def luck(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """What chance decides, as a part of what it may."""
    part: float = request.param
    monkeypatch.setattr("random.uniform", lambda low, high: low + part * (high - low))
    return part


@pytest.fixture
def chance(monkeypatch: pytest.MonkeyPatch) -> random.Random:
    """The chance of this test alone; it is seeded for every run of a simulation."""
    own = random.Random()
    monkeypatch.setattr("random.uniform", own.uniform)
    return own


def pauses(settings: Reconnection, announced: float | None, count: int) -> list[float]:
    backoff = ReconnectBackoff(settings)
    return [backoff.next(announced) for _ in range(count)]


def return_time(outage: float, announced: float | None) -> float:
    """Simulate an outage; return the seconds from its end until a client is back."""
    backoff, now = ReconnectBackoff(Reconnection()), 0.0
    while now < outage:
        now += backoff.next(announced)
    return now - outage


def logins(period: float, lasted: float) -> int:
    """Count the logins in a period, where the server ends every connection after some seconds."""
    backoff, now, count = ReconnectBackoff(Reconnection()), 0.0, 0
    while now < period:
        count += 1
        backoff.lasted(lasted)
        now += lasted + backoff.next(None)
    return count


def test_the_announced_interval_is_waited_for_and_the_rest_doubles(luck: float) -> None:
    settings = Reconnection(max_pause=20)
    assert pauses(settings, 2.0, 5) == [2 + luck * each for each in (2, 4, 8, 16, 18)]


def test_without_an_announced_interval_it_is_one_second(luck: float) -> None:
    assert pauses(Reconnection(), None, 2) == [1 + luck, 1 + luck * 2]


def test_interval_and_random_time_together_are_five_seconds_at_most(luck: float) -> None:
    assert pauses(Reconnection(), None, 5) == [1 + luck * each for each in (1, 2, 4, 4, 4)]
    assert pauses(Reconnection(), 4.0, 2) == [4 + luck, 4 + luck]


def test_an_interval_beyond_that_comes_first_and_is_spread(luck: float) -> None:
    assert pauses(Reconnection(), 60.0, 2) == [60 + luck * 15] * 2


def test_the_longer_interval_counts(luck: float) -> None:
    assert pauses(Reconnection(interval=2.0), 1.0, 1) == [2 + luck * 2]
    assert pauses(Reconnection(interval=1.0), 2.0, 1) == [2 + luck * 2]
    assert ReconnectBackoff(Reconnection()).next(2.0, 8.0) == 8 + luck * 2


def test_the_time_a_server_asked_to_stay_away_comes_first(luck: float) -> None:
    backoff = ReconnectBackoff(Reconnection())
    assert [backoff.after(each) for each in (0.0, 2.0, 60.0)] == [luck, 2 + luck * 2, 60 + luck * 4]


def test_a_connection_that_lasted_starts_it_over(luck: float) -> None:
    backoff = ReconnectBackoff(Reconnection())
    backoff.next(1.0)
    backoff.next(1.0)
    backoff.lasted(5.1)
    assert backoff.next(1.0) == 1 + luck


@pytest.mark.parametrize(("announced", "lasted"), [(1.0, 5.0), (60.0, 59.0)])
def test_a_connection_shorter_than_the_pauses_does_not(luck: float, announced: float, lasted: float) -> None:
    backoff, other = ReconnectBackoff(Reconnection()), ReconnectBackoff(Reconnection())
    for each in (backoff, other):
        each.next(announced)
    backoff.lasted(lasted)
    assert backoff.next(1.0) == other.next(1.0)


def test_after_an_outage_half_of_the_clients_are_back_soon(chance: random.Random) -> None:
    times = []
    for seed in range(SEEDS):
        chance.seed(seed)
        times.append(return_time(20.0, None))
    assert median(times) < 2
    assert max(times) < 5


def test_clients_that_are_thrown_out_after_each_login_come_back_less_often(chance: random.Random) -> None:
    counts = []
    for seed in range(SEEDS):
        chance.seed(seed)
        counts.append(logins(25.0, lasted=0.0))
    assert median(counts) <= 10
    chance.seed(0)
    assert logins(10 * 6.0, lasted=5.5) >= 8  # connections that lasted cost no more than an interval


@given(
    interval=st.floats(0.001, 86_400),
    max_pause=st.floats(0.001, 86_400),
    announced=st.none() | st.floats(0.001, 86_400),
)
def test_it_never_waits_less_than_the_interval_nor_more_than_the_limit(
    interval: float, max_pause: float, announced: float | None
) -> None:
    longest = max(interval, announced or 0)
    for pause in pauses(Reconnection(interval=interval, max_pause=max_pause), announced, TRIES):
        assert longest <= pause <= max(max_pause, longest * (1 + SPREAD)) * (1 + 1e-9)


def test_two_clients_do_not_wait_alike() -> None:
    assert pauses(Reconnection(), 1.0, TRIES) != pauses(Reconnection(), 1.0, TRIES)


def test_a_backoff_grows_to_its_limit_and_starts_over_after_a_success(luck: float) -> None:
    backoff = Backoff(0.1, 0.5, factor=3)
    least = 1 - luck / 2
    assert [backoff.next() for _ in range(4)] == pytest.approx(
        [each * least for each in (0.1, 0.3, 0.5, 0.5)]
    )
    backoff.reset()
    assert backoff.next() == pytest.approx(0.1 * least)
    assert [Backoff(1, 2, jitter=0).next() for _ in range(2)] == [1, 1]


async def test_calls_that_are_asked_for_together_are_one_and_the_next_comes_after_the_pause() -> None:
    called = asyncio.Event()
    spaced = SpacedCall(called.set, 0.05)
    times = list[float]()
    for _ in range(3):
        spaced.soon()
        spaced.soon()
        async with asyncio.timeout(30):
            await called.wait()
        called.clear()
        times.append(asyncio.get_running_loop().time())
    assert all(after - before >= 0.04 for before, after in pairwise(times))
