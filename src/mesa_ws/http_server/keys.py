"""Keys of the dispatch API: their names and rights, and a file of them that may change while the server runs.

| right | what it allows |
|---|---|
| `dispatch` | to send messages and requests to clients, and to disconnect them |
| `read` | to read presence, the status of messages, and outboxes |
| `admin` | both, to revoke logins, and to purge outboxes |
"""

import logging
import os
import time
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from ..backend.http.auth import SHORTEST_KEY, check_key, is_authorized
from ..errors import InvalidInput, InvalidSettings

log = logging.getLogger("mesa_ws.server")

Right = Literal["dispatch", "read", "admin"]

LOOK = 1.0
"""Seconds between two looks at the file of keys."""


class ApiKey(NamedTuple):
    """A key of the dispatch API.

    Attributes:
        name: names it in errors and in the log.
        key: what dispatchers send.
        rights: what it allows.
    """

    name: str
    key: str
    rights: tuple[Right, ...]

    def allows(self, right: Right) -> bool:
        """Return whether the key has a right; `admin` has all."""
        return right in self.rights or "admin" in self.rights


class ApiKeys:
    """The keys that are valid now: one that has all rights, and those of a file.

    The file is read again when it has changed, at most once in `LOOK` seconds. If it cannot be read then, or
    has an error, the log says so, and its last keys stay valid.

    Args:
        key: a key with all rights; None for the file alone.
        file: path of a TOML file with a table for each key; None for the key alone.

    Raises:
        InvalidSettings: there is neither, or the key cannot be used.
        InvalidInput: the file cannot be used.
    """

    def __init__(self, key: str | None, file: str | os.PathLike[str] | None = None) -> None:
        if key is None and file is None:
            raise InvalidSettings("key", "a key or keys_file", None)
        self._own = [] if key is None else [ApiKey("key", check_key(key, shortest=SHORTEST_KEY), ("admin",))]
        self._file = None if file is None else Path(file)
        self._stamp = None if self._file is None else _stamp(self._file)
        self._of_file = [] if self._file is None else read_keys(self._file)
        self._looked_at = time.monotonic()

    def find(self, header: str) -> ApiKey | None:
        """Return the key in an `Authorization` header; None if it is no valid one. All are compared."""
        self._refresh()
        found = [each for each in (*self._own, *self._of_file) if is_authorized(header, each.key)]
        return found[0] if found else None

    def _refresh(self) -> None:
        now = time.monotonic()
        if self._file is None or now - self._looked_at < LOOK:
            return
        self._looked_at = now
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._of_file = read_keys(self._file)
        except InvalidInput as error:
            log.warning("the dispatch API keeps the keys that it has: %s", error)
            return
        names = sorted({key.name for key in self._of_file})
        log.info("the dispatch API read its keys again: %s", ", ".join(map(repr, names)))


def read_keys(file: Path) -> list[ApiKey]:
    """Read a file of keys.

    Raises:
        InvalidInput: it cannot be read, or is wrong; the text names no key.
    """
    where = f"api.keys_file: {file}"
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{where}: expected a file to read: {error.strerror}") from None
    except ValueError:  # it may quote the key
        raise InvalidInput(f"{where}: expected TOML with a table for each key") from None
    found = [key for name, table in tables.items() for key in _keys_of(where, name, table)]
    if not found:
        raise InvalidInput(f"{where}: expected a table for each key, got none")
    if len({key.key for key in found}) < len(found):
        raise InvalidInput(f"{where}: expected each key once, got one twice; make another one")
    return found


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    key: str | list[str]
    rights: Annotated[list[Right], msgspec.Meta(min_length=1)]


def _keys_of(where: str, name: str, table: Any) -> Iterable[ApiKey]:
    try:
        read = msgspec.convert(table, _Table)
        keys = [read.key] if isinstance(read.key, str) else read.key
        return [ApiKey(name, check_key(key, shortest=SHORTEST_KEY), tuple(read.rights)) for key in keys]
    except (msgspec.ValidationError, InvalidSettings) as error:
        raise InvalidInput(
            f"{where}: [{name}]: expected key, a text or a list of them, and rights, a list of 'dispatch', "
            f"'read' and 'admin', but: {error}"
        ) from None


def _stamp(file: Path) -> tuple[int, ...] | None:
    """Return what changes with the file; None if there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)
