"""What happens to a client, in the order in which its callbacks are told."""

import asyncio
from typing import NamedTuple

from ..session import Arrived, Hello


class ConnectionInfo(NamedTuple):
    """A connection, when it is new.

    Attributes:
        is_initial_connection: the first one of this client.
        is_initial_session_connection: the first one since `connect`.
        is_automatic_reconnection: the client came back by itself.
        hello: what the server said about itself.
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


Event = ConnectionInfo | Arrived | Disconnection | Exception | asyncio.Event
"""An exception among the events is one to report to `on_error`; an `asyncio.Event` is set when it is
reached, that is, when everything before was handled."""
