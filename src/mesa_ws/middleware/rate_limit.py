"""Rate limiting of the messages that a client sends."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, ClassVar, Literal
from weakref import WeakKeyDictionary

import msgspec

from ..close import CloseCode
from ..errors import ConnectionClosed, RequestError
from ..messages.message import Message
from ..server.connection import Connection
from ..server.middleware import Middleware
from ..settings import Count, Settings

Excess = Literal["refuse", "drop", "close"]
"""What happens to a message over the limit."""


class _Limit(Settings, frozen=True, kw_only=True):
    _prefix: ClassVar[str] = "rate_limit."
    rate: Annotated[float, msgspec.Meta(gt=0, le=1e9, description="messages a second, more than 0")]
    burst: Count
    excess: Annotated[Excess, msgspec.Meta(description="'refuse', 'drop' or 'close'")]


class _Bucket:
    """The tokens that a client has left."""

    __slots__ = ("at", "tokens")

    def __init__(self, tokens: float, at: float) -> None:
        self.tokens = tokens
        self.at = at


class RateLimit(Middleware):
    """Lets each connection send `rate` messages a second, and `burst` of them at once.

    Each connection has a token bucket: it begins with `burst` tokens and gains `rate` a second up to
    that; a message costs one. Heartbeats, acknowledgements and logins cost none. A message over the
    limit is not handled.

    Args:
        rate: messages a second; may be a fraction.
        burst: messages at once; at least 1.
        excess: what happens to messages over the limit. `refuse` answers with a message of type
            `RATE_LIMITED` and data `{"retry_after": seconds, "t": type}`; `drop` answers nothing;
            `close` ends the connection with 1013, after which the client may come back. A request
            fails with the code `rate_limited`.
        clock: returns the time in seconds.

    Attributes:
        exceeded: messages that were over the limit, in this process.

    Raises:
        InvalidSettings: an argument is wrong.
    """

    def __init__(
        self,
        rate: float,
        burst: int,
        excess: Excess = "refuse",
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = _Limit(rate=rate, burst=burst, excess=excess)
        self.exceeded = 0
        self._clock = clock
        self._buckets: WeakKeyDictionary[Connection, _Bucket] = WeakKeyDictionary()

    async def before_message(self, message: Message, connection: Connection) -> Message | None:
        """Pass a message on if there is a token for it."""
        missing = self._take(connection)
        if missing <= 0:
            return message
        self.exceeded += 1
        if self._limit.excess == "close":
            connection.disconnect(CloseCode.TRY_AGAIN_LATER)
            return None
        pause = round(missing / self._limit.rate, 3)
        if self._limit.excess == "refuse":
            with suppress(ConnectionClosed):
                connection.send(Message(0, {"retry_after": pause, "t": message.type}, "RATE_LIMITED"))
        raise RequestError(f"too many messages; try again in {pause:g} seconds", "rate_limited")

    def _take(self, connection: Connection) -> float:
        """Take a token; return the missing part of one, or 0."""
        now = self._clock()
        bucket = self._buckets.get(connection)
        if bucket is None:
            bucket = self._buckets[connection] = _Bucket(self._limit.burst, now)
        bucket.tokens = min(self._limit.burst, bucket.tokens + (now - bucket.at) * self._limit.rate)
        bucket.at = now
        if bucket.tokens < 1:
            return 1 - bucket.tokens
        bucket.tokens -= 1
        return 0.0
