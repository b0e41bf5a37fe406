"""Threads for plain functions."""

import threading
from concurrent.futures import wait

import pytest

from mesa_ws.handlers.threads import Threads

LIMIT = 30.0


def test_functions_run_at_the_same_time_up_to_the_most() -> None:
    threads, both, seen = Threads(2, "test"), threading.Barrier(3), set[str]()

    def meet() -> None:
        seen.add(threading.current_thread().name)
        both.wait(LIMIT)

    met = [threads.submit(meet) for _ in range(4)]
    for _ in range(2):
        both.wait(LIMIT)
    wait(met, LIMIT)
    assert len(seen) == 2
    threads.shutdown()


def test_what_a_function_raises_is_for_who_waits() -> None:
    threads = Threads(1, "test")

    def fail() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        threads.submit(fail).result(LIMIT)
    assert threads.submit(lambda: 7).result(LIMIT) == 7
    threads.shutdown()


def test_what_was_cancelled_before_its_turn_is_not_called() -> None:
    threads, go, called = Threads(1, "test"), threading.Event(), list[int]()
    first = threads.submit(lambda: go.wait(LIMIT))
    second = threads.submit(lambda: called.append(2))
    third = threads.submit(lambda: called.append(3))
    assert second.cancel()
    go.set()
    third.result(LIMIT)
    assert first.result(LIMIT)
    assert called == [3]
    threads.shutdown()


def test_threads_end_when_they_are_shut_down() -> None:
    threads, found = Threads(1, "test"), list[threading.Thread]()
    threads.submit(lambda: found.append(threading.current_thread())).result(LIMIT)
    threads.shutdown()
    found[0].join(LIMIT)
    assert not found[0].is_alive()


def test_what_has_not_begun_when_they_are_shut_down_is_cancelled() -> None:
    threads, go, begun = Threads(1, "test"), threading.Event(), threading.Event()

    def work() -> bool:
        begun.set()
        return go.wait(LIMIT)

    first, second = threads.submit(work), threads.submit(lambda: 2)
    assert begun.wait(LIMIT)
    threads.shutdown()
    go.set()
    assert first.result(LIMIT)
    assert second.cancelled()
