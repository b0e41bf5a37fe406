"""Ports: what a server node and a dispatcher need from whatever they share.

A backend is one process's seat in a cluster. Two kinds exist, and one contract suite runs over
both: `memory` (one process) and `redis` (any number of processes). A third, `http`, dispatches
through a server's API and offers the buses alone.

| port | promise |
|---|---|
| `AsyncBus`, `BlockingBus` | a message reaches every node that holds a recipient, once each, in order; what is to be kept is stored first, atomically per recipient |
| `AsyncBus.request`, `Replies` | a request reaches the nodes that hold its id at most once, and their replies the asker |
| `Presence` | which ids have connections, and where, and how many there are; forgotten one lease after a node dies |
| `Outbox` | what is kept for ids until they have proven to have it, numbered per id |
| `Inbox` | what clients do, kept in order for portals |
"""  # noqa: E501 - a row of a table

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from ..errors import InvalidInput
from ..messages.envelope import Envelope, Retention
from ..messages.receipt import OutboxHead, Position, Receipt, Stored
from ..messages.request import Reply
from ..settings import Durability
from ..text import plain
from .inbox import Inbox
from .outbox import Acknowledgement, Page, Read, Start

FIRST = ""
"""The cursor of the first page."""

MAX_CURSOR = 255
"""Characters of a cursor."""


class IdPage(NamedTuple):
    """One page of the ids that are online.

    Attributes:
        ids: some of them; none is well possible in the middle.
        cursor: what the next page is asked for with; None after the last one.
    """

    ids: tuple[str, ...]
    cursor: str | None


def check_cursor(cursor: str) -> str:
    """Return `cursor` if Redis can have given it, as a number; the first one is 0 there.

    Raises:
        InvalidInput: it cannot.
    """
    number = plain(cursor) or "0"
    if not (number.isascii() and number.isdigit() and len(number) <= len(str(2**64)) and int(number) < 2**64):
        raise InvalidInput(f"cursor: expected that of the page before, or none, got {cursor[:40]!r}")
    return number


Receive = Callable[[Envelope], None]
"""Called in the event loop for each envelope with a recipient here; must not block or raise."""


class WhoIsOnline(Protocol):
    """Tells which ids are connected, as far as living nodes say so."""

    async def online(self, ids: Iterable[str]) -> dict[str, int]:
        """Count the connections of each id over all living nodes.

        Raises:
            BackendError: the backend did not answer.
        """
        ...

    async def count(self) -> int:
        """Count the ids that have connections, over all living nodes.

        Raises:
            BackendError: the backend did not answer.
        """
        ...

    async def some_ids(self, cursor: str) -> IdPage:
        """Name some of the ids that have connections.

        One that has them from the first page to the last is on one at least.

        Args:
            cursor: that of the page before; the empty text for the first.

        Raises:
            InvalidInput: no page had that cursor.
            BackendError: the backend did not answer.
        """
        ...

    async def connections(self) -> int:
        """Count the connections of all living nodes, logged in or not, as they last told.

        Raises:
            BackendError: the backend did not answer.
        """
        ...


class BlockingWhoIsOnline(Protocol):
    """`WhoIsOnline` for threads."""

    def online(self, ids: Iterable[str]) -> dict[str, int]:
        """Count the connections of each id over all living nodes."""
        ...

    def count(self) -> int:
        """Count the ids that have connections, over all living nodes."""
        ...

    def some_ids(self, cursor: str) -> IdPage:
        """Name some of the ids that have connections; see `WhoIsOnline.some_ids`."""
        ...

    def connections(self) -> int:
        """Count the connections of all living nodes, logged in or not, as they last told."""
        ...


