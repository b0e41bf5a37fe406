"""Requests that wait for the replies of nodes, and the limits on their number."""

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
"""Sends a request to the nodes that hold its id."""


class Pending:
    """The pending requests of one requester, up to `MAX_REQUESTS` at a time. For one event loop.

    When a call ends, for whatever reason, nothing of its request is left here.
    """

    def __init__(self) -> None:
        self._requests: dict[str, tuple[Tally, asyncio.Future[Reply]]] = {}

    def __len__(self) -> int:
        return len(self._requests)

    async def ask(self, request: Envelope, requester: str, timeout: float, ask: Ask) -> bytes:
        """Send a request, and wait for the reply that settles it; see `AsyncBus.request`.

        Args:
            request: as it was prepared.
            requester: where nodes send their replies; the caller brings them to `take`.
            timeout: seconds for the whole call.
            ask: sends the request.
        """
        if len(self._requests) >= MAX_REQUESTS:
            raise too_many(MAX_REQUESTS)
        tally, settled = Tally(), asyncio.Future[Reply]()
        self._requests[request.message_id] = tally, settled
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                receipt = await ask(addressed(request, requester, timeout))
                tally.expect(asked_nodes(request, receipt))
                _settle(tally, settled)
                return (await settled).result()
        except TimeoutError as error:
            if not limit.expired() or isinstance(error, MesaError):
                raise
            raise late(timeout) from None
        finally:
            del self._requests[request.message_id]

    def take(self, reply: Reply) -> None:
        """Give a reply to its request; a reply to a request that does not wait is ignored."""
        if reply.request in self._requests:
            tally, settled = self._requests[reply.request]
            tally.take(reply)
            _settle(tally, settled)

    def close(self) -> None:
        """Fail all pending requests."""
        for _, settled in self._requests.values():
            if not settled.done():
                settled.set_exception(
                    BackendUnavailable("it was closed before the answer came", maybe_sent=True)
                )
                settled.exception()  # the caller may have given up, and never look at the error


def _settle(tally: Tally, settled: "asyncio.Future[Reply]") -> None:
    if tally.outcome is not None and not settled.done():
        settled.set_result(tally.outcome)


def late(timeout: float) -> TimedOut:
    """Return the error for a request that got no answer in time."""
    return TimedOut(
        f"request: no answer within {timeout:g} s; a client may handle it all the same, so repeat the "
        "request only if that does no harm"
    )


def too_many(most: int) -> TooManyRequests:
    """Return the error for a request that would exceed the limit on pending requests."""
    return TooManyRequests(
        f"request: expected up to {most} requests at a time, got another one; wait for some answers first"
    )


class Quota:
    """Limits the pending requests of all threads of this process; a forked process starts with none.

    Args:
        most: largest number of pending requests.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._of = self._mine()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count one request while the context lasts; raise `TooManyRequests` if the limit is reached."""
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
