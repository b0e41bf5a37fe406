"""Authentication: how a connection becomes a user's, or is refused.

The backend learns of the id before the client gets its answer, and reads the id's stored messages in
the same step. So a message that is dispatched at the same time is on the page that was read, or finds
the connection, which holds it back until the page is written.
"""

import asyncio
import logging

from ..backend.base import Backend
from ..backend.outbox import Page, Start
from ..backend.queries import Heads
from ..close import CloseCode
from ..concurrency.clock import unix_time
from ..concurrency.tasks import Spawn
from ..errors import BackendError, InvalidMessage, Refused
from ..messages.receipt import Position
from ..messages.recipients import User
from ..protocol.events import Authenticate, Close, Waiting
from ..protocol.resume import UNKNOWN, ResumeState, SyncOptions, resync, welcome
from ..protocol.server import State
from .connection import Connection
from .connection_limits import FAILED_LOGINS, PER_ID, ConnectionLimits
from .failed_logins import FailedLogins
from .fanout import Fanout
from .overload import LoginQueue
from .registrations import Handlers
from .subscription import Subscription

log = logging.getLogger("mesa_ws.server")


class Authenticator:
    """Answer op 2 of connections, and subscribe them to the id of their user. For the event loop only."""

    def __init__(
        self,
        backend: Backend,
        *,
        fanout: Fanout,
        handlers: Handlers,
        timeout: float | None,
        limits: ConnectionLimits,
        failed_logins: FailedLogins,
        logins: LoginQueue,
        spawn: Spawn,
    ) -> None:
        self._backend = backend
        self._fanout = fanout
        self._handlers = handlers
        self._timeout = timeout
        self._limits = limits
        self._failed_logins = failed_logins
        self._logins = logins
        self._spawn = spawn

    async def authenticate(self, connection: Connection, waiting: Waiting) -> None:
        """Call the authenticator when it is the login's turn, and log the client in, or refuse it.

        The login of a client that has gone by then is dropped, before anything was done for it.
        """
        address = _address(connection)
        wait = self._failed_logins.begin(address)
        if wait is None:
            self._limits.refuse(FAILED_LOGINS, address)
            connection.obey(Close(CloseCode.TRY_AGAIN_LATER, "too many logins of its address have failed"))
            return
        has_failed = None
        try:
            if wait:
                await asyncio.sleep(wait)
            async with self._logins as has_waited:
                if not connection.is_open or (has_waited and connection.has_gone()):
                    self._limits.dropped["login"] += 1
                    return
                attempt = connection.read(waiting)
                if not isinstance(attempt, Authenticate):
                    return
                user, has_failed = await self._find_user(connection, attempt.data)
                self._fanout.settle(connection)  # with the id that it had
                if user is None or not await self._accept(connection, user, attempt.sync):
                    return
        finally:
            self._failed_logins.end(address, has_failed)
        await self._handlers.authenticated(connection)

    async def _accept(self, connection: Connection, user: User, sync: SyncOptions) -> bool:
        """Log a client in as a user, if it may be; return whether it is one now."""
        if not self._may_log_in(connection, user):
            return False
        if _stays(connection, user, sync) and not await self._is_allowed(connection, user):
            return False
        try:
            accepted = connection.protocol.accept(user)
        except InvalidMessage as error:
            await self._fail(connection, error)
            return False
        connection.log_in(user)
        self._limits.logged_in(connection)
        if (current := _stays(connection, user, sync)) is not None:
            connection.send_queue.control(_accepted_again(accepted, current, user))
        elif not await self._log_in(connection, user.id, sync, accepted):
            return False
        log.debug("login of %r on wire %d", connection, 2 if sync.is_wire2 else 1)
        return True

    def _may_log_in(self, connection: Connection, user: User) -> bool:
        """Whether a connection is open, and its user's time and the limits allow a login; end it if not."""
        if connection.protocol.state is State.CLOSED:
            return False
        if user.expires_at is not None and user.expires_at <= unix_time():
            self._handlers.log.info("the authenticator accepted %r until a time that is past", connection)
            connection.obey(connection.protocol.refuse())
            return False
        if not self._has_room(connection, user.id):
            self._limits.refuse(PER_ID, _address(connection))
            code = CloseCode.TOO_MANY_CONNECTIONS
            connection.disconnect(code, code.wire_reason)
            return False
        return True

    async def _is_allowed(self, connection: Connection, user: User) -> bool:
        """Whether no revocation ends this login of a user who is here already."""
        try:
            standing = await self._backend.standing(user.id)
        except BackendError as error:
            why = f"the backend does not know of {user.id!r}: {error}"
            connection.obey(Close(CloseCode.TRY_AGAIN_LATER, why))
            return False
        self._fanout.settle(connection)  # it may have another id by now
        return connection.is_open and self._fanout.orders.allows(connection, user, standing)

    def _has_room(self, connection: Connection, id: str) -> bool:
        """Whether the id may have this connection, too, if it does not have it already."""
        if self._fanout.connections.get(connection) == id:
            return True
        return self._limits.has_room_for_id(len(self._fanout.by_id.get(id, ())))

    def rename(self, connection: Connection, user: User) -> bool:
        """Subscribe a connection to the id of another user; return False if that is the same id.

        Messages of the old id end at once. A login under way continues with the new id.
        """
        self._fanout.settle(connection)  # with the id that it had, which may end it
        if not connection.is_open or self._fanout.connections.get(connection) == user.id:
            return False
        previous = connection.subscription
        broadcasts_before = previous.broadcasts_reached if previous is not None else None
        subscription = self._fanout.subscribe(connection, user.id)
        subscription.broadcasts_before = broadcasts_before
        if not connection.is_logging_in:
            self._spawn(self._restart(connection, subscription))
        return True

    async def _restart(self, connection: Connection, subscription: Subscription) -> None:
        """Start with the messages of another id: notify clients of wire 2, but not those of 1.x."""
        sync = SyncOptions(is_wire2=subscription.is_wire2, broadcasts=subscription.broadcasts_before)
        pages = await self._read(connection, subscription, sync, self._fanout.broadcasts.position)
        if pages is None:
            return
        page, broadcasts = pages
        if not self._fanout.orders.admit(connection, page.standing):
            return
        if subscription.is_wire2:
            connection.send_queue.control(resync(ResumeState.of(page)._replace(status="reset")))
        if broadcasts is not None and (broadcasts.status != "resumed" or broadcasts.lost):
            connection.send_queue.write(resync(ResumeState.of(broadcasts), is_broadcast=True))
        subscription.begin(page, broadcasts, self._fanout.broadcasts.position)

    async def _log_in(self, connection: Connection, id: str, sync: SyncOptions, accepted: bytes) -> bool:
        """Start with the messages of an id, or of another one that the connection gets during the login.

        Returns:
            False if the connection has ended by then.
        """
        connection.is_logging_in = True
        here = self._fanout.broadcasts.position
        is_new = self._fanout.connections[connection] != id
        subscription = self._fanout.subscribe(connection, id)
        if is_new:
            for oldest in self._limits.replaced(self._fanout.by_id[id]):
                oldest.obey(Close(CloseCode.REPLACED, "a newer connection of its id took its place"))
        while (pages := await self._read(connection, subscription, sync, here)) is None:
            if not connection.is_open or connection.subscription is None:
                return False
            subscription = connection.subscription
        connection.is_logging_in = False
        page, broadcasts = pages
        if not self._fanout.orders.admit(connection, page.standing):
            return False
        if subscription.is_wire2:
            state = ResumeState.of(broadcasts) if broadcasts is not None else None
            accepted = welcome(accepted, ResumeState.of(page), state, _seconds_left(connection.user))
        connection.send_queue.control(accepted)
        subscription.begin(page, broadcasts, self._fanout.broadcasts.position)
        return True

    async def _read(
        self, connection: Connection, subscription: Subscription, sync: SyncOptions, here: Position | None
    ) -> tuple[Page, Page | None] | None:
        """Declare the id of a connection, and read its stored messages.

        Args:
            connection: that logs in.
            subscription: to the id.
            sync: the client's options.
            here: the position of messages to everybody when the subscription was made, for a client that
                does not name one.

        Returns:
            The pages of the outbox and of messages to everybody; None if the connection has another
            subscription by now, or has ended. An error of the backend ends it.
        """
        id = subscription.id
        try:
            page = await self._backend.attach(id, len(self._fanout.by_id.get(id, ())), start_of(sync))
            broadcasts = await self._read_broadcasts(sync, here) if sync.is_wire2 else None
            if sync.is_wire2 and not sync.should_sync:
                subscription.settles = await self._skips_nothing(id, page)
        except BackendError as error:
            connection.obey(Close(CloseCode.TRY_AGAIN_LATER, f"the backend does not know of {id!r}: {error}"))
            return None
        assert page is not None  # noqa: S101 - a start was given
        return (page, broadcasts) if subscription.is_open else None

    async def _read_broadcasts(self, sync: SyncOptions, here: Position | None) -> Page:
        """Read the messages to everybody that a client missed; without a position of its own, since login."""
        requested = sync.broadcasts if sync.should_sync else None
        since = here if requested is None or requested == UNKNOWN else requested
        if since is not None and since == self._fanout.broadcasts.position:
            page = Page("resumed", since.epoch, since.sequence, since.sequence, 0)
        else:
            page = await self._fanout.broadcasts.read(since)
        if requested is None:
            return page._replace(status="fresh")
        return page._replace(status="reset") if requested == UNKNOWN else page

    async def _skips_nothing(self, id: str, page: Page | None) -> bool:
        """Whether all messages before the page are acknowledged, so that this client skips none."""
        head = (await self._backend.query(Heads([id])))[id]
        return head is None or page is None or head.acknowledged >= page.start

    async def _find_user(self, connection: Connection, data: object) -> tuple[User | None, bool | None]:
        """Call the authenticator; return the user, and whether the login failed, None without an answer."""
        if self._handlers.authenticator is None:
            self._handlers.log.warning(
                "a client requests authentication, but there is no @server.authenticator; refused"
            )
            self._logins.failed["refused"] += 1
            connection.obey(connection.protocol.refuse())
            return None, None
        try:
            user = await self._handlers.authenticate(data, connection, self._timeout)
        except Refused as refusal:
            self._handlers.log.info("the authenticator refused %r: %r", connection, refusal.reason)
            user = None
        except Exception as error:  # noqa: BLE001 - an application's code may raise anything
            await self._fail(connection, error)
            return None, None
        if user is None:
            self._logins.failed["refused"] += 1
            connection.obey(connection.protocol.refuse())
        return user, user is None

    async def _fail(self, connection: Connection, error: Exception) -> None:
        self._logins.failed["error"] += 1
        advice = "raise Refused to refuse a client, return User(id, data) to accept it"
        if isinstance(error, TimeoutError):
            advice = "it took too long; Authentication(timeout=...) gives it longer"
        self._handlers.log.error(
            "the authenticator failed; the client may reconnect; %s", advice, exc_info=error, kind=type(error)
        )
        connection.obey(connection.protocol.fail(f"the authenticator failed: {type(error).__name__}"))
        await self._handlers.failed(error, connection)


