"""Recipients of a message: ids or everybody, and the ids that are excluded.

An id is text of 1 to 255 bytes of UTF-8 without control characters, and never `*`, which
stands for everybody.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import isfinite
from typing import Any
from uuid import UUID

import msgspec

from ..errors import InvalidInput, InvalidRecipients
from ..text import plain

EVERYBODY = ("*",)
"""Recipients that mean every connection."""

MAX_ID_BYTES = 255

_NOBODY = frozenset[str]()

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


class Recipients(msgspec.Struct, frozen=True, gc=False):
    """Checked recipients.

    Attributes:
        everybody: True for every connection; then `ids` is empty and `excluding` counts.
        ids: each id once, in the order given, without the excluded ones.
        excluding: ids that are excluded from everybody.
    """

    everybody: bool
    ids: tuple[str, ...]
    excluding: frozenset[str]

    @classmethod
    def of(cls, recipients: Iterable[str] = EVERYBODY, excluding: Iterable[str] = ()) -> "Recipients":
        """Check the recipients that a caller gave.

        Args:
            recipients: ids, or `"*"` alone or among them for every connection.
            excluding: ids that shall not receive.

        Raises:
            InvalidRecipients: a bare string, None, a number, or an id that breaks the rules.
        """
        if type(recipients) is list and len(recipients) == 1 and type(excluding) is tuple and not excluding:
            (id,) = recipients  # one id, the usual case
            if type(id) is str and id != "*":
                return cls(False, (check_id(id, "recipients"),), _NOBODY)
        is_everybody = isinstance(recipients, str) and plain(recipients) == "*"
        named = EVERYBODY if is_everybody else _listed("recipients", recipients)
        without = frozenset([check_id(id, "excluding") for id in _listed("excluding", excluding)])
        others = [id for id in named if not isinstance(id, str) or id != "*"]
        ids = dict.fromkeys([check_id(id, "recipients") for id in others])
        if len(others) < len(named):
            return cls(True, (), without)
        return cls(False, tuple([id for id in ids if id not in without] if without else ids), _NOBODY)


def check_id(id: object, where: str = "id") -> str:
    """Return `id` as plain text if it can name a client.

    Raises:
        InvalidRecipients: it is not text, is empty, too long, `*`, or holds control characters.
    """
    if type(id) is str and id.isascii() and id.isprintable() and 0 < len(id) <= MAX_ID_BYTES and id != "*":
        return id  # the usual case, in which nothing is called: every message passes here
    text = plain(id)
    problem = id_problem(text)
    if problem is not None:
        raise InvalidRecipients(f"{where}: {problem}")
    return text  # type: ignore[return-value]


def check_ids(ids: Iterable[str], where: str = "ids") -> list[str]:
    """Return `ids` in their order, each once.

    Raises:
        InvalidRecipients: a bare string, None, a number, or an id that breaks the rules.
    """
    if isinstance(ids, str) and plain(ids) == "*":
        raise InvalidRecipients(f"{where}: expected a list of ids, got '*', which stands for everybody")
    return list(dict.fromkeys(check_id(id, where) for id in _listed(where, ids)))


def id_problem(id: object) -> str | None:
    """Say why `id` cannot name a client; None if it can."""
    if not isinstance(id, str):
        mend = as_text(id)
        return f"expected an id as text, got {_shown(id)}" + (f"; write {mend}" if mend else "")
    if id == "*":
        return "expected an id, got '*', which stands for everybody"
    if _CONTROL.search(id):
        return f"expected an id without control characters, got {id[:MAX_ID_BYTES]!r}"
    try:
        size = len(id.encode())
    except UnicodeEncodeError:
        return f"expected an id of valid Unicode, got {id[:MAX_ID_BYTES]!r} with a lone surrogate"
    if not 0 < size <= MAX_ID_BYTES:
        return f"expected an id of 1 to {MAX_ID_BYTES} bytes of UTF-8, got {size} bytes"
    return None


def as_text(value: object) -> str:
    """Suggest the text to write instead of a value that is not text; empty if none is obvious."""
    if isinstance(value, UUID):
        return "str(...)"
    return repr(str(value)) if _is_number(value) else ""


def _listed(where: str, ids: Any) -> tuple[Any, ...]:
    if isinstance(ids, str | bytes):
        raise InvalidRecipients(
            f"{where}: expected a list of ids, got the bare text {ids!r}; write [{ids!r}]"
        )
    try:
        each = iter(ids)
    except TypeError:
        mend = as_text(ids)
        problem = f"expected a list of ids, got {_shown(ids)}" + (f"; write [{mend}]" if mend else "")
        raise InvalidRecipients(f"{where}: {problem}") from None
    return tuple(each)


def _is_number(value: object) -> bool:
    return type(value) is int and value.bit_length() <= 64  # Python does not write the longest as text


def _shown(value: object) -> str:
    """Describe a value in short: it may come from a client, and then must not be logged."""
    if value is None or isinstance(value, bool) or _is_number(value):
        return f"{value!r} ({type(value).__name__})"
    return f"a value of type {type(value).__name__}"


_MILLISECONDS = 1e11
"""The year 1973 in milliseconds, and 5138 in seconds."""


def check_time(name: str, value: object) -> None:
    """Check that a value is a time in seconds since 1970, or None.

    Raises:
        InvalidInput: it is neither, or so late that it is one in milliseconds.
    """
    is_time = isfinite(value) if isinstance(value, float) else value is None or _is_number(value)
    if not is_time:
        raise InvalidInput(f"{name}: expected seconds since 1970 as a number, got {_shown(value)}")
    if isinstance(value, int | float) and value >= _MILLISECONDS:
        raise InvalidInput(f"{name}: expected seconds since 1970, got {value}; divide milliseconds by 1000")


@dataclass(frozen=True, slots=True)
class User:
    """The user that an authenticator returns.

    Args:
        id: the id of the user, which recipients name.
        data: the user object, sent to the client if `send_user_object` is on. Defaults to
            `{"id": id}`.
        issued_at: when the login was issued, in seconds since 1970, as the `iat` of a token; a revocation
            ends logins that were issued before. None if it is not known; then every revocation counts.
        expires_at: when the login ends, in seconds since 1970 (`time.time()`), as the `exp` of a token; None
            for never. The connection is then closed with 4004, unless the client has authenticated again.

    Raises:
        InvalidRecipients: `id` cannot name a client.
        InvalidInput: `issued_at` or `expires_at` is not a number.
    """

    id: str
    data: Any = field(default=None)
    issued_at: float | None = field(default=None, kw_only=True)
    expires_at: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_time("issued_at", self.issued_at)
        check_time("expires_at", self.expires_at)
        object.__setattr__(self, "id", check_id(self.id))
        if self.data is None:
            object.__setattr__(self, "data", {"id": self.id})
