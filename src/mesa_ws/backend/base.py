"""Ports: what a server node and a dispatcher need from the backend that they share.

A backend is one process's membership in a cluster. Two kinds implement all ports, and one contract suite
runs over both: `memory` (one process) and `redis` (any number of processes). A third, `http`, dispatches
through a server's API and implements the buses alone.

| port | promise |
|---|---|
| `AsyncBus`, `BlockingBus` | a message reaches every node that holds a recipient, once each, in order; a message with a retention is stored first, atomically per recipient |
| `AsyncBus.request`, `Backend.reply` | a request reaches the nodes that hold its id at most once, and their replies reach the requester |
| `AsyncBus.query` | which ids have connections, and how many; which messages wait for an id |
| `Backend.attach` | which ids a node holds; forgotten one lease after the node dies |
| `Outbox` | messages kept for ids until they acknowledge them, numbered per id |
| `Orders` | orders to all nodes, carried out by each once, also by one that was away |
| `Inbox` | events of clients, kept in order for portals |
"""  # noqa: E501 - a row of a table

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from ..messages.envelope import Envelope, Retention
from ..messages.receipt import Position, Receipt
from ..messages.request import Reply
from ..settings import Durability
from .inbox import Inbox
from .outbox import Acknowledgement, Page, Read, Standing, Start
from .queries import Query

T = TypeVar("T")

Receive = Callable[[Envelope], None]
"""Called in the event loop for each envelope with a recipient on this node; must not block or raise."""


class AsyncBus(Protocol):
    """Dispatches envelopes to nodes, and answers queries that any process may make.

    FIFO in the order in which calls start. A message without a retention is delivered at most once. A message
    that is remembered by its id may be sent again: recipients who have it do not get it twice.
    """

    def dispatch(self, envelopes: Sequence[Envelope]) -> Awaitable[list[Receipt]]:
        """Send `envelopes` in one round trip and return a receipt for each.

        Cancelling is safe: the envelopes may still be sent, and no other call sees their reply.

        Raises:
            BackendUnavailable: no answer within the time limit.
            BackendRefused: the backend refused; a full one refuses messages with a retention.
            Unsupported: the backend does not offer the requested durability.
        """
        ...

    async def request(self, request: Envelope, timeout: float) -> bytes:
        """Send a request to the connections of one id, and wait for the first answer of any of them.

        The request is delivered at most once, never stored, and never sent again. Cancelling is safe: a
        client may still handle the request, and its answer is dropped.

        Args:
            request: of the kind `request`, as `request.prepare_request` makes it.
            timeout: seconds to wait.

        Returns:
            The encoded message that answers the request.

        Raises:
            NotConnected: no node holds a connection of the id.
            TimedOut: no client answered in time.
            RequestFailed: the answer is an error.
            ConnectionClosed: every connection that got the request ended before it answered.
            Unsupported: the clients of the id speak wire 1, or this backend has no requests.
            TooManyRequests: too many requests wait for their answers, in this process or at the node.
            BackendError: the backend did not take the request.
        """
        ...

    async def query(self, query: Query[T]) -> T:
        """Return the answer to a query; `queries` has all of them.

        Raises:
            BackendError: the backend did not answer, or refused.
            Unsupported: this backend cannot answer such a query.
        """
        ...

    async def purge(self, id: str) -> int:
        """Drop all messages of an outbox, and return their number.

        They count as acknowledged; clients that know their position learn that they lost them.

        Raises:
            BackendError: the backend did not answer, or refused.
        """
        ...

    async def aclose(self) -> None:
        """Close connections. Calls in progress fail with `BackendUnavailable`."""
        ...


class BlockingQueries(Protocol):
    """Answers queries in threads."""

    def query(self, query: Query[T]) -> T:
        """Return the answer to a query; see `AsyncBus.query`."""
        ...


