"""Notifications: calls of hooks about messages that were sent, which nothing waits for."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from ..backend.outbox import Entry
from ..concurrency.tasks import Spawn
from ..handlers.caller import Handler, call_at_once, name_of
from ..messages.frames import decode_frame
from ..messages.message import Message
from ..messages.receipt import Delivery
from .registrations import Handlers

MOST = 10_000
"""Calls of one hook that may wait; further ones are dropped."""

OWN = 10_000
"""Messages of its own that a node recognizes when the bus brings them."""


class Notifications:
    """Call the hooks about messages that were sent and stored. For the event loop only.

    Attributes:
        log: gets what clients and other strangers cause.
        sent_handlers: hooks about every message; while it is empty, callers need not collect anything.
        redelivered_handlers: hooks about backlogs; likewise.
    """

    def __init__(self, handlers: Handlers, spawn: Spawn) -> None:
        self.sent_handlers = handlers.sent
        self.redelivered_handlers = handlers.redelivered
        self.log = handlers.log
        self._handlers = handlers
        self._spawn = spawn
        self._late: dict[int, HookQueue] = {}
        self._own: dict[str, None] = {}

    def own(self, message_id: str) -> None:
        """Remember a message that this node is about to send, to recognize it on the bus."""
        if self.sent_handlers:
            self._own[message_id] = None
            if len(self._own) > OWN:
                del self._own[next(iter(self._own))]

    def delivered(self, body: bytes, message_id: str, connections: Sequence[object]) -> None:
        """Notify of a message from the bus that was written to connections."""
        self.wrote(body, connections, from_this_node=message_id in self._own)

    def wrote(self, body: bytes, connections: Sequence[object], *, from_this_node: bool) -> None:
        """Notify of an encoded message that was written to connections."""
        if connections and self.sent_handlers:
            self.sent(decode_frame(body).message(), connections, from_this_node=from_this_node)

    def sent(self, message: Message, connections: Sequence[object], *, from_this_node: bool) -> None:
        """Notify of a message that was written to connections."""
        for hook, runs_later in self.sent_handlers:
            if runs_later:
                self._later(hook, None, message, connections, from_this_node)
                continue
            try:
                call_at_once(hook, message, connections, from_this_node)
            except Exception as error:
                name = name_of(hook)
                self.log.exception("hook %s raised", name, kind=(name, type(error)))
                self._spawn(self._handlers.failed(error, None))

    def stored(self, message: Message, deliveries: Mapping[str, Delivery]) -> None:
        """Notify of a message of this node that was stored for ids who are away."""
        if self._handlers.undeliverable:
            away = [id for id, each in deliveries.items() if each.stored and not each.online]
            for hook in self._handlers.undeliverable if away else ():
                self._later(hook, None, message, away)

    def redelivered(self, entries: Sequence[Entry], connection: object) -> None:
        """Notify of stored messages that a client gets after its login."""
        messages = [decode_frame(entry.body).message() for entry in entries]
        for hook in self.redelivered_handlers:
            self._later(hook, connection, messages, connection)

    def _later(self, hook: Handler, connection: object, *args: Any) -> None:
        calls = self._late.get(id(hook))  # hooks live as long as the server, and need not be hashable
        if calls is None:
            calls = self._late[id(hook)] = HookQueue(self._handlers, hook, self._spawn)
        calls.add(connection, *args)


class HookQueue:
    """Call one hook in order, without holding up other hooks. For the event loop only."""

    def __init__(self, handlers: Handlers, hook: Handler, spawn: Spawn) -> None:
        self._handlers = handlers
        self._hook = hook
        self._spawn = spawn
        self._waiting: deque[tuple[object, tuple[Any, ...]]] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._dropped = 0

    def add(self, connection: object, *args: Any) -> None:
        """Add a call with `args`; it concerns `connection`."""
        if len(self._waiting) >= MOST:
            if not self._dropped:
                name = name_of(self._hook)
                self._handlers.log.warning(
                    "%s is too slow: %d calls wait, further ones are dropped", name, MOST, kind=name
                )
            self._dropped += 1
            return
        self._waiting.append((connection, args))
        if self._worker is None:
            self._worker = self._spawn(self._work())

    async def _work(self) -> None:
        try:
            while self._waiting:
                connection, args = self._waiting.popleft()
                await self._handlers.run([self._hook], connection, *args)
            if self._dropped:
                name = name_of(self._hook)
                self._handlers.log.warning("%d calls of %s were dropped", self._dropped, name, kind=name)
        finally:  # a server that stops drops the calls that wait, and makes none when it starts again
            self._waiting.clear()
            self._worker, self._dropped = None, 0
