"""Admission: how a connection becomes a user's, or is turned away.

The backend knows of the id before the client is told who it is, so a message that is dispatched
after the acknowledgement always finds the connection. What arrives in between is held back and
follows the acknowledgement.
"""

import logging
from typing import Protocol

from ..close import CloseCode
from ..errors import BackendError, InvalidMessage, Refused
from ..session import Close
from ..settings import ServerSettings
from ..user import User
from .connection import Connection
from .handlers import Handlers
from .registry import Registry

log = logging.getLogger("mesa_ws.server")


class Cluster(Protocol):
    """What admission needs of the node that does it."""

    settings: ServerSettings
    handlers: Handlers
    registry: Registry[Connection]

    async def declare(self, id: str) -> None:
        """Tell the backend how many connections `id` has here."""


async def admit(node: Cluster, connection: Connection, data: object) -> None:
    """Answer op 2: ask the authenticator, and obey."""
    user = await _ask(node, connection, data)
    if user is None or not connection.is_open:
        return
    try:
        acknowledgement = connection.session.accept(user)
    except InvalidMessage as error:
        await _failed(node, connection, error)
        return
    connection.hold_back()
    connection.user = user
    previous = node.registry.identify(connection, user.id)
    if await declare(node, connection, user.id, previous) and connection.is_open:
        connection.release(acknowledgement.payload)
        await node.handlers.authenticated(connection)


async def declare(node: Cluster, connection: Connection, id: str, previous: str | None) -> bool:
    """Tell the backend whom the connection belongs to; close it if that cannot be told."""
    try:
        await node.declare(id)
        if previous is not None and previous != id:
            await node.declare(previous)
    except BackendError as error:
        connection.obey(Close(CloseCode.TRY_AGAIN_LATER, f"the backend does not know of {id!r}: {error}"))
        return False
    return True


async def _ask(node: Cluster, connection: Connection, data: object) -> User | None:
    handlers = node.handlers
    if handlers.authenticator is None:
        log.warning("a client asks to authenticate, but there is no @server.authenticator; refused")
        connection.obey(connection.session.refuse())
        return None
    try:
        user = await handlers.authenticate(data, connection, node.settings.authentication.timeout)
    except Refused as refusal:
        log.info("the authenticator refused %r: %s", connection, refusal.reason)
        user = None
    except Exception as error:  # noqa: BLE001 - an application's code may raise anything
        await _failed(node, connection, error)
        return None
    if user is None:
        connection.obey(connection.session.refuse())
    return user


async def _failed(node: Cluster, connection: Connection, error: Exception) -> None:
    advice = "raise Refused to turn a client away, return User(id, data) to accept it"
    if isinstance(error, TimeoutError):
        advice = "it took too long; Authentication(timeout=...) gives it longer"
    log.error("the authenticator failed; the client may come back; %s", advice, exc_info=error)
    connection.obey(connection.session.fail(f"the authenticator failed: {type(error).__name__}"))
    await node.handlers.failed(error, connection)
