"""What middleware is told of messages on their way out, where nothing may wait for it."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..calling import Handler, call_at_once, name_of
from ..codec import decode_frame
from ..envelope import Delivery
from ..message import Message
from .handlers import Handlers
from .late_calls import LateCalls, Spawn

log = logging.getLogger("mesa_ws.server")

OWN = 10_000
"""Messages of its own that a node knows again when the bus brings them."""


class Stored(Protocol):
    """A message as an outbox holds it."""

    @property
    def body(self) -> bytes:
        """The encoded frame."""


class Reports:
    """Calls the hooks about messages that are sent and stored. For the event loop only.

    Args:
        handlers: who listens.
        spawn: runs work of its own.

    Attributes:
        sent_calls: who is told of every message; nothing needs to be gathered while it is empty.
        redelivered_calls: who is told of backlogs; likewise.
    """

    def __init__(self, handlers: Handlers, spawn: Spawn) -> None:
        self.sent_calls = handlers.sent
        self.redelivered_calls = handlers.redelivered
        self._handlers = handlers
        self._spawn = spawn
        self._late: dict[int, LateCalls] = {}
        self._own: dict[str, None] = {}

    def own(self, message_id: str) -> None:
        """This node is about to send a message; know it again."""
        if self.sent_calls:
            self._own[message_id] = None
            if len(self._own) > OWN:
                del self._own[next(iter(self._own))]

    def delivered(self, body: bytes, message_id: str, connections: Sequence[object]) -> None:
        """The bus brought a message, which was handed to connections."""
        self.wrote(body, connections, from_this_node=message_id in self._own)

    def wrote(self, body: bytes, connections: Sequence[object], *, from_this_node: bool) -> None:
        """An encoded message was handed to connections."""
        if connections and self.sent_calls:
            self.sent(decode_frame(body).message(), connections, from_this_node=from_this_node)

    def sent(self, message: Message, connections: Sequence[object], *, from_this_node: bool) -> None:
        """A message was handed to connections."""
        for hook, runs_later in self.sent_calls:
            if runs_later:
                self._later(hook, None, message, connections, from_this_node)
                continue
            try:
                call_at_once(hook, message, connections, from_this_node)
            except Exception as error:
                log.exception("hook %s raised", name_of(hook))
                self._spawn(self._handlers.failed(error, None))

    def stored(self, message: Message, deliveries: Mapping[str, Delivery]) -> None:
        """This node has sent a message to ids."""
        if self._handlers.undeliverable:
            away = [id for id, each in deliveries.items() if each.stored and not each.online]
            for hook in self._handlers.undeliverable if away else ():
                self._later(hook, None, message, away)

    def redelivered(self, entries: Sequence[Stored], connection: object) -> None:
        """A client that has logged in gets what was stored."""
        messages = [decode_frame(entry.body).message() for entry in entries]
        for hook in self.redelivered_calls:
            self._later(hook, connection, messages, connection)

    def _later(self, hook: Handler, connection: object, *args: Any) -> None:
        calls = self._late.get(id(hook))  # which lives as long as the server, hashable or not
        if calls is None:
            calls = self._late[id(hook)] = LateCalls(self._handlers, hook, self._spawn)
        calls.add(connection, *args)
