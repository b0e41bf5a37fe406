"""The requests of one asker that wait for the replies of nodes."""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from ..errors import BackendUnavailable, MesaError, TimedOut, TooManyRequests
from ..messages.envelope import Envelope
from ..messages.receipt import Receipt
from ..messages.request import MAX_REQUESTS, Reply, Tally, addressed, asked_nodes

Ask = Callable[[Envelope], Awaitable[Receipt]]
"""Hands a request to the nodes that hold its id."""


class Pending:
    """Waits for replies, of up to `MAX_REQUESTS` requests at a time. For one event loop.

    Nothing is left of a request once its call has ended, however it did.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, _Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    async def ask(self, request: Envelope, asker: str, timeout: float, ask: Ask) -> bytes:
        """Hand over a request, and wait for what settles it; see `AsyncBus.request`.

        Args:
            request: as it was prepared.
            asker: where replies go, which brings them to `take`.
            timeout: seconds for all of it.
            ask: hands it over.
        """
        if len(self._waiting) >= MAX_REQUESTS:
            raise too_many(MAX_REQUESTS)
        waiting = self._waiting[request.message_id] = _Waiting()
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                receipt = await ask(addressed(request, asker, timeout))
                waiting.expect(asked_nodes(request, receipt))
                return (await waiting.outcome).result()
        except TimeoutError as error:
            if not limit.expired() or isinstance(error, MesaError):
                raise
            raise late(timeout) from None
        finally:
            del self._waiting[request.message_id]

    def take(self, reply: Reply) -> None:
        """A reply came; one to no request that waits is ignored."""
        waiting = self._waiting.get(reply.request)
        if waiting is not None:
            waiting.take(reply)

    def close(self) -> None:
        """Let every call fail."""
        for waiting in self._waiting.values():
            waiting.fail(BackendUnavailable("it was closed before the answer came", maybe_sent=True))


class _Waiting:
    """One request."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._tally = Tally()

    def expect(self, nodes: int) -> None:
        self._tally.expect(nodes)
        self._settle()

    def take(self, reply: Reply) -> None:
        self._tally.take(reply)
        self._settle()

    def fail(self, error: MesaError) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)
            self.outcome.exception()  # the call may have been given up, and nobody looks

    def _settle(self) -> None:
        if self._tally.outcome is not None and not self.outcome.done():
            self.outcome.set_result(self._tally.outcome)


def late(timeout: float) -> TimedOut:
    """What to raise when the time is over."""
    return TimedOut(
        f"request: expected an answer within {timeout:g} s, got none; it may be handled all the same"
    )


def too_many(most: int) -> TooManyRequests:
    """What to raise when no more requests may wait."""
    return TooManyRequests(
        f"request: expected up to {most} that wait for answers at a time, got one more; wait for some first"
    )


class Quota:
    """Counts requests of the threads of this process; a process that was forked begins with none.

    Args:
        most: that may wait at a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._of = self._mine()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count one while it lasts.

        Raises:
            TooManyRequests: there are as many already.
        """
        if self._of[0] != os.getpid():
            self._of = self._mine()
        _, free = self._of
        if not free.acquire(blocking=False):
            raise too_many(self._most)
        try:
            yield
        finally:
            free.release()

    def _mine(self) -> tuple[int, threading.BoundedSemaphore]:
        return os.getpid(), threading.BoundedSemaphore(self._most)
