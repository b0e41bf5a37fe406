"""What middleware is told of messages on their way out, where nothing may wait for it."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from ..handlers import Handler, call_at_once, name_of
from ..messages.frames import decode_frame
from ..messages.message import Message
from ..messages.receipt import Delivery
from .event_loop import LoopWork
from .registrations import Handlers

log = logging.getLogger("mesa_ws.server")

MOST = 10_000
"""Calls that wait; further ones are dropped."""

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class LateCalls:
    """Calls a hook in order, and holds up nobody else's. For the event loop only.

    Args:
        handlers: calls it, and reports what it raises.
        hook: what is called.
        spawn: runs the work.
    """

    def __init__(self, handlers: Handlers, hook: Handler, spawn: Spawn) -> None:
        self._handlers = handlers
        self._hook = hook
        self._spawn = spawn
        self._waiting: deque[tuple[object, tuple[Any, ...]]] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._dropped = 0

    def add(self, connection: object, *args: Any) -> None:
        """Let it be called with `args`, of which `connection` is whose they are."""
        if len(self._waiting) >= MOST:
            if not self._dropped:
                log.warning(
                    "%s is too slow: %d calls wait, further ones are dropped", name_of(self._hook), MOST
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
                await self._handlers.tell(self._hook, connection, *args)
            if self._dropped:
                log.warning("%d calls of %s were dropped", self._dropped, name_of(self._hook))
        finally:  # a server that stops does not wait for calls, and has none to make when it starts again
            self._waiting.clear()
            self._worker, self._dropped = None, 0


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


OfflineTelling = Callable[[], Awaitable[None]]


class IdNews:
    """Calls handlers about ids: those of one id one after another, those of others meanwhile.

    Args:
        spawn: runs the work.
    """

    def __init__(self, spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]) -> None:
        self._spawn = spawn
        self._waiting: dict[str, deque[OfflineTelling]] = {}

    def add(self, id: str, tell: OfflineTelling) -> None:
        """Let `tell` be called after what was added for `id` before."""
        if id in self._waiting:
            self._waiting[id].append(tell)
            return
        self._waiting[id] = deque((tell,))
        self._spawn(self._tell(id))

    async def _tell(self, id: str) -> None:
        waiting = self._waiting[id]
        try:
            while waiting:
                await waiting.popleft()()
        finally:
            del self._waiting[id]


class Telling(LoopWork):
    """Calls the handlers that are about ids, portals or Redis, and about no connection.

    Args:
        handlers: the application's.
    """

    def __init__(self, handlers: Handlers) -> None:
        super().__init__()
        self.handlers = handlers
        self._news = IdNews(self.spawn)
        self._portal_news = IdNews(self.spawn)

    def came_online(self, id: str) -> None:
        """Tell the application that an id has its first connection in the cluster."""
        if self.handlers.online and self._loop is not None:
            self._news.add(id, lambda: self.handlers.came_online(id))

    def went_offline(self, id: str) -> None:
        """Tell the application that an id has had none for longer than the grace."""
        if self.handlers.offline and self._loop is not None:
            self._news.add(id, lambda: self.handlers.went_offline(id))

    def portal_joined(self, id: str) -> None:
        """Tell middleware that a portal takes part."""
        if self.handlers.portal_join and self._loop is not None:
            self._portal_news.add(id, lambda: self.handlers.portal_joined(id))

    def portal_left(self, id: str) -> None:
        """Tell middleware that a portal takes part no more."""
        if self.handlers.portal_leave and self._loop is not None:
            self._portal_news.add(id, lambda: self.handlers.portal_left(id))

    def forked(self, since: float) -> None:
        """Tell the application that Redis may have forgotten what it confirmed after `since`."""
        what = f"after {datetime.fromtimestamp(since, UTC):%Y-%m-%d %H:%M:%S} UTC" if since else "before now"
        log.warning("Redis restarted or failed over: what it confirmed %s may be lost", what)
        if self.handlers.forked and self._loop is not None:
            self._news.add("*", lambda: self.handlers.forked_store(since))

    def tell_lost(self, id: str, count: int) -> None:
        """Tell the application that a client of 1.x has lost messages."""
        if self.handlers.lost:
            self._news.add(id, lambda: self.handlers.lost_messages(id, count))
