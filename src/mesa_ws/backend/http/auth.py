"""The key of the dispatch API, sent as a bearer token (RFC 6750 section 2.1)."""

import hmac
import re

from ...errors import InvalidSettings
from ...text import plain

SHORTEST_KEY = 16
"""Smallest number of characters of a server's key, so that it cannot be guessed."""

_KEY = re.compile(r"[\x21-\x7e]+")


def check_key(key: object, *, shortest: int = 1) -> str:
    """Return `key` if it can stand in an HTTP header.

    Args:
        key: as the user gave it; errors do not repeat it.
        shortest: smallest number of characters.

    Raises:
        InvalidSettings: it is no text, too short, or has spaces or characters outside ASCII.
    """
    key = plain(key)
    if not isinstance(key, str):
        raise InvalidSettings("key", f"text of {shortest} or more characters", type(key).__name__)
    if len(key) < shortest:
        raise InvalidSettings("key", f"{shortest} or more characters", f"{len(key)} of them")
    if not _KEY.fullmatch(key):
        raise InvalidSettings("key", "visible ASCII characters without spaces", "others among them")
    return key


def authorization(key: str) -> str:
    """Return the value of the `Authorization` header for `key`."""
    return f"Bearer {key}"


def is_authorized(header: str, key: str) -> bool:
    """Return whether an `Authorization` header has `key`, in constant time."""
    scheme, _, given = header.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), key.encode())
