"""How far the application has come: handled, then saved, then acknowledged, in this order."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from ..concurrency.tasks import OwnTask
from ..handlers import call, call_for_application
from ..messages.message import Message
from ..messages.receipt import Position
from ..protocol import NOWHERE, AckTimer, Arrived, Moved, Positions
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


log = logging.getLogger("mesa_ws.client")


class Progress:
    """Keeps the positions of what was handled, over all connections of a client.

    Args:
        store: where they are saved before they are acknowledged; None for nowhere.
        acknowledge: tells the server, if there is one now.
        report: tells the application what its store raised.
    """

    def __init__(
        self,
        store: PositionStore | None,
        acknowledge: Callable[[Position], None],
        report: Callable[[Exception], None],
    ) -> None:
        self._store = store
        self._acknowledge = acknowledge
        self._report = report
        self._handled = self._settled = NOWHERE
        self._beginning = NOWHERE
        self._pace = AckTimer()
        self._timer: asyncio.TimerHandle | None = None
        self._saving: OwnTask | None = None

    @property
    def resumable(self) -> Positions:
        """From where to go on: what was handled and, with a store, saved; or else the first place of all."""
        return (self._handled if self._store is None else self._settled).completed(self._beginning)

    async def load(self) -> Positions:
        """Begin where the store says; what cannot be read counts as nothing."""
        if self._store is None:
            return self._handled
        try:
            data = await call_for_application(self._store.load)
        except Exception as error:  # noqa: BLE001 - it is the application's
            self._failed("load", error)
            return self._handled
        positions = None if data is None else Positions.decode(data)
        if data is not None and positions is None:
            log.warning("the stored positions cannot be read; messages may come again, or be missing")
        self._handled = self._settled = positions or self._handled
        return self._handled

    def received(self, arrived: Arrived) -> None:
        """Note where the server lets a client begin that had no position; nothing before is to be handled.

        Without that, a client that is cut off before its application takes the first message would have no
        position to go on from: it would begin at another place, and get messages twice or not at all.
        """
        if isinstance(arrived.what, Message):
            return
        self._beginning = self._beginning.completed(arrived.positions)
        if isinstance(arrived.what, Moved) and self._handled == NOWHERE:
            self.handled(arrived.positions)
            self.hurry()

    def handled(self, positions: Positions) -> None:
        """The application has handled everything up to `positions`."""
        if positions is self._handled or positions == NOWHERE:  # what has no number does not move them
            return
        now, is_elsewhere = asyncio.get_running_loop().time(), _epochs(positions) != _epochs(self._handled)
        self._handled = positions
        self._pace.count(now)
        if is_elsewhere and self._store is not None:
            self._pace.due = now  # a connection that ends before it is saved would be told of it again
        self._proceed()

    def hurry(self) -> None:
        """Acknowledge what is new without waiting for the time to do so; with a store, soon."""
        if self._handled is not self._settled:
            self._push()

    async def flush(self) -> None:
        """Save and acknowledge what is new. From within the store, it waits for nothing."""
        if self._saving is not None:
            await self._saving.finish()
        self.hurry()
        if self._saving is not None:
            await self._saving.finish()

    def _proceed(self) -> None:
        due = self._pace.due
        if due is None or self._saving is not None:
            return
        loop = asyncio.get_running_loop()
        if due <= loop.time():
            self._push()
        elif self._timer is None:
            self._timer = loop.call_at(due, self._push)

    def _push(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._saving is not None:
            return
        self._pace.acknowledged()
        if self._store is None:
            self._settle(self._handled)
        else:
            self._saving = OwnTask(self._save)

    async def _save(self) -> None:
        positions = self._handled
        try:
            assert self._store is not None  # noqa: S101 - else there is nothing to save to
            await call(self._store.save, positions.encode())
        except Exception as error:  # noqa: BLE001 - it is the application's
            self._failed("save", error)
        else:
            self._settle(positions)
        finally:
            self._saving = None
        self._proceed()

    def _settle(self, positions: Positions) -> None:
        self._settled = positions
        if positions.outbox is not None:
            self._acknowledge(positions.outbox)

    def _failed(self, action: str, error: Exception) -> None:
        log.warning("the store of positions failed to %s", action, exc_info=error)
        self._report(error)


def _epochs(positions: Positions) -> list[str | None]:
    return [position and position.epoch for position in positions]
