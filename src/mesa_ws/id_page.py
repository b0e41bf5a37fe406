"""Some of the ids that are online."""

from typing import NamedTuple

from .errors import InvalidInput
from .text import plain

FIRST = ""
"""The cursor of the first page."""

MAX_CURSOR = 255
"""Characters of a cursor."""


class IdPage(NamedTuple):
    """One page of the ids that are online.

    Attributes:
        ids: some of them; none is well possible in the middle.
        cursor: what the next page is asked for with; None after the last one.
    """

    ids: tuple[str, ...]
    cursor: str | None


def check_cursor(cursor: str) -> str:
    """Return `cursor` if Redis can have given it, as a number; the first one is 0 there.

    Raises:
        InvalidInput: it cannot.
    """
    number = plain(cursor) or "0"
    if not (number.isascii() and number.isdigit() and len(number) <= len(str(2**64)) and int(number) < 2**64):
        raise InvalidInput(f"cursor: expected that of the page before, or none, got {cursor[:40]!r}")
    return number
