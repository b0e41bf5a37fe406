"""Events of a client, in the order in which its callbacks are called."""

import asyncio
from typing import NamedTuple

from ..close import CLOSE_TABLE, CloseCode
from ..errors import AuthenticationFailed, ConnectionClosed
from ..protocol import Arrived, Hello


class ConnectionInfo(NamedTuple):
    """A new connection.

    Attributes:
        is_initial_connection: it is the first one of this client.
        is_initial_session_connection: it is the first one since `connect`.
        is_automatic_reconnection: the client reconnected by itself.
        hello: the server's description of itself.
    """

    is_initial_connection: bool
    is_initial_session_connection: bool
    is_automatic_reconnection: bool
    hello: Hello

    @classmethod
    def of(cls, hello: Hello, *, is_first: bool) -> "ConnectionInfo":
        """Describe a client's first connection, or a later one."""
        return cls(is_first, is_first, not is_first, hello)


class Disconnection(NamedTuple):
    """The end of a connection."""

    code: int
    reason: str
    will_reconnect: bool


QueuedEvent = ConnectionInfo | Arrived | Disconnection | Exception | asyncio.Event
"""An exception among the events is reported to `on_error`; an `asyncio.Event` is set when it is
reached, that is, when everything before was handled."""


class Ending(NamedTuple):
    """The end of a client.

    Attributes:
        code: close code of its last connection.
        reason: the text of the close frame, from the server or this side.
        is_refusal: the server refused to authenticate it.
        is_wanted: the application closed it.
    """

    code: int
    reason: str
    is_refusal: bool = False
    is_wanted: bool = False

    def error(self) -> ConnectionClosed | AuthenticationFailed:
        """Return the error for calls that are no longer possible."""
        if self.is_refusal:
            return AuthenticationFailed(self.code, self.reason)
        return ConnectionClosed(self.code, self.reason, _BLAME.get(self.code, ""))


_BLAME = {int(code): rule.meaning for code, rule in CLOSE_TABLE.items() if not rule.may_reconnect}
"""What the client did wrong, by close code; the server sends no other text."""

CLOSED_BY_US = Ending(CloseCode.NORMAL.value, "closed by this client", is_wanted=True)
