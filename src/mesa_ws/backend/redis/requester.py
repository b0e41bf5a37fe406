"""Requesters over Redis: each has a channel on which the replies of nodes arrive."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar
from uuid import uuid4

from ...concurrency.retry import LimitedWarning
from ...errors import BackendUnavailable, TimedOut
from ...messages.envelope import Envelope
from ...messages.receipt import Receipt
from ...messages.request import MAX_BLOCKING_REQUESTS, Reply, Tally, addressed, asked_nodes
from ..pending import Pending, Quota, late
from ..redis_client.address import Address
from ..redis_client.batch import Operation
from ..redis_client.command import Command
from ..redis_client.connection import (
    BlockingConnection,
    disconnect_on_error,
    read_reply,
    remaining,
    set_limit,
)
from ..redis_client.failures import FOREIGN, failed_call, raise_first
from ..redis_client.subscriber import Subscriber
from .keys import Keys

T = TypeVar("T")

_log = logging.getLogger("mesa_ws.backend")

CHECK = 1.0
"""Seconds in which a subscription has to give a sign of life; at most half of a request's time."""


class Requester:
    """Requester of one event loop. It subscribes with the first request, until it is closed.

    A subscription that was silently cut off receives nothing, and every request would time out. So a
    subscription that was silent for long, or while a request timed out, is checked before the next
    request, and replaced if it gives no sign of life.
    """

    def __init__(
        self,
        address: Address,
        replies: Callable[[str], str],
        dispatch: Callable[[list[Envelope]], Awaitable[list[Receipt]]],
        timeout: float,
    ) -> None:
        self._address = address
        self._dispatch = dispatch
        self._name = uuid4().hex
        self._channel = replies(self._name)
        self._timeout = timeout
        self._pending = Pending()
        self._subscriber: Subscriber | None = None
        self._turn = asyncio.Lock()
        self._trusted_until = 0.0
        self._is_closed = False
        self._broken = LimitedWarning()

    async def request(self, request: Envelope, timeout: float) -> bytes:
        """Send a request, and wait for its answer; see `AsyncBus.request`."""
        began = time.monotonic()
        try:
            return await self._pending.ask(request, self._name, timeout, partial(self._ask, timeout))
        except TimedOut:
            if self._trusted_until < began + self._address.max_idle:  # nothing arrived during the request
                self._trusted_until = 0.0
            raise

    async def aclose(self) -> None:
        """Fail pending requests, and unsubscribe."""
        self._is_closed = True
        self._pending.close()
        subscriber, self._subscriber = self._subscriber, None
        if subscriber is not None:
            await subscriber.aclose()

    def abandon(self) -> None:
        """Close the connection after the event loop was closed. Never waits."""
        self._is_closed = True
        subscriber, self._subscriber = self._subscriber, None
        if subscriber is not None:
            subscriber.abandon()

    async def _ask(self, timeout: float, question: Envelope) -> Receipt:
        await self._listen(min(CHECK, timeout / 2))
        [receipt] = await self._dispatch([question])
        return receipt

    async def _listen(self, patience: float) -> None:
        """Subscribe, unless that was done; without a subscription no reply arrives.

        Args:
            patience: seconds for a sign of life from a subscription that was silent for long.
        """
        async with self._turn:
            if self._subscriber is not None and time.monotonic() >= self._trusted_until:
                await self._check(self._subscriber, patience)
            subscriber = self._subscriber
            if subscriber is None:
                subscriber = self._subscriber = await self._subscribed()
                self._trust()
        if not subscriber.is_subscribed:
            raise BackendUnavailable(f"{self._address.label}: cut off from the replies to requests")

    async def _check(self, subscriber: Subscriber, timeout: float) -> None:
        """Drop a subscription that gives no sign of life in time; a cancelled check counts as none."""
        is_alive = False
        try:
            is_alive = await subscriber.is_alive(timeout)
        finally:
            if is_alive:
                self._trust()
            else:
                self._subscriber = None
                await subscriber.aclose()

    async def _subscribed(self) -> Subscriber:
        subscriber = Subscriber(self._address, [self._channel], self._take, _nothing, self._timeout)
        await subscriber.open()
        if self._is_closed:
            await subscriber.aclose()
            raise BackendUnavailable(f"{self._address.label}: the dispatcher is closed")
        return subscriber

    def _trust(self) -> None:
        self._trusted_until = time.monotonic() + self._address.max_idle

    def _take(self, frame: bytes) -> None:
        self._trust()
        reply = Reply.read(frame)
        if reply is not None:
            self._pending.take(reply)
        else:
            self._broken.warn(_log, "ignored %d bytes on %r, which are no reply", len(frame), self._channel)


class BlockingRequester:
    """Requester for threads; each request waits on a connection of its own."""

    def __init__(
        self,
        address: Address,
        replies: Callable[[str], str],
        dispatching: Callable[[list[Envelope]], Operation[list[Receipt]]],
        run: Callable[[Operation[list[Receipt]], float], list[Receipt]],
    ) -> None:
        self._address = address
        self._replies = replies
        self._dispatching = dispatching
        self._run = run
        self._quota = Quota(MAX_BLOCKING_REQUESTS)

    def request(self, request: Envelope, timeout: float) -> bytes:
        """Send a request, and wait for its answer; see `AsyncBus.request`."""
        deadline = time.monotonic() + timeout
        question = addressed(request, request.message_id, timeout)
        with self._quota.one():
            connection = self._listening(self._replies(request.message_id), timeout, deadline)
            try:
                [receipt] = self._run(self._dispatching([question]), deadline)
                reply = _settled(connection, question, asked_nodes(question, receipt), deadline)
            except FOREIGN as error:
                if remaining(deadline) <= _NO_TIME:
                    raise late(timeout) from error
                raise failed_call(self._address.label, error, maybe_sent=True) from error
            finally:
                connection.disconnect()
        return reply.result()

    def _listening(self, channel: str, timeout: float, deadline: float) -> BlockingConnection:
        """Return a connection on which replies arrive."""
        try:
            connection = self._address.connect(timeout)
            with disconnect_on_error(connection):
                set_limit(connection, deadline)
                connection.send_packed_command(connection.pack_commands([("SUBSCRIBE", channel)]))
                raise_first([read_reply(connection, deadline)])
        except FOREIGN as error:
            raise self._address.failed(error) from error
        return connection


def replying(keys: Keys, requester: str, reply: Reply) -> Command:
    """Return the command that sends a reply to its requester."""
    return ("PUBLISH", keys.replies(requester), reply.write())


_NO_TIME = 0.01
"""Remaining seconds that are too few to wait for."""


def _settled(connection: BlockingConnection, question: Envelope, nodes: int, deadline: float) -> Reply:
    """Read replies until one settles the request.

    Raises:
        redis.RedisError, OSError: no reply settled it before the deadline.
    """
    tally = Tally()
    tally.expect(nodes)
    while tally.outcome is None:
        set_limit(connection, deadline)
        reply = _reply(connection.read_response())
        if reply is not None and reply.request == question.message_id:
            tally.take(reply)
    return tally.outcome


def _reply(response: object) -> Reply | None:
    match response:
        case [b"message", _, bytes(frame)]:
            return Reply.read(frame)
    return None


def _nothing() -> None:
    """Ignore a restored subscription: requests whose replies were missed time out."""
