"""Forwarding: what clients do goes to portals, in the order of each connection.

A connection waits here until its letter was taken, and with it everything it does later. So when
portals do not keep up, or the backend is away, its queue fills and it is read no more: nothing is
dropped, and nothing grows without bound.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple, Protocol

import msgspec

from ..backend.inbox import (
    PARTITIONS,
    AppendResult,
    Capacity,
    EventKind,
    InboxEvent,
    answered_connection,
    partition_of,
)
from ..concurrency.tasks import survive
from ..errors import BackendError, InvalidMessage
from ..messages.envelope import Envelope
from ..messages.frames import encode_frame
from ..messages.message import Message
from ..messages.request import BUSY, FAILED, UNANSWERED, Failure, Reply
from ..protocol import asking
from ..settings import Portals
from .send_queue import Outlet

log = logging.getLogger("mesa_ws.server")

PATIENCE = 600.0
"""Seconds after which a request that no portal answered has failed; clients wait less, as a rule."""

_NOBODY = Failure("failed", "no portal has answered in time")

Awaited = asyncio.Future[bytes | Failure]
"""The encoded message that answers a request, or why there is none; cancelled once nobody waits."""


class Expected(NamedTuple):
    """A request that a portal is about to be asked.

    Attributes:
        token: names it to portals.
        answer: done when a portal has answered, or time is over.
    """

    token: str
    answer: Awaited


class PortalAnswers:
    """What the connections of one node wait for. For the event loop only.

    Args:
        most: requests of one connection at a time.

    Attributes:
        most: see above.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._tokens = count(1)
        self._open: dict[str, dict[str, Awaited]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    def expect(self, connection_id: str) -> Expected | None:
        """Wait for one more answer; None if the connection waits for as many as it may."""
        waiting = self._open.setdefault(connection_id, {})
        if len(waiting) >= self.most:
            return None
        loop, token = asyncio.get_running_loop(), str(next(self._tokens))
        answer: Awaited = loop.create_future()
        timer = loop.call_later(PATIENCE, self._settle, connection_id, token, _NOBODY)
        answer.add_done_callback(lambda _: timer.cancel())
        waiting[token] = answer
        return Expected(token, answer)

    def take(self, connection_id: str, body: bytes) -> None:
        """Take what a portal sent; the second answer, and one to nothing that waits, is ignored."""
        reply = Reply.read(body)
        if reply is None:
            log.warning("ignored an answer of a portal that cannot be read")
            return
        outcome = Failure(reply.code, reply.text) if reply.body is None else reply.body
        self._settle(connection_id, reply.request, outcome)

    def forget(self, connection_id: str) -> None:
        """The connection has ended, and nobody waits any more."""
        for answer in self._open.pop(connection_id, {}).values():
            answer.cancel()

    def _settle(self, connection_id: str, token: str, outcome: bytes | Failure) -> None:
        answer = self._open.get(connection_id, {}).pop(token, None)
        if answer is not None:
            answer.set_result(outcome)


FIRST_PAUSE = 0.05
LONGEST_PAUSE = 0.4
"""Seconds until a letter that was not taken is offered again: the first time, and at most."""

QUIET = 60.0
"""Seconds between two warnings about the same trouble."""


class Sender(Protocol):
    """What forwarding needs of a connection."""

    connection_id: str
    outlet: Outlet

    @property
    def id(self) -> str | None:
        """Who the client is."""

    @property
    def is_open(self) -> bool:
        """Whether anything can still be sent to it."""


class Post(Protocol):
    """Where letters go."""

    @property
    def node_id(self) -> str:
        """Names this node."""

    @property
    def joins(self) -> int:
        """How often it had to begin."""

    async def append(self, event: InboxEvent, capacity: Capacity) -> AppendResult:
        """Put a letter at the end of its queue."""


@dataclass(slots=True)
class _Passage:
    """A connection that portals know of.

    Attributes:
        sender: the connection.
        sequence: of its last letter.
        joins: those of the node when it was last known to be open.
    """

    sender: Sender
    sequence: int = 0
    joins: int = 0


class Forwarder:
    """Tells portals of the connections of one node. For the event loop only.

    Args:
        post: the backend.
        settings: how much may wait, and where.
        max_requests: requests of one connection that wait for answers of portals; 0 where
            portals cannot answer.

    Attributes:
        answers: those requests.
    """

    def __init__(self, post: Post, settings: Portals, max_requests: int) -> None:
        self._post = post
        self._spreads = settings.distribute_load
        queues = PARTITIONS if self._spreads else 1
        self._types = None if settings.types is None else frozenset(settings.types)
        self._room = Capacity(max(1, settings.backlog_max // queues), settings.backlog_bytes // queues)
        self._passages: dict[str, _Passage] = {}
        self.answers = PortalAnswers(max_requests)
        self._quiet_until = 0.0

    async def connected(self, sender: Sender) -> None:
        """A connection begins."""
        self._passages[sender.connection_id] = _Passage(sender)
        await self._forward("connection", sender)

    async def authenticated(self, sender: Sender) -> None:
        """A connection belongs to somebody now."""
        await self._forward("authentication", sender)

    async def received(self, message: Message, sender: Sender) -> None:
        """A connection sent something, which is kept for portals if its type is one of theirs."""
        if not self._keeps(message):
            return
        try:
            data = encode_frame(message.opcode, message.data, message.type)
        except InvalidMessage as error:  # nested deeper than the stack of this moment allows
            log.error("a message of %r cannot be handed to portals: %s", sender, error)
            return
        await self._forward("message", sender, data)

    async def asked(self, message: Message, sender: Sender) -> Awaited | Failure:
        """A connection sent a request that no handler here answers; return when portals have it.

        Returns:
            What becomes done with their answer, or why it is not handed to them.
        """
        if not self.answers.most or not self._keeps(message):
            return UNANSWERED
        try:
            data = encode_frame(message.opcode, message.data, message.type)
        except InvalidMessage as error:
            log.error("a request of %r cannot be handed to portals: %s", sender, error)
            return FAILED
        expected = self.answers.expect(sender.connection_id)
        if expected is None:
            return BUSY
        await self._forward("message", sender, asking(data, expected.token))
        return expected.answer

    async def disconnected(self, sender: Sender, code: int, reason: str) -> None:
        """A connection has ended."""
        self.answers.forget(sender.connection_id)
        try:
            await self._forward("disconnection", sender, msgspec.json.encode([code, reason]))
        finally:
            del self._passages[sender.connection_id]

    def reply(self, envelope: Envelope) -> Sequence[Sender]:
        """Write what a portal sends to one connection; one that has ended gets nothing.

        Returns:
            Who was written to. An answer to a request is only handed on, and written by who waits for it.
        """
        reached = []
        for connection_id in envelope.recipients.ids:
            asker = answered_connection(connection_id)
            if asker is not None:
                self.answers.take(asker, envelope.body)
                continue
            passage = self._passages.get(connection_id)
            if passage is not None and passage.sender.is_open:
                passage.sender.outlet.write(envelope.body)
                reached.append(passage.sender)
        return reached

    def _keeps(self, message: Message) -> bool:
        return self._types is None or message.type in self._types

    async def _forward(self, kind: EventKind, sender: Sender, data: bytes = b"") -> None:
        passage = self._passages[sender.connection_id]
        while await self._finds_closed(passage, self._letter(kind, sender, data)):
            # Others took this node for dead, and told portals that its connections have ended; or
            # the backend has lost what it held.
            await self._insist(self._letter("connection", sender))
            if sender.id is not None:
                await self._insist(self._letter("authentication", sender))

    async def _finds_closed(self, passage: _Passage, letter: InboxEvent) -> bool:
        """Offer a letter until it is taken, or the connection turns out to be closed."""
        known, before = passage.joins, self._post.joins
        answer = await self._insist(letter)
        passage.joins = before if answer == "taken" else self._post.joins
        # What is gone was ended by this very letter, unless the node had to begin anew meanwhile.
        return answer == "unknown" or (answer == "gone" and known != self._post.joins)

    def _letter(self, kind: EventKind, sender: Sender, data: bytes = b"") -> InboxEvent:
        connection_id = sender.connection_id
        passage = self._passages[connection_id]
        passage.sequence += 1
        partition = partition_of(connection_id) if self._spreads else 0
        return InboxEvent(
            connection_id, partition, str(passage.sequence), kind, sender.id, self._post.node_id, data
        )

    async def _insist(self, letter: InboxEvent) -> AppendResult:
        """Offer a letter until it is taken, however long that takes."""
        pause = FIRST_PAUSE
        while True:
            try:
                answer = await self._post.append(letter, self._room)
            except asyncio.CancelledError:
                await self._go_on(letter)
            except BackendError as error:
                self._warn(f"the backend does not take what clients do ({error})")
            else:
                if answer != "full":
                    return answer
                self._warn(
                    "the backlog of portals is full, for all or for one client; are enough of them running?"
                )
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - spreads load
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _go_on(self, letter: InboxEvent) -> None:
        """Go on after a cancellation by other code than the server's."""
        try:
            await survive()
        except asyncio.CancelledError:
            log.warning("this node stops, and portals may not hear of a %s", letter.kind)
            raise

    def _warn(self, what: str) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET
            log.warning("%s; connections that have something to say are read no further", what)
