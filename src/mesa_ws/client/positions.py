"""Keeping a client's positions beyond the life of its process."""

import asyncio
import os
from collections.abc import Awaitable
from pathlib import Path
from typing import Protocol

from ..text import plain


class PositionStore(Protocol):
    """Keeps the positions of one client: which messages its application has handled.

    Both methods may be `def` or `async def`; a `def` runs in the event loop, so it must not block.
    The client calls them one at a time; they must not call the client. One that raises is reported
    to `on_error`; the client then goes on, but acknowledges nothing that was not saved.
    """

    def load(self) -> bytes | Awaitable[bytes | None] | None:
        """Return what was saved last, None if nothing was. Called when the client connects."""

    def save(self, data: bytes) -> Awaitable[None] | None:
        """Keep `data`, up to a few hundred bytes, in place of what was saved before.

        It has to be safe when this returns, because the server is told next, and may forget the
        messages then. Called once a second or every 64 messages, and when the client closes.
        """


class FilePositions:
    """Keeps a client's positions in a file, for one process at a time.

    What was saved survives a crash of the process, and of the machine: the file is replaced as a
    whole, and written to the disk before the server is told. Reading and writing is done in a
    thread, so the event loop is not held up.

    Args:
        path: the file; its directory has to exist. While it is replaced, there is another one
            beside it that ends in `.new`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(plain(path))

    async def load(self) -> bytes | None:
        """Read the file; None if there is none."""
        return await asyncio.to_thread(self._read)

    async def save(self, data: bytes) -> None:
        """Replace the file."""
        await asyncio.to_thread(self._replace, data)

    def _read(self) -> bytes | None:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None

    def _replace(self, data: bytes) -> None:
        fresh = self._path.with_name(f"{self._path.name}.new")
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        if os.name == "posix":
            _sync_directory(self._path.parent)


def _sync_directory(path: Path) -> None:
    """See that the name of a file that was replaced is on the disk, too."""
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
