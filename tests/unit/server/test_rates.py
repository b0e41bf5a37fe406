"""Which messages are over a limit, and what becomes of them."""

import logging
from collections.abc import Collection, Iterator
from typing import Any

import pytest

from mesa_ws.concurrency.limited_log import LimitedLog
from mesa_ws.messages.frames import RawFrame
from mesa_ws.messages.recipients import User
from mesa_ws.protocol.events import Waiting
from mesa_ws.server.rates import BATCH, ClientRates, Meter, RateLimit, Scope
from mesa_ws.settings import Excess, Rates

ALICE, BOB = User("alice"), User("bob")


class Time:
    """A time that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def message(type: str | None = "X", size: int = 10, request: str = "") -> Waiting:
    return Waiting(RawFrame(t=type), size, request)


def rates(*limits: RateLimit, **settings: Any) -> ClientRates:
    """The limits of a node, by default without those of every server."""
    numbers = ("messages_per_connection", "bytes_per_connection", "messages_per_id", "bytes_per_id")
    given = Rates(**(dict.fromkeys(numbers) | settings))  # type: ignore[arg-type]
    found = ClientRates(given, LimitedLog(logging.getLogger("mesa_ws.server")))
    found.limits.extend(limits)
    return found


def limit(
    time: Time,
    rate: float = 2,
    burst: int = 3,
    excess: Excess = "drop",
    *,
    types: Collection[str] | None = None,
    per: Scope = "connection",
    bytes: float | None = None,
) -> RateLimit:
    return RateLimit(rate, burst, excess, types=types, per=per, bytes=bytes, clock=time)


def waits(meter: Meter, *messages: Waiting, user: User | None = None) -> Iterator[float]:
    """For each message the seconds after which it would not be over a limit."""
    for each in messages:
        over = meter.over(each, user)
        yield over.wait if over is not None else 0.0


def test_a_burst_is_let_through_and_then_so_many_a_second(time: Time) -> None:
    meter = Meter(rates(limit(time)))
    assert list(waits(meter, *[message()] * 5)) == [0, 0, 0, 0.5, 0.5]
    time.now += 0.5
    assert list(waits(meter, *[message()] * 3)) == [0, 0.5, 0.5]
    time.now += 0.2
    assert list(waits(meter, message())) == pytest.approx([0.3])
    time.now += 3600
    assert list(waits(meter, *[message()] * 4)) == [0, 0, 0, 0.5]


def test_bytes_are_limited_for_as_many_seconds_as_messages(time: Time) -> None:
    meter = Meter(rates(limit(time, rate=100, burst=200, bytes=50)))
    assert list(waits(meter, *[message(size=40)] * 3)) == pytest.approx([0, 0, 0.4])
    time.now += 0.4
    assert list(waits(meter, message(size=40))) == [0]


def test_a_message_that_is_larger_than_a_bucket_takes_all_of_it(time: Time) -> None:
    meter = Meter(rates(limit(time, rate=100, burst=200, bytes=50)))
    assert list(waits(meter, message(size=1000), message(size=1))) == pytest.approx([0, 18.02])
    time.now += 18.02
    assert list(waits(meter, message(size=1), message(size=1000))) == pytest.approx([0, 2])


def test_messages_that_are_delayed_take_their_tokens_in_order(time: Time) -> None:
    meter = Meter(rates(limit(time, excess="delay")))
    assert list(waits(meter, *[message()] * 6)) == [0, 0, 0, 0.5, 1, 1.5]


def test_connections_of_one_id_share_and_others_have_their_own(time: Time) -> None:
    of_ids = limit(time, per="id")
    one = rates(of_ids)
    first, second, other = Meter(one), Meter(one), Meter(one)
    assert list(waits(first, *[message()] * 100)) == [0] * 100  # not logged in
    assert list(waits(first, *[message()] * 2, user=ALICE)) == [0] * 2
    assert list(waits(second, *[message()] * 2, user=ALICE)) == [0, 0.5]
    assert list(waits(other, *[message()] * 3, user=BOB)) == [0] * 3
    assert list(waits(first, message(), user=User("alice", {"again": True}))) == [0.5]
    assert list(waits(first, message(), user=BOB)) == [0.5]
    assert len(of_ids._of_ids) == 2
    del first, other
    assert len(of_ids._of_ids) == 1


def test_a_connection_keeps_its_bucket_after_another_login(time: Time) -> None:
    meter = Meter(rates(limit(time)))
    assert list(waits(meter, *[message()] * 3, user=ALICE)) == [0] * 3
    assert list(waits(meter, message(), user=BOB)) == [0.5]


def test_a_limit_may_hold_for_some_types(time: Time) -> None:
    meter = Meter(rates(limit(time, burst=1, types=["TYPING", "CURSOR"])))
    sent = [message("TYPING"), message(None), message("CURSOR"), message("CHAT"), message("TYPING")]
    assert list(waits(meter, *sent)) == [0, 0, 0.5, 0, 0.5]


def test_the_first_limit_that_does_not_delay_decides_and_else_the_longest_delay(time: Time) -> None:
    slow, slower = limit(time, 2, 1, "delay"), limit(time, 1, 1, "delay")
    assert list(waits(Meter(rates(slow, slower)), message(), message())) == [0, 1]
    assert list(waits(Meter(rates(slower, slow)), message(), message())) == [0, 1]
    dropping = limit(time, 4, 1, "drop")
    assert list(waits(Meter(rates(slow, dropping)), message(), message())) == [0, 0.25]


@pytest.mark.parametrize(
    ("excess", "of_messages", "of_requests"),
    [
        ("delay", "delay", "delay"),
        ("error", "delay", "error"),
        ("drop", "drop", "error"),
        ("close", "close", "close"),
    ],
)
def test_requests_get_an_answer_and_nothing_is_dropped_unless_asked_for(
    time: Time, excess: Excess, of_messages: Excess, of_requests: Excess
) -> None:
    found = limit(time, excess=excess)
    assert (found.excess_of(message()), found.excess_of(message(request="1"))) == (of_messages, of_requests)


def test_the_limits_of_every_server_take_the_tokens_of_many_messages_at_once(time: Time) -> None:
    node = rates(messages_per_connection=2000, burst=10)
    node.of_all[0]._clock = time
    meter = Meter(node)
    taken = [each.take for each in node.of_all]
    calls = 0

    def count(*args: Any, **options: Any) -> float:
        nonlocal calls
        calls += 1
        return taken[0](*args, **options)

    node.of_all[0].take = count  # type: ignore[method-assign]
    found = list(waits(meter, *[message()] * 20_000))
    assert calls == -(-20_000 // BATCH)
    assert found.count(0) == 20_000 - 1
    assert 20_000 - BATCH <= next(n for n, wait in enumerate(found) if wait) < 20_000
    time.now += 3600
    assert not any(waits(meter, *[message()] * 10_000))


@pytest.mark.parametrize("largest", [None, 2**31])
def test_a_server_without_numbers_or_with_the_largest_limits_nothing(largest: int | None) -> None:
    node = rates(messages_per_connection=largest, messages_per_id=largest, bytes_per_id=largest)
    assert not any(waits(Meter(node), *[message(size=1024 * 1024)] * 1000, user=ALICE))


def test_each_number_of_a_server_is_a_limit(time: Time) -> None:
    messages = {"messages_per_connection": 3, "messages_per_id": 2}
    sizes = {"bytes_per_connection": 30, "bytes_per_id": 20}
    for name, number in (messages | sizes).items():
        node = rates(**{name: number}, burst=2)
        for each in node.of_all:
            each._clock = time
        found = list(waits(Meter(node), *[message()] * 10, user=ALICE))
        most = 2 * (number if name.startswith("messages") else number // 10)
        assert not any(found[: most - 1])
        assert all(found[most:])


def test_large_messages_take_the_tokens_of_their_bytes(time: Time) -> None:
    node = rates(bytes_per_connection=1024 * 1024, burst=10)
    node.of_all[0]._clock = time
    found = list(waits(Meter(node), *[message(size=1024 * 1024)] * 12))
    assert [round(wait, 1) for wait in found] == [0] * 9 + [0.1, 1.1, 2.1]
