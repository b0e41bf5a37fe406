"""Names for what middleware keeps in Redis, beside what Mesa itself keeps there."""

import re
from collections.abc import Iterable
from typing import Any

from .errors import InvalidInput
from .text import plain

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
    name, parts = _checked(name, parts)
    return ":".join((f"mesa:{{{plain(namespace) or ''}}}:mw", name, *parts))


def mesa1_middleware_key(namespace: str | None, name: str, *parts: str) -> str:
    """The key `<part>[:<part>...]_mw-<name>[_<namespace>]`, as 1.x names it, whose prefix is the parts.

    So what a middleware of the npm package has kept under the prefix `unread` is found with
    the one part `unread`.

    Args:
        namespace: the server's.
        name: the middleware's: 1 to 64 of `A-Z a-z 0-9 _ . -`.
        parts: what the key is for, at least one; several are joined by colons.

    Raises:
        InvalidInput: a name or a part cannot be used, or there is none.
    """
    name, parts = _checked(name, parts)
    if not parts:
        raise InvalidInput("parts: expected what the key is for, as in every key of 1.x, got none")
    key = f"{':'.join(parts)}_mw-{name}"
    return f"{key}_{plain(namespace)}" if namespace else key


def _checked(name: object, parts: Iterable[Any]) -> tuple[str, tuple[str, ...]]:
    name, parts = plain(name), tuple(plain(part) for part in parts)
    if not (isinstance(name, str) and _NAME.match(name)):
        raise InvalidInput(f"name: expected 1 to 64 of A-Z a-z 0-9 _ . -, got {name!r}")
    for part in parts:
        if not _is_text(part):
            raise InvalidInput(f"parts: expected text that is not empty, got {part!r}")
    return name, parts


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)
