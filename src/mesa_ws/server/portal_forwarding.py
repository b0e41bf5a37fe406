"""Forwarding: clients' events go to portals, in the order of each connection.

A connection waits here until its event is stored, and so do its later events. So when portals do not
keep up, or the backend is away, the receive queue of the connection fills and the server stops reading
it: nothing is dropped, and nothing grows without bound.

Each id has its places in the backlog. A client that has not logged in shares those of its network, if that
has limits; all such clients together may fill no more than a part of the backlog.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol

import msgspec

from ..backend.base import Backend
from ..backend.inbox import (
    PARTITIONS,
    READ_AHEAD,
    READ_AHEAD_BYTES,
    AppendResult,
    Capacity,
    EventKind,
    InboxEvent,
    answered_connection,
    partition_of,
)
from ..concurrency.limited_log import LimitedLog
from ..concurrency.retry import Backoff, LimitedWarning
from ..concurrency.tasks import survive
from ..errors import BackendError, InvalidMessage
from ..messages.envelope import Envelope
from ..messages.frames import RawFrame, encode_frame
from ..messages.message import Message
from ..messages.recipients import User
from ..messages.request import FAILED, UNANSWERED, Failure, Reply
from ..protocol.correlation import asking
from ..settings import Portals
from .connection_limits import ConnectionLimits
from .pending_requests import PendingRequests

log = logging.getLogger("mesa_ws.server")

PATIENCE = 600.0
"""Seconds after which a request that no portal answered has failed; clients usually wait less."""

_TIMED_OUT = Failure("failed", "no portal has answered in time")

_PAUSED = "%s; reading from these clients is paused"

_FULL = "the backlog of portals is full, for all or for some clients; are enough portals running?"

PortalAnswer = asyncio.Future[bytes | Failure]
"""The encoded message that answers a request, or why there is none."""

GUESTS_PART = 16
"""Part of what portals read ahead, one in so many, that messages of guests may fill."""

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 0.4
"""Seconds until an event that was not stored is appended again: the first time, and at most."""


class Sender(Protocol):
    """A connection, as the modules below it see it."""

    connection_id: str

    @property
    def user(self) -> User | None:
        """The client's user."""

    @property
    def is_open(self) -> bool:
        """Whether messages can still be sent."""

    def write(self, payload: bytes, /) -> None:
        """Send an encoded message."""


@dataclass(slots=True)
class _Forwarded:
    """A connection that portals know of.

    Attributes:
        sender: the connection.
        partition: its queue.
        node: the node, which has another id when it is opened again.
        pending: its requests that wait for answers of portals.
        network: that its places count for until it has a user; empty for none.
        sequence: of its last event.
        joins: how often the node had joined the cluster when the connection was last known to be open.
    """

    sender: Sender
    partition: int
    node: str
    pending: PendingRequests[bytes]
    network: str
    sequence: int = 0
    joins: int = 0