class AsyncBus(WhoIsOnline, Protocol):
    """Hands envelopes to nodes, and answers what any process may ask.

    FIFO in the order in which calls start. What is not kept is handed over at most once. What is
    remembered by its message id may be sent again: recipients who have it are passed over.
    """

    async def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Send `envelopes` in one round trip and say what became of each.

        Cancelling is safe: the envelopes may still be sent, and no other call sees their reply.

        Raises:
            BackendUnavailable: no answer within the time limit.
            BackendRefused: the backend said no; with a full one, to what is to be kept.
            Unsupported: the backend does not offer the durability that was asked for.
        """
        ...

    async def request(self, request: Envelope, timeout: float) -> bytes:
        """Ask the connections of one id, and wait for the first answer of any of them.

        Delivered at most once, never stored, and never sent again. Cancelling is safe: the request
        may still be handled, and its answer reaches nobody.

        Args:
            request: of the kind `request`, as `inquiry.prepare_request` makes it.
            timeout: seconds to wait.

        Returns:
            The encoded message that answers it.

        Raises:
            NotConnected: nobody holds a connection of the id.
            TimedOut: no answer in time.
            RequestFailed: the answer is an error.
            ConnectionClosed: every connection that was asked ended before it answered.
            Unsupported: the clients of the id speak wire 1; or this backend knows no requests.
            TooManyRequests: too many wait for their answers, here or there.
            BackendError: the request could not be handed over.
        """
        ...

    async def heads(self, ids: Iterable[str]) -> dict[str, OutboxHead | None]:
        """Tell how far the outboxes of `ids` are; None for one that does not exist.

        Raises:
            BackendError: the backend did not answer.
        """
        ...

    async def peek(self, id: str, limit: int) -> list[Stored]:
        """Show the first `limit` messages of an outbox without changing anything.

        Raises:
            BackendError: the backend did not answer, or refused.
        """
        ...

    async def purge(self, id: str) -> int:
        """Drop all messages of an outbox, and tell how many.

        They count as acknowledged; clients that know their position are told that they lost them.

        Raises:
            BackendError: the backend did not answer, or refused.
        """
        ...

    async def aclose(self) -> None:
        """Release connections. Calls under way fail with `BackendUnavailable`."""
        ...


class BlockingBus(BlockingWhoIsOnline, Protocol):
    """`AsyncBus` for threads: may be called from any of them, and after a fork. FIFO per thread."""

    def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Send `envelopes` in one round trip; errors as in `AsyncBus.dispatch`."""
        ...

    def request(self, request: Envelope, timeout: float) -> bytes:
        """Ask the connections of one id, and wait for an answer; see `AsyncBus.request`."""
        ...

    def heads(self, ids: Iterable[str]) -> dict[str, OutboxHead | None]:
        """Tell how far the outboxes of `ids` are; None for one that does not exist."""
        ...

    def peek(self, id: str, limit: int) -> list[Stored]:
        """Show the first `limit` messages of an outbox without changing anything."""
        ...

    def purge(self, id: str) -> int:
        """Drop all messages of an outbox, and tell how many; see `AsyncBus.purge`."""
        ...

    def close(self) -> None:
        """Release connections."""
        ...


class Presence(WhoIsOnline, Protocol):
    """Declares which ids are connected to this node."""

    async def attach(self, id: str, sockets: int, start: Start | None = None) -> Page | None:
        """Declare that this node holds `sockets` (1 or more) connections of `id`.

        When this returns, every later dispatch to `id` reaches this node. Kept until `detach`,
        or until one lease after this node died; renewed by the backend itself, also after the
        node was paused past its lease or the backend lost its memory. If this raises or is
        cancelled, the declaration stands, and is made good when the backend can be reached again.

        Args:
            id: who.
            sockets: how many connections.
            start: also read the outbox from there, atomically after the declaration: what the page
                does not hold of it comes as envelopes, or with later `read`s.

        Returns:
            The first page; None without `start`.

        Raises:
            BackendUnavailable: the backend gave no answer in time.
        """
        ...

    def detach(self, id: str) -> None:
        """Declare that this node holds `id` no more. Does not wait; never raises."""
        ...

    def connected(self, count: int) -> None:
        """Declare that this node has `count` connections, logged in or not.

        Costs nothing by itself: others know within a beat. Does not wait; never raises.
        """
        ...