def _address(connection: Connection) -> str | None:
    remote = connection.request.remote_address
    return remote[0] if remote else None


def _stays(connection: Connection, user: User, sync: SyncOptions) -> Subscription | None:
    """Return the subscription of a client that logs in again as the same user; None if it needs another."""
    current = connection.subscription
    if current is None or not current.is_started:
        return None
    return current if (current.id, current.is_wire2) == (user.id, sync.is_wire2) else None


def start_of(sync: SyncOptions) -> Start:
    """Return where the stored messages begin that a client requests."""
    if not sync.should_sync:
        return Start("top" if sync.is_wire2 else "acknowledge", is_wire2=sync.is_wire2)
    if sync.position is None:
        return Start("fresh", is_wire2=sync.is_wire2)
    return Start("resume", None if sync.position == UNKNOWN else sync.position, is_wire2=True)


def _seconds_left(user: User | None) -> float | None:
    return None if user is None or user.expires_at is None else user.expires_at - unix_time()


def _accepted_again(accepted: bytes, subscription: Subscription, user: User) -> bytes:
    """Return the answer to a client that stays the same user: its messages continue from where they are."""
    written = subscription.broadcasts_written
    if written is None:
        return accepted
    outbox = subscription.outbox
    broadcasts = ResumeState("resumed", *written, 0)
    state = ResumeState("resumed", outbox.epoch, outbox.sent, 0)
    return welcome(accepted, state, broadcasts, _seconds_left(user))
