"""Accepting connections, as far as the errors of a system go that tests cannot bring about."""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from mesa_ws.transports import listening
from mesa_ws.transports.listening import Acceptor


class Failing(socket.socket):
    """A listening socket on which so many accepts fail."""

    number = 0
    left = 0
    tries = 0

    def accept(self) -> tuple[socket.socket, object]:
        self.tries += 1
        if self.left:
            self.left -= 1
            raise OSError(self.number, os.strerror(self.number))
        return super().accept()


@pytest.fixture
def listener() -> Iterator[Failing]:
    with Failing() as listener:
        listener.setblocking(False)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener


async def accepted(listener: Failing) -> None:
    """Accept one connection, whatever fails before."""
    came = asyncio.Event()

    async def arrive(connection: socket.socket) -> None:
        connection.close()
        came.set()

    acceptor = Acceptor([listener], arrive, who="clients", reserve=1)
    acceptor.start()
    with socket.create_connection(listener.getsockname()):
        async with asyncio.timeout(10):
            await came.wait()
    acceptor.close()
    await acceptor.wait_closed()


async def test_a_connection_that_failed_before_it_was_accepted_is_passed_over(
    listener: Failing, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    listener.number, listener.left = errno.ECONNABORTED, 3
    await accepted(listener)
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EMFILE, "no room for new clients (too many open files): they wait until others leave"),
        (errno.EACCES, "cannot accept new clients (permission denied): they wait, and it is tried again"),
    ],
)
async def test_an_error_that_lasts_is_told_once_and_not_tried_again_at_once(
    number: int,
    says: str,
    listener: Failing,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(listening, "RETRY", 0.05)
    listener.number, listener.left = number, 3
    await accepted(listener)
    assert [message.startswith(says) for message in caplog.messages] == [True]
    assert listener.tries in {4, 5}  # one that finds that there are no others


async def test_a_server_that_has_too_much_to_do_lets_clients_wait_but_not_for_ever(
    listener: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the longest rest, one burst is let in, although there is still too much to do."""
    monkeypatch.setattr(listening, "LONGEST_REST", 0.1)
    monkeypatch.setattr(listening, "BURST", 2)
    came, looks = asyncio.Semaphore(0), 0

    async def arrive(connection: socket.socket) -> None:
        connection.close()
        came.release()

    def is_busy() -> bool:
        nonlocal looks
        looks += 1
        return looks < 1000

    acceptor = Acceptor([listener], arrive, who="clients", reserve=1, is_busy=is_busy)
    acceptor.start()
    found = []
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        async with asyncio.timeout(10):
            for _ in range(3):
                await came.acquire()
                found.append(looks)
    first, second, third = found
    assert 1 < first == second < third < 1000
    acceptor.close()
    await acceptor.wait_closed()


class Clock:
    """An event loop whose time a test advances."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.now = 0.0
        self.due: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, call: Callable[..., None], *args: object) -> None:
        self.due.append((self.now + seconds, partial(call, *args)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


async def test_so_many_connections_are_accepted_in_a_second_and_at_once(
    listener: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, came = Clock(), []
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: clock)

    async def arrive(connection: socket.socket) -> None:
        connection.close()
        came.append(clock.now)

    acceptor = Acceptor([listener], arrive, who="clients", reserve=1, pace=4)
    monkeypatch.undo()
    with ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        acceptor.start()
        async with asyncio.timeout(10):
            while len(came) < 12:
                for _ in range(3):
                    await asyncio.sleep(0)  # until those that were accepted have come
                if clock.due:
                    [(clock.now, watch)] = clock.due
                    clock.due.clear()
                    if len(came) == 6:
                        clock.now += 100.0
                    watch()
    assert came == [*[0.0] * 4, 0.25, 0.5, *[100.75] * 4, 101.0, 101.25]
    acceptor.close()
    await acceptor.wait_closed()