class Outbox(Protocol):
    """Messages kept for ids, numbered per id in the order of the backend."""

    async def read(self, reads: Sequence[Read]) -> list[Page]:
        """Read what follows positions; the ids have to be attached.

        Raises:
            BackendError: the backend did not answer, or refused.
        """
        ...

    def acknowledge(self, acknowledgements: Sequence[Acknowledgement]) -> None:
        """Forget what was received. Does not wait; never raises.

        Carried out before every later call about the same ids. One that gets lost only means that
        messages come again.
        """
        ...

    async def broadcasts(self, position: Position | None) -> Page:
        """Read the messages to everybody after a position; with None only tell where they are.

        They are kept for some minutes. A position that cannot be found gives `reset`.

        Raises:
            BackendError: the backend did not answer, or refused.
        """
        ...


class Replies(Protocol):
    """Takes what this node has to say to requests back to whoever asked."""

    def reply(self, asker: str, reply: Reply) -> None:
        """Hand a reply to an asker in any process. Does not wait; never raises.

        At most once: one that gets lost, or comes too late, means that the asker gives up.
        """
        ...


class Watcher(Protocol):
    """What a backend tells the node whose seat it is, in the event loop."""

    async def catch_up(self) -> None:
        """Read again everything that concerns this node: messages may have passed it by.

        The backend is not ready before this has returned.

        Raises:
            BackendError: the backend did not answer; it is called once more, later.
        """
        ...

    def came_online(self, id: str) -> None:
        """An id has its first connection in the whole cluster. Told to one node; must not raise."""
        ...

    def went_offline(self, id: str) -> None:
        """An id has had none for longer than the grace. Told to one node; must not raise."""
        ...

    def portal_joined(self, id: str) -> None:
        """A portal takes part, or did so when the node came. Told to every node; must not raise."""
        ...

    def portal_left(self, id: str) -> None:
        """A portal takes part no more, or its lease ran out. Told to every node; must not raise."""
        ...

    def forked(self, since: float) -> None:
        """The store came back, perhaps without what it had confirmed after `since`, in seconds of its clock.

        0 if nothing is left. Told to one node; must not raise.
        """
        ...


@runtime_checkable
class Backend(AsyncBus, Presence, Outbox, Replies, Inbox, Protocol):
    """A node's seat in the cluster.

    Attributes:
        node_id: random, new at every `open`, never used again.
        is_ready: whether messages from other processes reach this node now.
    """

    @property
    def node_id(self) -> str: ...  # noqa: D102

    @property
    def is_ready(self) -> bool: ...  # noqa: D102

    async def open(
        self,
        receive: Receive,
        watcher: Watcher | None = None,
        *,
        retention: Retention | None = None,
        grace: float = 5.0,
        window: float = 120.0,
        allow_eviction: bool = False,
        portals: bool = False,
        durability: Durability = "memory",
    ) -> None:
        """Take the seat; `receive` gets what is sent to this node from now on.

        Args:
            receive: see `Receive`.
            watcher: who is told of doubt, and of who comes and goes.
            keep: how this node stores what it sends; None if it does not.
            grace: seconds that an id may be away before it counts as offline.
            window: seconds for which what an id has acknowledged is kept for its other devices, if
                it has clients that keep a position.
            allow_eviction: keep messages even in a store that may forget them by itself.
            portals: tell the watcher which portals there are.
            durability: what a letter has to reach before `append` says that it was taken.

        Raises:
            BackendUnavailable: it cannot be reached.
            BackendRefused: it can, and says no; also when messages are to be kept in a store that
                forgets by itself.
            Unsupported: it does not offer the durability that was asked for.
        """
        ...
