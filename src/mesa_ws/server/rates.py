"""Rates: how many messages and bytes clients may send in a second, and what happens beyond.

Each limit has a token bucket for each connection, or for each id on this node. A message takes its tokens
when its turn has come, before it is decoded. While a message waits for its tokens, those behind it wait in
the receive queue; when that is full, the server stops reading the client. So the order stays, nothing is
lost, and heartbeats, acknowledgements and answers are handled as usual.

A bucket is two times: when it will be full again, of messages and of bytes. Buckets live as long as the
connections that have sent something. The limits of every server are so generous that a connection takes the
tokens of many messages at once: then a message costs it two subtractions.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import Annotated, ClassVar, Literal, NamedTuple
from weakref import WeakValueDictionary

import msgspec

from ..close import CloseCode
from ..concurrency.limited_log import LimitedLog
from ..messages.recipients import User
from ..messages.request import Failure
from ..protocol.correlation import failing
from ..protocol.events import Close, Waiting
from ..settings import Excess, ExcessSetting, Rate, Rates, Settings, Types
from .portal_forwarding import Sender

Scope = Literal["connection", "id"]
"""What has a bucket of its own."""

BATCH = 256
BATCH_SIZE = 64 * 1024
"""Messages and bytes whose tokens a connection takes at once, at most."""

_SHARE = 16
"""Batches in a full bucket, at least."""

_UNLIMITED = 1e9
"""Messages a second that no client can send."""

_ROUNDING = 1e-9
"""Seconds by which sums of floats may be wrong."""


class _Limit(Settings, frozen=True, kw_only=True):
    _prefix: ClassVar[str] = "rate_limit."
    rate: Rate
    burst: Annotated[float, msgspec.Meta(ge=1, description="a number of messages, 1 or more")]
    bytes: Rate | None
    types: Types | None
    per: Annotated[Scope, msgspec.Meta(description="'connection' or 'id'")]
    excess: ExcessSetting


class _Bucket:
    """The times at which a bucket will be full again."""

    __slots__ = ("__weakref__", "messages", "size")

    def __init__(self) -> None:
        self.messages = 0.0
        self.size = 0.0


class RateLimit:
    """Lets clients send `rate` messages a second, and `burst` of them at once: give it to `server.use`.

    It begins with `burst` tokens and gains `rate` a second up to that; a message or a request takes one.
    Heartbeats, acknowledgements, answers and logins take none. It holds besides the limits in
    `Server(rates=...)`.

    Args:
        rate: messages a second; may be a fraction.
        burst: messages at once; at least 1.
        excess: what happens to messages over the limit. `delay` handles them when there are tokens again, and
            stops reading the client when too many wait; nothing is lost. `error` answers requests with the
            code `busy`, and delays other messages. `drop` answers requests likewise, and drops other
            messages. `close` ends the connection with 4008, after which the client may come back.
        types: types of the messages that it holds for; None for all.
        per: what has the tokens: each `connection`, or each `id`, whose connections to this server share
            them; then it does not hold for clients that have not logged in.
        bytes: bytes a second of these messages; of them as many seconds' worth at once. None for no limit.
        clock: returns the time in seconds.

    Attributes:
        exceeded: messages that were over the limit, in this process.
        per: as given.

    Raises:
        InvalidSettings: an argument is wrong.
    """

    def __init__(
        self,
        rate: float,
        burst: float,
        excess: Excess = "delay",
        *,
        types: Collection[str] | None = None,
        per: Scope = "connection",
        bytes: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        names = types if types is None or isinstance(types, str) else tuple(types)
        given = {"rate": rate, "burst": burst, "excess": excess, "types": names, "per": per, "bytes": bytes}
        limit = _Limit.of(given)
        self.exceeded = 0
        self.per = limit.per
        self._limit = limit
        self._seconds = limit.burst / limit.rate
        self._types = None if limit.types is None else frozenset(limit.types)
        self._of_ids: WeakValueDictionary[str, _Bucket] = WeakValueDictionary()
        self._clock = clock

    def __repr__(self) -> str:
        limit = self._limit
        return (
            f"RateLimit(rate={limit.rate:g}, burst={limit.burst:g}, per={limit.per!r}, types={limit.types})"
        )

    @property
    def batch(self) -> tuple[int, int]:
        """Messages and bytes whose tokens may be taken at once."""
        messages = max(1, min(BATCH, int(self._limit.burst / _SHARE)))
        most = self._limit.bytes
        return messages, BATCH_SIZE if most is None else min(BATCH_SIZE, int(most * self._seconds / _SHARE))

    def holds_for(self, waiting: Waiting) -> bool:
        """Whether it is a limit for this message."""
        return self._types is None or waiting.frame.t in self._types

    def bucket(self, user_id: str | None) -> _Bucket | None:
        """Return the bucket for a connection that has none yet; None if it needs none."""
        if self.per == "connection":
            return _Bucket()
        return self._of_ids.setdefault(user_id, _Bucket()) if user_id is not None else None

    def excess_of(self, waiting: Waiting) -> Excess:
        """What happens to a message over the limit; requests always get an answer."""
        excess = self._limit.excess
        if waiting.request:
            return "error" if excess == "drop" else excess
        return "delay" if excess == "error" else excess

    def take(self, bucket: _Bucket, messages: int, size: int, *, on_credit: bool) -> float:
        """Take tokens, also before they are there if `on_credit`; return the seconds until they are there."""
        limit, now = self._limit, self._clock()
        of_messages = messages / limit.rate
        of_size = size / limit.bytes if limit.bytes is not None else 0.0
        messages_at, size_at = max(bucket.messages, now) + of_messages, max(bucket.size, now) + of_size
        largest = max(0.0, of_size - self._seconds)  # what is larger than the bucket takes all of it
        wait = max(messages_at, size_at - largest) - now - self._seconds
        if wait > _ROUNDING and not on_credit:
            return wait
        bucket.messages, bucket.size = messages_at, size_at
        return wait if wait > _ROUNDING else 0.0


class Over(NamedTuple):
    """A message is over a limit; it would not be in `wait` seconds."""

    limit: RateLimit
    wait: float


class ClientRates:
    """The limits of one node. For its event loop only.

    Args:
        settings: the limits that hold for all messages.
        log: gets a line a minute for each limit and what it does.

    Attributes:
        limits: those that the application has added.
        of_all: those of the settings.
        batch: messages and bytes whose tokens of these a connection takes at once.
        exceeded: messages that were over a limit, by what happened to them.
    """

    def __init__(self, settings: Rates, log: LimitedLog) -> None:
        self.log = log
        self.limits: list[RateLimit] = []
        self.exceeded: Counter[str] = Counter()
        self.of_all = [
            _of_all(settings, "connection", settings.messages_per_connection, settings.bytes_per_connection),
            _of_all(settings, "id", settings.messages_per_id, settings.bytes_per_id),
        ]
        batches = [limit.batch for limit in self.of_all]
        self.batch = min(messages for messages, _ in batches), min(size for _, size in batches)


def _of_all(settings: Rates, per: Scope, messages: int | None, size: int | None) -> RateLimit:
    """Return a limit of the settings; one without numbers limits nothing."""
    rate = messages if messages is not None else _UNLIMITED
    return RateLimit(rate, max(1.0, rate * settings.burst), settings.excess, per=per, bytes=size)


class Meter:
    """What one connection has sent, from its first message on. For the event loop only."""

    __slots__ = ("_buckets", "_limits", "_messages", "_rates", "_rest", "_size", "_user_id")

    def __init__(self, rates: ClientRates) -> None:
        self._rates = rates
        self._limits = rates.limits
        self._messages = 0  # tokens that were taken for later messages
        self._size = 0
        self._buckets: dict[RateLimit, _Bucket | None] = {}
        self._user_id: str | None = None
        self._rest: asyncio.Future[None] | None = None

    def over(self, waiting: Waiting, user: User | None) -> Over | None:
        """Take the tokens of a message of a client; return what limit it is over."""
        self._messages -= 1
        self._size -= waiting.size
        if self._messages >= 0 and self._size >= 0 and not self._limits:
            return None
        return self._take(waiting, user)

    async def admit(
        self, waiting: Waiting, over: Over, sender: Sender, turn_out: Callable[[Close], None]
    ) -> bool:
        """Delay a message that is over a limit, answer it, drop it or close the connection.

        Args:
            waiting: the message.
            over: what it is over.
            sender: its connection.
            turn_out: drops what the client has waiting, and closes its connection.

        Returns:
            Whether the message is to be handled.
        """
        limit, wait = over
        excess = limit.excess_of(waiting)
        limit.exceeded += 1
        self._rates.exceeded[excess] += 1
        self._rates.log.warning(
            "a message of %r is over %r: %s", sender, limit, excess, kind=(id(limit), excess)
        )
        if excess == "delay":
            if sender.is_open:
                await self._wait(wait)
            return True
        if excess == "close":
            turn_out(Close(CloseCode.RATE_LIMITED, f"over {limit!r}"))
        elif excess == "error" and sender.is_open:
            busy = Failure("busy", f"too many messages; try again in {round(wait, 3):g} seconds")
            sender.write(failing(busy, waiting.request))
        return False

    def wake(self) -> None:
        """Delay nothing any more: the connection has ended."""
        if self._rest is not None and not self._rest.done():
            self._rest.set_result(None)

    async def _wait(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._rest = loop.create_future()
        timer = loop.call_later(seconds, self.wake)
        try:
            await self._rest
        finally:
            timer.cancel()
            self._rest = None

    def _take(self, waiting: Waiting, user: User | None) -> Over | None:
        user_id = user.id if user is not None else None
        if user_id != self._user_id:
            self._user_id = user_id
            self._buckets = {limit: found for limit, found in self._buckets.items() if limit.per != "id"}
        taken = [(limit, 1, waiting.size) for limit in self._limits if limit.holds_for(waiting)]
        messages = size = 0
        if self._messages < 0 or self._size < 0:
            batch, batch_size = self._rates.batch
            messages, size = max(0, batch - 1 - self._messages), max(0, batch_size - self._size)
            taken += [(limit, messages, size) for limit in self._rates.of_all]
        longest: Over | None = None
        for limit, *tokens in taken:
            bucket = self._bucket(limit)
            is_delayed = limit.excess_of(waiting) == "delay"
            wait = limit.take(bucket, *tokens, on_credit=is_delayed) if bucket is not None else 0.0
            if wait and not is_delayed:
                self._messages += 1
                self._size += waiting.size
                return Over(limit, wait)
            if wait and (longest is None or wait > longest.wait):
                longest = Over(limit, wait)
        self._messages += messages
        self._size += size
        return longest

    def _bucket(self, limit: RateLimit) -> _Bucket | None:
        if limit not in self._buckets:
            self._buckets[limit] = limit.bucket(self._user_id)
        return self._buckets[limit]
