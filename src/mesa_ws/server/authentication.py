"""Admission: how a connection becomes a user's, or is turned away.

The backend knows of the id before the client is told who it is, and reads what is stored for it in
the same step. So a message that is dispatched meanwhile is on the page that was read, or finds the
connection, which holds it back until the page is written.
"""

import logging
from collections.abc import Coroutine
from typing import Any, Protocol

from ..backend.base import Backend
from ..backend.outbox import Page, Start
from ..close import CloseCode
from ..errors import BackendError, InvalidMessage, Refused
from ..messages.message_log import log_page
from ..messages.receipt import Position
from ..messages.recipients import User
from ..protocol import UNKNOWN, Authenticate, Close, ResumeState, SendText, SyncOptions, resync, welcome
from ..settings import ServerSettings
from .connection import Connection
from .registrations import Handlers
from .registry import Registry
from .subscription import Feed

log = logging.getLogger("mesa_ws.server")


class Cluster(Protocol):
    """What admission needs of the node that does it."""

    settings: ServerSettings
    handlers: Handlers
    registry: Registry[Connection]

    @property
    def backend(self) -> Backend:
        """Where outboxes are."""

    @property
    def broadcast_position(self) -> Position | None:
        """Where this node is among the messages to everybody."""

    async def broadcasts(self, position: Position | None) -> Page:
        """Read the messages to everybody after a position."""

    def feed(self, connection: Connection, id: str) -> Feed:
        """Begin to feed a connection from the outbox of `id`."""

    def leave(self, id: str) -> None:
        """Pass on what was proven for an id that a connection is about to leave."""

    def left(self, id: str) -> None:
        """A connection has left an id; tell the backend how many it has here now."""


async def admit(node: Cluster, connection: Connection, attempt: Authenticate) -> None:
    """Answer op 2: ask the authenticator, and obey."""
    user = await _ask(node, connection, attempt.data)
    if user is None or not connection.is_open:
        return
    try:
        accepted = connection.protocol.accept(user)
    except InvalidMessage as error:
        await _failed(node, connection, error)
        return
    connection.user = user
    feed = connection.feed
    if feed is not None and feed.is_started and (feed.id, feed.is_wire2) == (user.id, attempt.sync.is_wire2):
        connection.outlet.control(_told_again(accepted, feed).payload)
    elif not await _log_in(node, connection, user.id, attempt.sync, accepted):
        return
    log.debug("login of %r on wire %d", connection, 2 if attempt.sync.is_wire2 else 1)
    await node.handlers.authenticated(connection)


def rename(node: Cluster, connection: Connection, user: User) -> Coroutine[Any, Any, None] | None:
    """Let a connection get the messages of another user's id; those of the old one end at once.

    Returns:
        What is to be done then; None if the connection logs in just now, which goes on with this id.
    """
    since = connection.feed.has_announced if connection.feed is not None else None
    feed = _move(node, connection, user.id)
    feed.had_announced = since
    return None if connection.is_logging_in else _begin_anew(node, connection, feed)


async def _log_in(
    node: Cluster, connection: Connection, id: str, sync: SyncOptions, accepted: SendText
) -> bool:
    """Begin with the messages of an id, or of another one that the connection gets meanwhile.

    Returns:
        False if the connection has ended meanwhile.
    """
    connection.is_logging_in = True
    here = node.broadcast_position
    feed = _move(node, connection, id)
    while (pages := await _read(node, connection, feed, sync, here)) is None:
        if not connection.is_open or connection.feed is None:
            return False
        feed = connection.feed
    connection.is_logging_in = False
    page, announced = pages
    if feed.is_wire2:
        announced_state = ResumeState.of(announced) if announced is not None else None
        accepted = welcome(accepted, ResumeState.of(page), announced_state)
    connection.outlet.control(accepted.payload)
    _begin(node, feed, page, announced)
    return True


async def _begin_anew(node: Cluster, connection: Connection, feed: Feed) -> None:
    """Go on with another outbox: clients of wire 2 are told of it, those of 1.x are not."""
    sync = SyncOptions(is_wire2=feed.is_wire2, broadcasts=feed.had_announced)
    pages = await _read(node, connection, feed, sync, node.broadcast_position)
    if pages is None:
        return
    page, announced = pages
    if feed.is_wire2:
        connection.outlet.control(resync(ResumeState.of(page)._replace(status="reset")).payload)
    if announced is not None and (announced.status != "resumed" or announced.lost):
        connection.outlet.write(resync(ResumeState.of(announced), is_broadcast=True).payload)
    _begin(node, feed, page, announced)


