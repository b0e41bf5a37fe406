"""The argument of a portal's handlers."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from typing import Any

import msgspec

from ..backend.inbox import EventKind, WaitingEvent
from ..concurrency.blocking import awaited
from ..errors import BackendUnavailable, MesaError
from ..messages.envelope import Envelope, name_dispatch
from ..messages.frames import decode_frame, encode_message
from ..messages.message import Message
from ..messages.recipients import Recipients
from ..protocol.correlation import RequestReceived, read_correlation

Send = Callable[[Envelope, str], Awaitable[bool]]
"""Sends a message to one connection of the node named."""

_IN_LOOP = "event.reply_blocking would block the event loop of the portal; use await event.reply(...)"

_STOPPED = "event.reply_blocking: the portal has stopped"


class PortalEvent:
    """Something that a client did, or that happened to its connection.

    The same event may be handled more than once: after a handler raised, and after its portal died.
    Messages that a dispatcher or `reply` sends in a handler get their ids from the event and the order
    of the calls, so that servers recognize those of the second time, and deliver them once.

    Attributes:
        type: `connection`, `authentication`, `message` or `disconnection`.
        id: the id of the client at that time, or None before it authenticated.
        connection_id: names the connection in the whole cluster.
        node: the server it is connected to.
        message: the message that the client sent; None where `type` is another.
        code: close code of a disconnection, 1006 where the server died; else None.
        reason: text of the close frame; else empty.
        time: when it happened, in seconds of Unix time.
        deliveries: how often it was delivered to handlers, this time included.
        request: names the request that the result of a handler answers; None where there is no request.
        key: names the event, the same at each delivery: an idempotency key for effects of your own.
    """

    __slots__ = (
        *("_loop", "_send", "_thread", "code", "connection_id", "deliveries", "id", "key", "message"),
        *("node", "reason", "request", "time", "type"),
    )

    def __init__(self, waiting: WaitingEvent, deliveries: int, send: Send) -> None:
        event = waiting.event
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.type: EventKind = event.kind  # type: ignore[assignment]  # others reach no handler
        self.id = event.id
        self.connection_id = event.connection_id
        self.node = event.node
        self.key = event.key
        self.time = waiting.at
        self.deliveries = deliveries
        self.message: Message | None = None
        self.code: int | None = None
        self.reason = ""
        self.request: str | None = None
        if event.kind == "message":
            frame = decode_frame(event.data)
            self.message = frame.message()
            if isinstance(frame.x, dict):
                asked = read_correlation(frame)
                self.request = asked.request if isinstance(asked, RequestReceived) else None
        elif event.data:  # servers of 1.x do not send how a connection ended
            self.code, self.reason = _DECODE_END(event.data)

    @awaited("event.reply", "event.reply_blocking(...)")
    async def reply(self, message: Message) -> bool:
        """Send a message to the connection of this event; it is never stored.

        Returns:
            Whether the server of the connection lives; the client need not have received the message yet.

        Raises:
            InvalidMessage: the message cannot go on the wire.
            BackendError: the backend did not accept the message.
            Unsupported: a server of 1.x sent the event, and does not say which connection that is.
        """
        return await self._send(self._envelope(message), self.node)

    def reply_blocking(self, message: Message) -> bool:
        """Do as `reply`, for plain functions, which are called in threads.

        Raises:
            MesaError: called in the event loop of the portal.
            BackendUnavailable: the event loop of the portal has ended, or ends before the message is sent.
        """
        if threading.get_ident() == self._thread:
            raise MesaError(_IN_LOOP)
        sending = self._sent(self._envelope(message))
        try:
            return asyncio.run_coroutine_threadsafe(sending, self._loop).result()
        except CancelledError:
            raise BackendUnavailable(_STOPPED, maybe_sent=True) from None
        except RuntimeError:
            if not self._loop.is_closed():
                raise
            sending.close()
            raise BackendUnavailable(_STOPPED) from None

    def _envelope(self, message: Message) -> Envelope:
        body = encode_message(message)
        message_id, remember = name_dispatch(None)
        recipients = Recipients(False, (self.connection_id,), frozenset())
        return Envelope(recipients, body, "connection", message_id, remember=remember)

    async def _sent(self, envelope: Envelope) -> bool:
        return await self._send(envelope, self.node)

    def __repr__(self) -> str:
        kind = f" {self.message.type!r:.100}" if self.message is not None else ""
        return f"<PortalEvent {self.type}{kind} of {self.id!r} on {self.connection_id}>"


_DECODE_END: Callable[[bytes], Any] = msgspec.json.Decoder(tuple[int, str]).decode
