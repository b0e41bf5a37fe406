"""Structured logging: one record for each event, for programs and for people."""

import itertools
import logging
from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

from ..errors import Reject
from ..messages.message import Message
from ..server.connection import Connection
from ..server.middleware import Middleware

MAX_TEXT = 100
"""Characters of a text from a client that are logged."""


class StructuredLogging(Middleware):
    """Logs connections, logins, disconnections and errors; never the data of messages, logins or errors.

    A record's `fields` is a mapping that JSON can hold, with `event` and its details; its text says
    the same for people. The records have remote addresses, ids, close codes, and the types of errors.
    Connections have numbers, which count from 1 in each process.

    Args:
        logger: the logger; `mesa_ws.events` by default.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._log = logger or logging.getLogger("mesa_ws.events")
        self._count = itertools.count(1)
        self._numbers: WeakKeyDictionary[Connection, int] = WeakKeyDictionary()

    async def on_connection(self, connection: Connection) -> None:
        """Log at INFO: `connection`, with `remote`."""
        remote = connection.request.remote_address
        self._event(logging.INFO, "connection", connection, {"remote": remote[0] if remote else None})

    async def on_authenticated(self, connection: Connection) -> None:
        """Log at INFO: `authenticated`."""
        self._event(logging.INFO, "authenticated", connection)

    async def on_disconnection(self, connection: Connection, code: int, reason: str) -> None:
        """Log at INFO: `disconnection`, with `code`."""
        self._event(logging.INFO, "disconnection", connection, {"code": int(code)})

    async def on_rejected(self, rejection: Reject, message: Message, connection: Connection) -> None:
        """Log at INFO: `rejected`, with its `code` and the `type` of the message; never why."""
        type = message.type
        told = {"code": rejection.code, "type": type if type is None else type[:MAX_TEXT]}
        self._event(logging.INFO, "rejected", connection, told)

    async def on_lost(self, id: str, count: int) -> None:
        """Log at WARNING: `lost`, with `id` and `count`."""
        self._event(logging.WARNING, "lost", None, {"id": id, "count": count})

    async def on_forked(self, since: float) -> None:
        """Log at WARNING: `forked`, with `since`."""
        self._event(logging.WARNING, "forked", None, {"since": since})

    async def on_error(self, error: Exception, connection: Connection | None) -> None:
        """Log at ERROR: `error`, with its `kind`; the server itself logs the traceback."""
        self._event(logging.ERROR, "error", connection, {"kind": type(error).__name__})

    def _event(
        self, level: int, event: str, connection: Connection | None, more: Mapping[str, object] | None = None
    ) -> None:
        if not self._log.isEnabledFor(level):
            return
        fields: dict[str, object] = {"event": event}
        if connection is not None:
            fields |= {"connection": self._number(connection), "id": connection.id}
        fields |= more or {}
        text = " ".join(f"{name}={value!r}" for name, value in fields.items() if name != "event")
        self._log.log(level, "%s %s", event, text, extra={"fields": fields})

    def _number(self, connection: Connection) -> int:
        number = self._numbers.get(connection)
        if number is None:
            number = self._numbers[connection] = next(self._count)
        return number


class MessageLogging(StructuredLogging):
    """`StructuredLogging` that also logs each message: its type, its opcode, and how many clients got it.

    At DEBUG, and never with its data. A client chooses the type, so it is cut after 100 characters.
    """

    async def on_message_received(self, message: Message, connection: Connection) -> None:
        """Log at DEBUG: `message_received`, with `type` and `opcode`."""
        self._event(logging.DEBUG, "message_received", connection, _kind(message))

    def on_message_sent(
        self, message: Message, connections: Sequence[Connection], from_this_node: bool
    ) -> None:
        """Log at DEBUG: `message_sent`, with `connections`, a number, and `from_this_node`."""
        told = {"connections": len(connections), "from_this_node": from_this_node}
        self._event(logging.DEBUG, "message_sent", None, _kind(message) | told)

    async def on_undeliverable_message_sent(self, message: Message, ids: Sequence[str]) -> None:
        """Log at DEBUG: `message_stored`, with `ids`, a number."""
        self._event(logging.DEBUG, "message_stored", None, _kind(message) | {"ids": len(ids)})

    async def on_redeliver_undeliverable_messages(
        self, messages: Sequence[Message], connection: Connection
    ) -> None:
        """Log at DEBUG: `messages_redelivered`, with `count`."""
        self._event(logging.DEBUG, "messages_redelivered", connection, {"count": len(messages)})


def _kind(message: Message) -> dict[str, object]:
    type = message.type
    return {"type": type if type is None else type[:MAX_TEXT], "opcode": message.opcode}
