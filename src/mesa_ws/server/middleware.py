"""What a middleware may listen to, and what it may refuse or change."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import Reject
from ..message import Message

if TYPE_CHECKING:
    from .connection import Connection


class Middleware:
    """A part of a server that can be reused: give it to `server.use`.

    Override any of these methods; the others cost nothing. A class of another base will do as well,
    if it has methods of these names. Each is `async def`, which runs in the event loop, or `def`,
    which runs in a thread, where it does not say otherwise.

    Several are called in the order in which they were given to `server.use`. What begins with
    `on_` is called after the application's own handlers of the same event; what it raises is
    logged, reported to `on_error`, and harms nobody else. What begins with `before_` is called
    first, and decides what goes on.
    """

    # What may refuse or change.

    async def before_authentication(self, data: Any, connection: "Connection") -> Any:
        """See what a client authenticates with, before the authenticator does.

        The time it takes counts as the authenticator's. Raise `Refused` to turn the client away.

        Returns:
            What the authenticator gets instead of `data`; None to leave it as it is.
        """

    async def before_message(self, message: Message, connection: "Connection") -> Message | None:
        """See a message from a client before it is handled.

        If it raises, the message is not handled. `Refused` and `RequestError` are decisions, with
        which a request is answered, `Reject` one that is counted and reported as well; anything else is
        an error, which is reported.

        Returns:
            The message that is handled; None to drop it without a word.
        """
        return message

    def before_send(self, message: Message, connection: "Connection | None") -> Message | None:
        """See a message before this server sends it, whichever way its code does.

        That is `server.send`, `server.request`, `connection.send`, and what a handler answers a request
        with. What others send, dispatchers and portals, does not come by here.

        Called in the thread that sends, so it is `def` and must not wait. What it raises, `Refused`
        for one, is raised to whoever sends; where that is an answer, the asker is told as if the
        handler had raised it.

        Args:
            message: what is to be sent.
            connection: whom `connection.send` or an answer goes to; else None.

        Returns:
            The message that is sent; None to send nothing, which a request or an answer fails of.
        """
        return message

    # What happened.

    async def on_connection(self, connection: "Connection") -> None:
        """A client has connected."""

    async def on_authenticated(self, connection: "Connection") -> None:
        """A client was told who it is."""

    async def on_message_received(self, message: Message, connection: "Connection") -> None:
        """A message of a client's was handled: the application's handlers are done with it."""

    def on_message_sent(
        self, message: Message, connections: Sequence["Connection"], from_this_node: bool
    ) -> None:
        """A message was handed to connections of this server; to none is not told.

        Requests, answers and what portals reply are such messages; frames of the protocol are not,
        nor is what clients get later from their outboxes. As `def` it is called at once in the
        event loop, for every message, and must not wait. As `async def` it is called in order
        later, and holds up no other hook; while 10 000 calls wait, further ones are dropped and
        counted in a warning.

        Args:
            message: what was sent, without the numbers that it has for each of them.
            connections: to whom; one that reads slowly gets it later, or in its next connection.
            from_this_node: whether this server's own code sent it, and not a dispatcher or another
                server.
        """

    async def on_undeliverable_message_sent(self, message: Message, ids: Sequence[str]) -> None:
        """A message that this server sent was stored for `ids`, who are connected nowhere."""

    async def on_redeliver_undeliverable_messages(
        self, messages: Sequence[Message], connection: "Connection"
    ) -> None:
        """A client has logged in, and gets what was stored for it until then, perhaps nothing.

        A long backlog is told in parts, as it is read.
        """

    async def on_disconnection(self, connection: "Connection", code: int, reason: str) -> None:
        """A connection has ended; the last that is told of it."""

    async def on_error(self, error: Exception, connection: "Connection | None") -> None:
        """A handler or a hook raised. What this one raises is logged, and goes no further."""

    async def on_rejected(self, rejection: Reject, message: Message, connection: "Connection") -> None:
        """A handler or a `before_message` hook has refused a message for good; see `Server.on_rejected`."""

    async def on_online(self, id: str) -> None:
        """An id has its first connection in the cluster; see `Server.on_online`."""

    async def on_offline(self, id: str) -> None:
        """An id has had no connection for a while; see `Server.on_offline`."""

    async def on_lost(self, id: str, count: int) -> None:
        """Stored messages to an id of a 1.x client were dropped; see `Server.on_lost`."""

    async def on_forked(self, since: float) -> None:
        """Redis may have forgotten what it confirmed after `since`; see `Server.on_forked`."""

    async def on_portal_join(self, id: str) -> None:
        """A portal has begun to take what clients send, or was there when this server started.

        Told on every server that has portals, within a heartbeat.
        """

    async def on_portal_leave(self, id: str) -> None:
        """A portal has ended, or its lease has; told like `on_portal_join`."""

    async def on_stop(self) -> None:
        """The server is about to stop; see `Server.on_stop`."""
