"""The key of the dispatch API, sent as a bearer token (RFC 6750 section 2.1)."""

import hmac
import re

from ...errors import InvalidSettings
from ...text import plain

SHORTEST_KEY = 16
"""Characters that a server's key has at least, so that it cannot be guessed."""

_KEY = re.compile(r"[\x21-\x7e]+")


def check_key(key: object, *, shortest: int = 1) -> str:
    """Return `key` if it can stand in an HTTP header.

    Args:
        key: what the user gave; errors do not repeat it.
        shortest: characters that it has to have.

    Raises:
        InvalidSettings: it is not text, too short, or holds spaces or characters outside ASCII.
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
    """The value of the `Authorization` header that shows `key`."""
    return f"Bearer {key}"


def is_authorized(header: str, key: str) -> bool:
    """Say whether an `Authorization` header shows `key`, in a time that does not depend on it."""
    scheme, _, shown = header.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(shown.strip().encode(), key.encode())
