"""Requests of the cluster to the clients of this node, and what becomes of them."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from ..backend.base import Backend
from ..errors import InvalidMessage
from ..messages.envelope import Envelope
from ..messages.frames import encode_frame
from ..messages.message import Message
from ..messages.request import ABSENT, FAILED, WIRE1, Failure, Question, Reply, Tally
from ..protocol import asking
from .connection import Connection
from .notifications import Reports
from .registry import Registry

log = logging.getLogger("mesa_ws.server")


class Host(Protocol):
    """What asking needs of its node."""

    registry: Registry[Connection]
    reports: Reports

    @property
    def backend(self) -> Backend:
        """Where replies go."""

    def now(self) -> float:
        """The event loop's time, in seconds."""

    def at(self, when: float, callback: Callable[[], None], /) -> asyncio.TimerHandle:
        """Call back at `when`, in the time of `now`."""


def ask(host: Host, envelope: Envelope) -> None:
    """Ask every connection of an id here, and reply once: an answer, or that there is none.

    Nothing is left of it when its time is over.
    """
    question = Question.read(envelope.body)
    if question is None or len(envelope.recipients.ids) != 1:
        log.warning("ignored a request that cannot be read")
        return
    connections = host.registry.of(envelope.recipients.ids[0])
    _Inquiry(host, envelope.message_id, question).put_to(connections)


class _Inquiry:
    """One request to the connections of one id."""

    def __init__(self, host: Host, id: str, question: Question) -> None:
        self._host = host
        self._id = id
        self._question = question
        self._tally = Tally()
        self._asked: Sequence[Connection] = ()
        self._timer: asyncio.TimerHandle | None = None

    def put_to(self, connections: Sequence[Connection]) -> None:
        """Ask all of them that can be asked."""
        self._asked = connections
        self._timer = self._host.at(self._host.now() + self._question.timeout, self._withdraw)
        body = asking(self._question.body, self._id)
        reached = []
        for connection in connections:
            failure = self._put_to(connection, body)
            if failure is None:
                reached.append(connection)
            else:
                self._take(failure)
        self._host.reports.delivered(self._question.body, self._id, reached)
        if not connections:
            self._take(ABSENT)
        self._tally.expect(max(1, len(connections)))
        self._settle()

    def _put_to(self, connection: Connection, body: bytes) -> Failure | None:
        if not connection.protocol.is_wire2:
            return WIRE1
        failure = connection.asked.add(self._id, self._took)
        if failure is None:
            connection.outlet.write(body)
        return failure

    def _took(self, reply: Message | Failure) -> None:
        self._take(reply)
        self._settle()

    def _take(self, reply: Message | Failure) -> None:
        self._tally.take(_written(self._id, reply))

    def _settle(self) -> None:
        if self._tally.outcome is not None and self._timer is not None:
            self._withdraw()
            self._host.backend.reply(self._question.requester, self._tally.outcome)

    def _withdraw(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for connection in self._asked:
            connection.asked.withdraw(self._id)


def _written(request: str, reply: Message | Failure) -> Reply:
    if isinstance(reply, Failure):
        return Reply.failed(request, reply)
    try:
        return Reply(request, encode_frame(reply.opcode, reply.data, reply.type))
    except InvalidMessage:  # read where the stack was flatter, and nested deeper than it allows here
        return Reply.failed(request, FAILED)