class Forwarder:
    """Forward the events of a node's connections to portals. For the event loop only.

    Args:
        backend: stores the events.
        settings: how many may wait, and which types.
        max_requests: requests of one connection that wait for answers of portals; 0 where portals
            cannot answer.
        limits: know the networks of clients that have not logged in.
        log: gets what clients and other strangers cause.

    Attributes:
        delayed: events that had to wait for a place in the backlog.
    """

    def __init__(
        self,
        backend: Backend,
        settings: Portals,
        max_requests: int,
        limits: ConnectionLimits,
        log: LimitedLog,
    ) -> None:
        self.delayed = 0
        self._backend = backend
        self._log = log
        self._spreads = settings.distribute_load
        queues = PARTITIONS if self._spreads else 1
        self._types = None if settings.types is None else frozenset(settings.types)
        most = Capacity(max(1, settings.backlog_max // queues), settings.backlog_bytes // queues)
        self._capacity = most
        self._guests_capacity = Capacity(
            max(1, min(most.events, READ_AHEAD) // GUESTS_PART),
            min(most.bytes, READ_AHEAD_BYTES) // GUESTS_PART,
        )
        self._limits = limits
        self._max_requests = max_requests
        self._tokens = count(1)
        self._connections: dict[str, _Forwarded] = {}
        self._warning = LimitedWarning()

    async def connected(self, sender: Sender) -> None:
        """Forward that a connection has opened."""
        self._connections[sender.connection_id] = _Forwarded(
            sender,
            partition_of(sender.connection_id) if self._spreads else 0,
            self._backend.node_id,
            PendingRequests[bytes](self._max_requests),
            self._limits.network_of_guest(sender),
        )
        await self._forward("connection", sender)

    async def authenticated(self, sender: Sender) -> None:
        """Forward that a connection has a user, or another one."""
        await self._forward("authentication", sender)

    async def received(self, message: Message, sender: Sender, frame: RawFrame | None = None) -> None:
        """Forward a message of a client, if portals get its type.

        Args:
            message: to forward.
            sender: the connection.
            frame: the message as it was received, unless code of the application may have changed it.
        """
        if self._types is not None and message.type not in self._types:
            return
        data = self._encoded(message, sender, frame)
        if data is not None:
            await self._forward("message", sender, data)

    async def request(
        self, message: Message, sender: Sender, frame: RawFrame | None = None
    ) -> PortalAnswer | Failure:
        """Forward a request of a client that no handler here answers; return when it is stored.

        Args:
            message: the request.
            sender: the connection.
            frame: as for `received`.

        Returns:
            The future answer of a portal, or why the request is not forwarded.
        """
        if not self._max_requests or (self._types is not None and message.type not in self._types):
            return UNANSWERED
        data = self._encoded(message, sender, frame)
        if data is None:
            return FAILED
        pending, token = self._connections[sender.connection_id].pending, str(next(self._tokens))
        loop = asyncio.get_running_loop()
        answer: PortalAnswer = loop.create_future()
        busy = pending.add(token, answer.set_result)
        if busy is not None:
            return busy
        timer = loop.call_later(PATIENCE, pending.answered, token, _TIMED_OUT)
        answer.add_done_callback(lambda _: timer.cancel())
        await self._forward("message", sender, asking(data, token))
        return answer

    async def disconnected(self, sender: Sender, code: int, reason: str) -> None:
        """Forward that a connection has ended."""
        self._connections[sender.connection_id].pending.close()
        try:
            await self._forward("disconnection", sender, msgspec.json.encode([code, reason]))
        finally:
            del self._connections[sender.connection_id]

    def deliver(self, envelope: Envelope) -> Sequence[Sender]:
        """Write a portal's message to the connection it names; one that has ended gets nothing.

        Returns:
            The connections written to. An answer to a request is only handed over to the task that waits
            for it, which writes it.
        """
        reached = []
        for connection_id in envelope.recipients.ids:
            requester = answered_connection(connection_id)
            if requester is not None:
                self._take_answer(requester, envelope.body)
                continue
            forwarded = self._connections.get(connection_id)
            if forwarded is not None and forwarded.sender.is_open:
                forwarded.sender.write(envelope.body)
                reached.append(forwarded.sender)
        return reached

    def _take_answer(self, connection_id: str, body: bytes) -> None:
        reply = Reply.read(body)
        if reply is None:
            self._log.warning("ignored an answer of a portal that cannot be read")
            return
        forwarded = self._connections.get(connection_id)
        if forwarded is not None:
            answer = Failure(reply.code, reply.text) if reply.body is None else reply.body
            forwarded.pending.answered(reply.request, answer)

    async def _forward(self, kind: EventKind, sender: Sender, data: bytes = b"") -> None:
        """Store an event; open its connection again before, if it is closed for portals."""
        forwarded = self._connections[sender.connection_id]
        while True:
            known = forwarded.joins
            answer, forwarded.joins = await self._append(self._event(kind, forwarded, data))
            # A "gone" connection was ended by this very event, unless the node has joined again since then.
            if answer != "unknown" and (answer != "gone" or known == forwarded.joins):
                return
            # Other nodes declared this one dead and told portals that its connections have ended, or the
            # backend has lost what it held. So open the connection again, then store the event.
            await self._append(self._event("connection", forwarded))
            if sender.user is not None:
                await self._append(self._event("authentication", forwarded))

    def _event(self, kind: EventKind, forwarded: _Forwarded, data: bytes = b"") -> InboxEvent:
        """Make the next event of a connection; a repetition of the same one has to keep its sequence."""
        forwarded.sequence += 1
        sender, sequence = forwarded.sender, str(forwarded.sequence)
        id, network = (sender.user.id, "") if sender.user is not None else (None, forwarded.network)
        return InboxEvent(
            sender.connection_id, forwarded.partition, sequence, kind, id, forwarded.node, data, network
        )

    async def _append(self, event: InboxEvent) -> tuple[AppendResult, int]:
        """Append an event, again and again while the queue is full or the backend is away.

        Returns:
            What became of it, and how often the node had joined: before an event that was stored, and
            after any other.
        """
        backoff: Backoff | None = None
        is_of_guest = event.id is None and event.kind == "message" and self._limits.has_authenticator
        capacity = self._guests_capacity if is_of_guest else self._capacity
        while True:
            joins = self._backend.joins
            try:
                result = await self._backend.append(event, capacity)
            except asyncio.CancelledError:
                await self._go_on(event)
            except BackendError as error:
                self._warning.warn(log, _PAUSED, f"the backend does not store clients' events ({error})")
            else:
                if result != "full":
                    return result, joins if result == "taken" else self._backend.joins
                self._warning.warn(log, _PAUSED, _FULL)
                self.delayed += backoff is None
            backoff = backoff or Backoff(FIRST_PAUSE, LONGEST_PAUSE)
            await asyncio.sleep(backoff.next())

    def _encoded(self, message: Message, sender: Sender, frame: RawFrame | None) -> bytes | None:
        """Encode a message, unless it is nested deeper than the stack of this moment allows."""
        if frame is not None:
            return frame.body()
        try:
            return encode_frame(message.opcode, message.data, message.type)
        except InvalidMessage as error:
            self._log.error("a message of %r cannot be forwarded to portals: %s", sender, error)
            return None

    async def _go_on(self, event: InboxEvent) -> None:
        """Go on after a cancellation by code other than the server's."""
        try:
            await survive()
        except asyncio.CancelledError:
            self._log.warning(
                "this node stops, and portals may not hear of a %s", event.kind, kind=event.kind
            )
            raise
