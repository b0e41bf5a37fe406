"""What a backend knows of itself and of its cluster, for metrics; see `middleware.families`."""

from typing import NamedTuple, Protocol, runtime_checkable

from .inbox import Backlog
from .redis_client.batch import CallMeter


class RedisStatistics(NamedTuple):
    """How the connections of one node to Redis are.

    Attributes:
        is_connected: whether the node hears its channel and has its lease.
        reconnects: connections that took the place of a lost one, since the node was opened.
        calls: how long calls took, and how many failed.
        frames_lost: messages for this node that Redis published and that never arrived, as far as is known.
    """

    is_connected: bool
    reconnects: int
    calls: CallMeter
    frames_lost: int


class Memory(NamedTuple):
    """Memory of a Redis, in bytes; a `limit` of 0 is none."""

    used: int
    limit: int


@runtime_checkable
class OverRedis(Protocol):
    """A backend over Redis, on either wire."""

    def statistics(self) -> RedisStatistics:
        """Return how the connections are; at any time, also from another thread."""
        ...

    async def memory(self) -> Memory:
        """Ask Redis how much memory it uses.

        Raises:
            BackendError: Redis did not answer, or its user may not ask.
        """
        ...


@runtime_checkable
class WithBacklog(Protocol):
    """A backend that keeps the events of clients for portals."""

    async def backlog(self) -> Backlog:
        """Return which events wait for portals, over all servers; see `PortalConsumer.backlog`."""
        ...