class BlockingBus(BlockingQueries, Protocol):
    """`AsyncBus` for threads: any thread may call it, also after a fork. FIFO per thread."""

    def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Send `envelopes` in one round trip; errors as in `AsyncBus.dispatch`."""
        ...

    def request(self, request: Envelope, timeout: float) -> bytes:
        """Send a request to the connections of one id, and wait for an answer; see `AsyncBus.request`."""
        ...

    def purge(self, id: str) -> int:
        """Drop all messages of an outbox, and return their number; see `AsyncBus.purge`."""
        ...

    def close(self) -> None:
        """Close connections."""
        ...


class Outbox(Protocol):
    """Messages kept for ids, numbered per id in the order in which the backend stored them."""

    async def read(self, reads: Sequence[Read]) -> list[Page]:
        """Read the messages after positions; the ids have to be attached.

        Raises:
            BackendError: the backend did not answer, or refused.
        """
        ...

    def acknowledge(self, acknowledgements: Sequence[Acknowledgement]) -> None:
        """Forget messages that were received. Does not wait; never raises.

        The backend carries this out before every later call about the same ids. When an acknowledgement
        gets lost, its messages are delivered again.
        """
        ...

    async def broadcasts(self, position: Position | None) -> Page:
        """Read the messages to everybody after a position; with None only return their current position.

        The backend keeps them for some minutes. An unknown position gives `reset`.

        Raises:
            BackendError: the backend did not answer, or refused.
        """
        ...


class Orders(Protocol):
    """Orders to all nodes, which are kept for a day, and carried out by nodes that were away, too."""

    async def orders(self, position: Position | None) -> Page:
        """Read the orders after a position; with None only return their current position.

        An unknown position gives `reset`.

        Raises:
            BackendError: the backend did not answer, or refused.
        """
        ...

    async def standing(self, id: str) -> Standing:
        """Return what a login of an id has to know.

        Raises:
            BackendError: the backend did not answer, or refused.
        """
        ...

    def carried_out(self, position: Position) -> None:
        """Note that this node has carried out every order up to a position. Does not wait; never raises."""
        ...


class Watcher(Protocol):
    """Callbacks by which a backend informs its node, in the event loop."""

    def doubted(self) -> None:
        """Note that orders to all nodes may be missing before what is delivered next. Must not raise."""
        ...

    async def catch_up(self) -> None:
        """Read everything that concerns this node again: it may have missed messages.

        The backend is not ready before this has returned.

        Raises:
            BackendError: the backend did not answer; the backend calls this again later.
        """
        ...

    def came_online(self, id: str) -> None:
        """Note that an id has its first connection in the cluster. Called on one node; must not raise."""
        ...

    def went_offline(self, id: str) -> None:
        """Note that an id has been away for longer than the grace. Called on one node; must not raise."""
        ...

    def portal_joined(self, id: str) -> None:
        """Note a portal that joined, or was there before this node. Called on every node; must not raise."""
        ...

    def portal_left(self, id: str) -> None:
        """Note that a portal left, or that its lease ran out. Called on every node; must not raise."""
        ...

    def forked(self, since: float) -> None:
        """Note that the store came back, perhaps without writes that it had confirmed after `since`.

        `since` is in seconds of the store's clock; 0 if nothing is left. Called on one node; must not raise.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Membership:
    """How a node takes part in its cluster.

    Args:
        retention: how this node stores what it sends; None if it does not.
        grace: seconds that an id may be away before it counts as offline.
        window: seconds for which acknowledged messages are kept for other devices of an id, if
            it has clients that keep a position.
        allow_eviction: keep messages even in a store that may forget them by itself.
        portals: tell the watcher which portals there are.
        durability: what an event has to reach before `append` returns `taken`.
    """

    retention: Retention | None = None
    grace: float = 5.0
    window: float = 120.0
    allow_eviction: bool = False
    portals: bool = False
    durability: Durability = "memory"


DEFAULT_MEMBERSHIP = Membership()


@runtime_checkable
class Backend(AsyncBus, Outbox, Orders, Inbox, Protocol):
    """A node's membership in the cluster.

    Attributes:
        node_id: random, new at every `open`, never used again.
        is_ready: whether messages from other processes reach this node now.
    """

    @property
    def node_id(self) -> str: ...  # noqa: D102

    @property
    def is_ready(self) -> bool: ...  # noqa: D102

    async def open(
        self, receive: Receive, watcher: Watcher | None = None, membership: Membership = DEFAULT_MEMBERSHIP
    ) -> None:
        """Join the cluster; `receive` gets every message to this node from now on.

        Args:
            receive: see `Receive`.
            watcher: learns that messages may be missing, and which ids and portals come and go.
            membership: how the node takes part.

        Raises:
            BackendUnavailable: the backend cannot be reached.
            BackendRefused: the backend refused; also when messages are to be kept in a store that
                forgets by itself.
            Unsupported: the backend does not offer the requested durability.
        """
        ...

    async def attach(self, id: str, sockets: int, start: Start | None = None) -> Page | None:
        """Declare that this node holds `sockets` (1 or more) connections of `id`.

        When this returns, every later dispatch to `id` reaches this node. The declaration lasts until
        `detach`, or until one lease after this node died. The backend itself renews it, also after the
        node was paused past its lease or the backend lost its data. If this raises or is
        cancelled, the declaration stands, and the backend repeats it when it can be reached again.

        Args:
            id: the id that is connected.
            sockets: number of its connections.
            start: also read the outbox from there, atomically after the declaration; messages that do not
                fit on the page come as envelopes, or with later `read`s.

        Returns:
            The first page; None without `start`.

        Raises:
            BackendUnavailable: the backend did not answer in time.
        """
        ...

    def detach(self, id: str) -> None:
        """Declare that this node holds `id` no longer. Does not wait; never raises."""
        ...

    def connected(self, count: int) -> None:
        """Declare that this node has `count` connections, authenticated or not.

        Costs no call of its own: other processes learn it with the next heartbeat. Does not wait; never
        raises.
        """
        ...

    def reply(self, requester: str, reply: Reply) -> None:
        """Send a reply to a requester in any process. Does not wait; never raises.

        At most once: when a reply gets lost, the requester waits until its time is over.
        """
        ...
