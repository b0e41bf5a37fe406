"""Requests from the cluster to the clients of this node, and the replies."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from ..concurrency.limited_log import LimitedLog
from ..errors import InvalidMessage
from ..messages.envelope import Envelope
from ..messages.frames import encode_frame
from ..messages.message import Message
from ..messages.request import ABSENT, FAILED, WIRE1, Failure, Question, Reply, Tally
from ..protocol.correlation import asking
from .connection import Connection
from .notifications import Notifications


def send(
    envelope: Envelope,
    by_id: Mapping[str, Sequence[Connection]],
    notifications: Notifications,
    reply: Callable[[str, Reply], None],
    log: LimitedLog,
) -> None:
    """Send a request to every connection of an id here, and reply once: an answer, or why there is none."""
    question = Question.read(envelope.body)
    if question is None or len(envelope.recipients.ids) != 1:
        log.warning("ignored a request that cannot be read")
        return
    connections = tuple(by_id.get(envelope.recipients.ids[0], ()))
    request = _ClusterRequest(envelope.message_id, question, connections, reply, log)
    notifications.delivered(question.body, envelope.message_id, request.send())
    request.settle()


class _ClusterRequest:
    """A request to all connections of one id on this node; when its timeout is over, nothing remains."""

    def __init__(
        self,
        id: str,
        question: Question,
        connections: Sequence[Connection],
        reply: Callable[[str, Reply], None],
        log: LimitedLog,
    ) -> None:
        self._id = id
        self._question = question
        self._connections = connections
        self._reply = reply
        self._log = log
        self._tally = Tally()
        self._tally.expect(max(1, len(connections)))
        self._timer: asyncio.TimerHandle | None = None

    def send(self) -> Sequence[Connection]:
        """Send the request to every connection that can answer; return those."""
        self._timer = asyncio.get_running_loop().call_later(self._question.timeout, self._withdraw)
        body = asking(self._question.body, self._id)
        reached = []
        for connection in self._connections:
            failure = self._send_to(connection, body)
            if failure is None:
                reached.append(connection)
            else:
                self._add(failure)
        if not self._connections:
            self._add(ABSENT)
        return reached

    def settle(self) -> None:
        """Reply if the outcome is known."""
        if self._tally.outcome is not None and self._timer is not None:
            self._withdraw()
            self._reply(self._question.requester, self._tally.outcome)

    def _send_to(self, connection: Connection, body: bytes) -> Failure | None:
        if not connection.protocol.is_wire2:
            return WIRE1
        failure = connection.pending_requests.add(self._id, self._on_answer)
        if failure is None:
            try:
                connection.write(body)
            except Exception as error:  # noqa: BLE001 - it is logged with its traceback
                self._log.exception("a request could not be written to %r", connection, kind=type(error))
                connection.pending_requests.withdraw(self._id)
                return ABSENT
        return failure

    def _on_answer(self, answer: Message | Failure) -> None:
        self._add(answer)
        self.settle()

    def _add(self, answer: Message | Failure) -> None:
        self._tally.take(_encoded(self._id, answer))

    def _withdraw(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for connection in self._connections:
            connection.pending_requests.withdraw(self._id)


def _encoded(request: str, answer: Message | Failure) -> Reply:
    if isinstance(answer, Failure):
        return Reply.failed(request, answer)
    try:
        return Reply(request, encode_frame(answer.opcode, answer.data, answer.type))
    except InvalidMessage:  # read where the stack was flatter, and nested deeper than it allows here
        return Reply.failed(request, FAILED)
