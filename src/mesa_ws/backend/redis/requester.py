"""Requests over Redis: a channel of the requester's own, on which the replies of nodes come in."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar
from uuid import uuid4

from ...errors import BackendUnavailable, TimedOut
from ...messages.envelope import Envelope
from ...messages.receipt import Receipt
from ...messages.request import MAX_BLOCKING_REQUESTS, Reply, Tally, addressed, asked_nodes
from ..pending import Pending, Quota, late
from ..redis_client.address import Address
from ..redis_client.command import Command
from ..redis_client.connection import (
    FOREIGN,
    BlockingConnection,
    failed_call,
    raise_first,
    read_reply,
    remaining,
    set_limit,
)
from ..redis_client.pipeline import Operation
from ..redis_client.subscriber import Subscriber
from .dispatch import dispatching
from .keys import Keys

T = TypeVar("T")

CHECK = 1.0
"""Seconds in which a subscription has to show that it is alive, at most half of a request's time."""


class Requester:
    """Asks from one event loop. Subscribes when the first request is made, and stays so until closed.

    Of a subscription that was cut off in silence nothing is heard, and every request would run out
    of time. So one that has been silent for long, or as long as a request waited, is checked before
    the next request, and replaced if it gives no sign of life.

    Args:
        address: where to connect.
        keys: names of the namespace.
        dispatch: hands envelopes over.
        timeout: seconds for connecting and subscribing.
    """

    def __init__(
        self,
        address: Address,
        keys: Keys,
        dispatch: Callable[[list[Envelope]], Awaitable[list[Receipt]]],
        timeout: float,
    ) -> None:
        self._address = address
        self._dispatch = dispatch
        self._name = uuid4().hex
        self._channel = keys.replies(self._name)
        self._timeout = timeout
        self._pending = Pending()
        self._subscriber: Subscriber | None = None
        self._turn = asyncio.Lock()
        self._trusted_until = 0.0
        self._is_closed = False

    async def request(self, request: Envelope, timeout: float) -> bytes:
        """Ask, and wait for an answer; see `AsyncBus.request`."""
        began = time.monotonic()
        try:
            return await self._pending.ask(request, self._name, timeout, partial(self._ask, timeout))
        except TimedOut:
            if self._trusted_until < began + self._address.max_idle:  # nothing was heard meanwhile
                self._trusted_until = 0.0
            raise

    async def aclose(self) -> None:
        """Let calls fail, and listen no more."""
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
        """Subscribe, if that was not done; without, no reply would arrive.

        Args:
            patience: seconds for a sign of life of a subscription that was silent for long.
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
        """Part with a subscription that gives no sign of life in time; cancelling counts as none."""
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


class BlockingRequester:
    """Asks from threads; each request has a connection of its own, on which it waits.

    Args:
        address: where to connect.
        keys: names of the namespace.
        run: carries out an operation before a deadline of the monotonic clock.
    """

    def __init__(
        self, address: Address, keys: Keys, run: Callable[[Operation[list[Receipt]], float], list[Receipt]]
    ) -> None:
        self._address = address
        self._keys = keys
        self._run = run
        self._quota = Quota(MAX_BLOCKING_REQUESTS)

    def request(self, request: Envelope, timeout: float) -> bytes:
        """Ask, and wait for an answer; see `AsyncBus.request`."""
        deadline = time.monotonic() + timeout
        question = addressed(request, request.message_id, timeout)
        with self._quota.one():
            connection = self._listening(self._keys.replies(request.message_id), timeout, deadline)
            try:
                [receipt] = self._run(dispatching(self._keys, [question]), deadline)
                reply = _settled(connection, question, asked_nodes(question, receipt), deadline)
            except FOREIGN as error:
                if remaining(deadline) <= _NO_TIME:
                    raise late(timeout) from error
                raise failed_call(self._address.label, error, maybe_sent=True) from error
            finally:
                connection.disconnect()
        return reply.result()

    def _listening(self, channel: str, timeout: float, deadline: float) -> BlockingConnection:
        """A connection on which replies come in."""
        try:
            connection = self._address.connect(timeout)
            try:
                set_limit(connection, deadline)
                connection.send_packed_command(connection.pack_commands([("SUBSCRIBE", channel)]))
                raise_first([read_reply(connection, deadline)])
            except BaseException:
                connection.disconnect()
                raise
        except FOREIGN as error:
            raise self._address.failed(error) from error
        return connection


def replying(keys: Keys, requester: str, reply: Reply) -> Command:
    """The command that brings a reply to its requester."""
    return ("PUBLISH", keys.replies(requester), reply.write())


_NO_TIME = 0.01
"""Seconds that are not worth to wait for."""


def _settled(connection: BlockingConnection, question: Envelope, nodes: int, deadline: float) -> Reply:
    """Read replies until one settles the request.

    Raises:
        redis.RedisError, OSError: none did before the deadline.
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
    """Replies that were missed mean that their requests wait until their time is over."""
