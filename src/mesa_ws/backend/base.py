"""Ports: what a server node and a dispatcher need from whatever they share.

A backend is one process's seat in a cluster. Two kinds exist, and one contract suite runs over
both: `memory` (one process) and `redis` (any number of processes). A third, `http`, dispatches
through a server's API and offers `AsyncBus` alone.

| port | promise |
|---|---|
| `AsyncBus`, `BlockingBus` | a message reaches every node that holds a recipient, once each, in order |
| `Presence` | which ids have connections, and where; forgotten one lease after a node dies |
| `Outbox` | what is kept for ids that are away; not available in this version |
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, runtime_checkable

from ..envelope import Envelope, Receipt

Receive = Callable[[Envelope], None]
"""Called in the event loop for each envelope with a recipient here; must not block or raise."""


class AsyncBus(Protocol):
    """Hands envelopes to nodes. At most once; FIFO in the order in which calls start."""

    async def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Send `envelopes` in one round trip and say what became of each.

        Cancelling is safe: the envelopes may still be sent, and no other call sees their reply.

        Raises:
            BackendUnavailable: no answer within the time limit.
            BackendRefused: the backend said no.
        """
        ...

    async def aclose(self) -> None:
        """Release connections. Calls under way fail with `BackendUnavailable`."""
        ...


class BlockingBus(Protocol):
    """`AsyncBus` for threads: may be called from any of them, and after a fork. FIFO per thread."""

    def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Send `envelopes` in one round trip; errors as in `AsyncBus.dispatch`."""
        ...

    def close(self) -> None:
        """Release connections."""
        ...


class WhoIsOnline(Protocol):
    """Tells which ids are connected, as far as living nodes say so."""

    async def online(self, ids: Iterable[str]) -> dict[str, int]:
        """Count the connections of each id over all living nodes.

        Raises:
            BackendError: the backend did not answer.
        """
        ...


class Presence(WhoIsOnline, Protocol):
    """Declares which ids are connected to this node."""

    async def attach(self, id: str, sockets: int) -> None:
        """Declare that this node holds `sockets` (1 or more) connections of `id`.

        When this returns, every later dispatch to `id` reaches this node. Kept until `detach`,
        or until one lease after this node died; renewed by the backend itself, also after the
        node was paused past its lease or the backend lost its memory. If this raises or is
        cancelled, the declaration stands, and is made good when the backend can be reached again.

        Raises:
            BackendUnavailable: the backend gave no answer in time.
        """
        ...

    def detach(self, id: str) -> None:
        """Declare that this node holds `id` no more. Does not wait; never raises."""
        ...


class Outbox(Protocol):
    """Messages kept for ids that are away, numbered per id in the order of the backend."""

    async def acknowledge(self, id: str, epoch: str, sequence: int) -> None:
        """Forget the messages of `id` up to `sequence` of `epoch`."""
        ...

    async def pending(self, id: str, epoch: str, sequence: int) -> Sequence[bytes]:
        """Read the messages of `id` after a position, oldest first."""
        ...


@runtime_checkable
class Backend(AsyncBus, Presence, Protocol):
    """A node's seat in the cluster.

    Attributes:
        node_id: random, new at every `open`, never used again.
        is_ready: whether messages from other processes reach this node now.
    """

    @property
    def node_id(self) -> str: ...  # noqa: D102

    @property
    def is_ready(self) -> bool: ...  # noqa: D102

    async def open(self, receive: Receive) -> None:
        """Take the seat; `receive` gets what is sent to this node from now on.

        Raises:
            BackendUnavailable: it cannot be reached.
            BackendRefused: it can, and says no.
        """
        ...