def _begin(node: Cluster, feed: Feed, page: Page, announced: Page | None) -> None:
    log_page(log, feed.id, (*page.entries, *(announced.entries if announced is not None else ())))
    feed.begin(page, announced, node.broadcast_position)


def _move(node: Cluster, connection: Connection, id: str) -> Feed:
    """Let a connection belong to `id` here; return its new feed."""
    previous = node.registry.id_of(connection)
    if previous is not None:
        node.leave(previous)
    feed = node.feed(connection, id)
    node.registry.identify(connection, id)
    if previous is not None and previous != id:
        node.left(previous)
    return feed


async def _read(
    node: Cluster, connection: Connection, feed: Feed, sync: SyncOptions, here: Position | None
) -> tuple[Page, Page | None] | None:
    """Declare whom a connection belongs to, and read what is stored; None if it is gone or elsewhere.

    Args:
        node: whose connection it is.
        connection: which.
        feed: of whom it belongs to.
        wish: what the client wants.
        here: where messages to everybody were when its feed began, for a client that does not say.
    """
    id = feed.id
    try:
        page = await node.backend.attach(id, node.registry.count(id), start_of(sync))
        announced = await _announced(node, sync, here) if sync.is_wire2 else None
        if sync.is_wire2 and not sync.should_sync:
            feed.settles = await _is_settled(node, id, page)
    except BackendError as error:
        connection.obey(Close(CloseCode.TRY_AGAIN_LATER, f"the backend does not know of {id!r}: {error}"))
        return None
    assert page is not None  # noqa: S101 - a start was given
    return (page, announced) if feed.is_open else None


def start_of(sync: SyncOptions) -> Start:
    """Where the messages begin that a client asks for."""
    if not sync.should_sync:
        return Start("top" if sync.is_wire2 else "acknowledge", is_wire2=sync.is_wire2)
    if sync.position is None:
        return Start("fresh", is_wire2=sync.is_wire2)
    return Start("resume", None if sync.position == UNKNOWN else sync.position, is_wire2=True)


async def _announced(node: Cluster, sync: SyncOptions, here: Position | None) -> Page:
    """The messages to everybody that a client missed; if it does not say, since it logs in."""
    asked = sync.broadcasts if sync.should_sync else None
    since = here if asked is None or asked == UNKNOWN else asked
    if since is not None and since == node.broadcast_position:
        page = Page("resumed", since.epoch, since.sequence, since.sequence, 0)
    else:
        page = await node.broadcasts(since)
    if asked is None:
        return page._replace(status="fresh")
    return page._replace(status="reset") if asked == UNKNOWN else page


async def _is_settled(node: Cluster, id: str, page: Page | None) -> bool:
    """Whether nothing waits for the id, so that later proofs are none of what it skips."""
    head = (await node.backend.heads([id]))[id]
    return head is None or page is None or head.acknowledged >= page.start


def _told_again(accepted: SendText, feed: Feed) -> SendText:
    """The acknowledgement for a client that stays who it is: its messages go on where they are."""
    announced = feed.announced
    if announced is None:
        return accepted
    there = ResumeState("resumed", *announced, 0)
    return welcome(accepted, ResumeState("resumed", feed.replay.epoch, feed.replay.sent, 0), there)


async def _ask(node: Cluster, connection: Connection, data: object) -> User | None:
    handlers = node.handlers
    if handlers.authenticator is None:
        log.warning("a client asks to authenticate, but there is no @server.authenticator; refused")
        connection.obey(connection.protocol.refuse())
        return None
    try:
        user = await handlers.authenticate(data, connection, node.settings.authentication.timeout)
    except Refused as refusal:
        log.info("the authenticator refused %r: %r", connection, refusal.reason)
        user = None
    except Exception as error:  # noqa: BLE001 - an application's code may raise anything
        await _failed(node, connection, error)
        return None
    if user is None:
        connection.obey(connection.protocol.refuse())
    return user


async def _failed(node: Cluster, connection: Connection, error: Exception) -> None:
    advice = "raise Refused to turn a client away, return User(id, data) to accept it"
    if isinstance(error, TimeoutError):
        advice = "it took too long; Authentication(timeout=...) gives it longer"
    log.error("the authenticator failed; the client may come back; %s", advice, exc_info=error)
    connection.obey(connection.protocol.fail(f"the authenticator failed: {type(error).__name__}"))
    await node.handlers.failed(error, connection)
