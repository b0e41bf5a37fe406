"""Names for what middleware keeps in Redis, beside what Mesa itself keeps there."""

import re

from .errors import InvalidInput

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")


def middleware_key(namespace: str | None, name: str, *parts: str) -> str:
    """The key `mesa:{<namespace>}:mw:<name>[:<part>...]`, which nothing else of Mesa's is named like.

    All keys of a namespace are in one slot of a Redis Cluster, so a script may use several.

    Args:
        namespace: the server's.
        name: the middleware's: 1 to 64 of `A-Z a-z 0-9 _ . -`.
        parts: what tells its keys apart; any text, such as an id.

    Raises:
        InvalidInput: a name or a part cannot be used.
    """
    if not (_is_text(name) and _NAME.match(name)):
        raise InvalidInput(f"name: expected 1 to 64 of A-Z a-z 0-9 _ . -, got {name!r}")
    for part in parts:
        if not _is_text(part):
            raise InvalidInput(f"parts: expected text that is not empty, got {part!r}")
    return ":".join((f"mesa:{{{namespace or ''}}}:mw", name, *parts))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)
