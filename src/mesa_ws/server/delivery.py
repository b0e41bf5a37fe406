"""Handing what the bus brings to the connections it is for."""

import logging
from collections.abc import Iterable, Sequence

from ..backend.outbox import Entry
from ..close import CloseCode
from ..codec import numbered, numbered_broadcast
from ..envelope import Envelope
from ..message_log import log_announcement, log_delivery
from ..position import Position
from ..recipients import Recipients
from .connection import Connection
from .registry import Registry
from .reports import Reports

log = logging.getLogger("mesa_ws.server")


class Delivery:
    """Finds connections and writes to them, in the order of the bus. Never waits.

    Args:
        registry: who is connected.
        reports: who is told of it.
        anonymous: whether connections without an id get what is for everybody.
    """

    def __init__(self, registry: Registry[Connection], reports: Reports, *, anonymous: bool) -> None:
        self._registry = registry
        self._reports = reports
        self._anonymous = anonymous

    def deliver(self, envelope: Envelope) -> None:
        """Hand on what is not for everybody, or not stored."""
        if log.isEnabledFor(logging.DEBUG):
            log_delivery(log, envelope, len(self._found(envelope.recipients)))
        if envelope.kind == "disconnect":
            for connection in self._found(envelope.recipients):
                connection.disconnect(CloseCode.NORMAL)
        elif envelope.positions:
            reached = self._fed(envelope.recipients.ids) if self._reports.sent_calls else ()
            for id, position in zip(envelope.recipients.ids, envelope.positions, strict=True):
                self._deliver_stored(id, position, envelope.body)
            if reached:
                self._reports.delivered(envelope.body, envelope.message_id, reached)
        else:
            body = envelope.body
            found = self._found(envelope.recipients)
            for connection in found:
                connection.outlet.write(body)
            if self._reports.sent_calls:
                self._reports.delivered(body, envelope.message_id, found)

    def announce(self, position: Position, entry: Entry) -> None:
        """Hand on the next of the stored messages to everybody.

        It is numbered for wire 2, and for whom nobody is known yet: a client that comes back reads
        in its number that it will get this message again, in its place, once it has logged in.
        """
        body, numbered_body = entry.body, numbered_broadcast(entry.body, entry.sequence)
        found = self._registry.everybody(entry.excluding, anonymous=self._anonymous)
        for connection in found:
            feed = connection.feed
            if feed is None:
                connection.outlet.write(numbered_body)
            elif feed.is_wire2:
                feed.announce(position, numbered_body)
            else:
                connection.outlet.write(body)
        if log.isEnabledFor(logging.DEBUG):
            log_announcement(log, entry.message_id, body, len(found))
        for id in entry.excluding:
            for connection in self._registry.of(id):
                if connection.feed is not None:
                    connection.feed.announce(position, None)

        if self._reports.sent_calls:
            self._reports.delivered(body, entry.message_id, found)

    def _fed(self, ids: Iterable[str]) -> Sequence[Connection]:
        """The connections that get what is stored for `ids`."""
        return [each for id in ids for each in self._registry.of(id) if each.feed is not None]

    def _deliver_stored(self, id: str, position: Position, body: bytes) -> None:
        numbered_body: bytes | None = None
        for connection in self._registry.of(id):
            feed = connection.feed
            if feed is None:
                continue
            if feed.is_wire2:
                numbered_body = numbered_body or numbered(body, position.sequence)
                feed.deliver(position, numbered_body)
            else:
                feed.deliver(position, body)

    def _found(self, recipients: Recipients) -> Sequence[Connection]:
        if recipients.everybody:
            return self._registry.everybody(recipients.excluding, anonymous=self._anonymous)
        return [connection for id in recipients.ids for connection in self._registry.of(id)]
