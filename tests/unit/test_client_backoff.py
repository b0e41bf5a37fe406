"""How long a client waits before it comes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesa_ws.client.backoff import Backoff
from mesa_ws.client_settings import Reconnection

TRIES = 200


@pytest.fixture(params=[0.0, 1.0], ids=["least", "most"])
def luck(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """What chance decides, as a part of what it may."""
    part: float = request.param
    monkeypatch.setattr("random.uniform", lambda low, high: low + part * (high - low))
    return part


def pauses(settings: Reconnection, announced: float | None, count: int) -> list[float]:
    backoff = Backoff(settings)
    return [backoff.next(announced) for _ in range(count)]


def test_the_announced_interval_is_waited_for_and_the_rest_doubles(luck: float) -> None:
    assert pauses(Reconnection(), 2.0, 4) == [2 + luck * 2, 2 + luck * 4, 2 + luck * 8, 2 + luck * 16]


def test_without_an_announced_interval_it_is_one_second(luck: float) -> None:
    assert pauses(Reconnection(), None, 2) == [1 + luck, 1 + luck * 2]


def test_the_application_has_the_last_word(luck: float) -> None:
    assert pauses(Reconnection(interval=3.0), 2.0, 1) == [3 + luck * 3]


def test_a_good_connection_starts_it_over(luck: float) -> None:
    backoff = Backoff(Reconnection())
    backoff.next(1.0)
    backoff.next(1.0)
    backoff.reset()
    assert backoff.next(1.0) == 1 + luck


@given(
    interval=st.floats(0.001, 86_400),
    max_jitter=st.floats(0.001, 86_400),
    announced=st.none() | st.floats(0.001, 86_400),
)
def test_it_never_waits_less_than_the_interval_nor_more_than_the_jitter_allows(
    interval: float, max_jitter: float, announced: float | None
) -> None:
    settings = Reconnection(interval=interval, max_jitter=max_jitter)
    for pause in pauses(settings, announced, TRIES):
        assert interval <= pause <= interval + max_jitter


def test_two_clients_do_not_wait_alike() -> None:
    assert pauses(Reconnection(), 1.0, TRIES) != pauses(Reconnection(), 1.0, TRIES)
