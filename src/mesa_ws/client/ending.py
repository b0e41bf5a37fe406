"""Why a client has ended for good."""

from typing import NamedTuple

from ..close import CLOSE_TABLE, CloseCode
from ..errors import AuthenticationFailed, ConnectionClosed


class Ending(NamedTuple):
    """The end of a client.

    Attributes:
        code: close code of its last connection.
        reason: what the server, or this side, said about it.
        is_refusal: the server refused to authenticate it.
        is_wanted: the application closed it.
    """

    code: int
    reason: str
    is_refusal: bool = False
    is_wanted: bool = False

    def error(self) -> ConnectionClosed | AuthenticationFailed:
        """What to raise from whatever can no longer be done."""
        if self.is_refusal:
            return AuthenticationFailed(self.code, self.reason)
        return ConnectionClosed(self.code, self.reason, _BLAME.get(self.code, ""))


_BLAME = {int(code): rule.meaning for code, rule in CLOSE_TABLE.items() if not rule.may_reconnect}
"""What the client did, by the code; the server says it in no other words."""

CLOSED_BY_US = Ending(CloseCode.NORMAL.value, "closed by this client", is_wanted=True)
