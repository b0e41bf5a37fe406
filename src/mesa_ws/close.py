"""Close codes: one table of the codes that Mesa sends, why, and whether the client may come back.

Numbers below 4000 have the meaning of RFC 6455 section 7.4.1 and of its IANA registry;
4000 to 4999 are for private use (section 7.4.2).
"""

from enum import IntEnum
from typing import NamedTuple

from .errors import InvalidInput
from .text import plain


class CloseCode(IntEnum):
    """A code with which a Mesa server ends a connection."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    NO_STATUS = 1005
    ABNORMAL = 1006
    INVALID_PAYLOAD = 1007
    REFUSED = 1008
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    TRY_AGAIN_LATER = 1013
    SLOW_READER = 4000
    NO_KEEPALIVE = 4001
    TOO_MANY_CONNECTIONS = 4002
    REPLACED = 4003
    EXPIRED = 4004
    RATE_LIMITED = 4008

    @property
    def reason(self) -> str:
        """The reason for closing, for logs and people."""
        return CLOSE_TABLE[self].reason

    @property
    def wire_reason(self) -> str:
        """The reason in the frame; empty for the codes that 1.x peers know, because they expect none."""
        return self.reason if self >= 4000 else ""

    @property
    def may_reconnect(self) -> bool:
        """Whether a client that was closed with this code may connect again."""
        return CLOSE_TABLE[self].may_reconnect


class CloseRule(NamedTuple):
    """One row of the table."""

    reason: str
    may_reconnect: bool
    meaning: str


CLOSE_TABLE: dict[CloseCode, CloseRule] = {
    CloseCode.NORMAL: CloseRule("", True, "the application or DISCONNECT_CLIENT ended the connection"),
    CloseCode.GOING_AWAY: CloseRule("server is stopping", True, "the server stops; another one will answer"),
    CloseCode.PROTOCOL_ERROR: CloseRule(
        "protocol error", False, "WebSocket rules or the version rule broken"
    ),
    CloseCode.NO_STATUS: CloseRule("", True, "heartbeats were missed, or a close without a code"),
    CloseCode.ABNORMAL: CloseRule("", True, "the connection was cut without a close frame; never sent"),
    CloseCode.INVALID_PAYLOAD: CloseRule("invalid frame", False, "not UTF-8, not JSON, or not a Mesa frame"),
    CloseCode.REFUSED: CloseRule(
        "refused",
        False,
        "authentication refused or revoked, not attempted in time, or not before a message that needs it",
    ),
    CloseCode.TOO_BIG: CloseRule("too big", False, "a message over the size or fragment limit"),
    CloseCode.INTERNAL_ERROR: CloseRule("internal error", True, "the authenticator failed or was too slow"),
    CloseCode.TRY_AGAIN_LATER: CloseRule(
        "try again later",
        True,
        "the server cannot reach its backend, too much waits of guests, or logins keep failing",
    ),
    CloseCode.SLOW_READER: CloseRule(
        "slow reader", True, "more bytes waiting for this client, or for all, than allowed"
    ),
    CloseCode.NO_KEEPALIVE: CloseRule("no keepalive", True, "no sign of life after a Ping"),
    CloseCode.TOO_MANY_CONNECTIONS: CloseRule(
        "too many connections", True, "the id has as many connections as it may have"
    ),
    CloseCode.REPLACED: CloseRule("replaced", False, "a newer connection of the id took its place"),
    CloseCode.EXPIRED: CloseRule("login expired", True, "the login has ended; come back with a new token"),
    CloseCode.RATE_LIMITED: CloseRule("rate limited", True, "the client sent more than a rate allows"),
}


def may_reconnect(code: int) -> bool:
    """Return whether a client may come back after `code`, also for codes that Mesa does not send."""
    try:
        return CloseCode(code).may_reconnect
    except ValueError:
        return True


def is_sendable(code: int) -> bool:
    """Return whether a close frame may carry `code` (RFC 6455 sections 7.4.1 and 7.4.2)."""
    return code in _REGISTERED or 3000 <= code <= 4999


def check_close(code: object, reason: object) -> None:
    """Check the code and the reason with which an application closes a connection.

    1005 is accepted and stands for an empty frame.

    Raises:
        InvalidInput: RFC 6455 does not allow the code in a frame (sections 7.4.1 and 7.4.2), or
            the reason is not text, or longer than a control frame can hold (section 5.5).
    """
    if not isinstance(code, int) or not (code == CloseCode.NO_STATUS or is_sendable(code)):
        raise InvalidInput(
            f"code: expected 1000 to 1014 without reserved ones, or 3000 to 4999, got {code!r}"
        )
    expected = f"reason: expected text of up to {MAX_REASON_BYTES} bytes of UTF-8"
    if not isinstance(reason, str):
        raise InvalidInput(f"{expected}, got {type(reason).__name__}")
    try:
        size = len(plain(reason).encode())
    except UnicodeEncodeError:
        raise InvalidInput(f"{expected}, got a lone surrogate") from None
    if size > MAX_REASON_BYTES:
        raise InvalidInput(f"{expected}, got {size} bytes")


def check_own_code(code: object) -> int:
    """Return the code with which a client's application closes, if a client may send it.

    Raises:
        InvalidInput: it is neither 1000 nor one for applications (RFC 6455 section 7.4.2).
    """
    if not isinstance(code, int) or not (code == CloseCode.NORMAL or 3000 <= code <= 4999):
        raise InvalidInput(f"code: expected 1000, or 3000 to 4999, got {code!r}")
    return code


MAX_REASON_BYTES = 123
_REGISTERED = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})
