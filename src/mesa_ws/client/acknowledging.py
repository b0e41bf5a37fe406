"""Positions of a client: handled by the application, then saved, then acknowledged, in this order."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from ..concurrency.tasks import OwnTask
from ..handlers.caller import call, call_for_application
from ..messages.message import Message
from ..messages.receipt import Position
from ..protocol.client import AckTimer
from ..protocol.positions import NOWHERE, Arrived, Moved, Positions
from ..text import plain

log = logging.getLogger("mesa_ws.client")


class PositionStore(Protocol):
    """Saves the positions of one client: which messages its application has handled.

    Both methods may be `def` or `async def`; a `def` runs in the event loop, so it must not block.
    The client calls them one at a time; they must not call the client. If one raises, the client
    reports the error to `on_error` and goes on, but acknowledges no message whose position was not saved.
    """

    def load(self) -> bytes | Awaitable[bytes | None] | None:
        """Return the data that was saved last, or None. Called when the client connects."""

    def save(self, data: bytes) -> Awaitable[None] | None:
        """Save `data`, up to a few hundred bytes, in place of the data saved before.

        The data has to be safe when this returns, because the client acknowledges the messages next, and
        the server may then forget them. Called once a second or every 64 messages, and when the client
        closes.
        """


class FilePositions:
    """Saves a client's positions in a file, for one process at a time.

    Saved positions survive a crash of the process, and of the machine: the file is replaced as a
    whole, and written to the disk before the client acknowledges. A thread reads and writes, so the
    event loop is not blocked.

    Args:
        path: the file; its directory has to exist. While the file is replaced, another one with the
            suffix `.new` is in the same directory.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(plain(path))

    async def load(self) -> bytes | None:
        """Read the file; return None if there is none."""
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
    """Write a directory to the disk, so that the name of a replaced file is there too."""
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class Acknowledging:
    """Saves and acknowledges the positions of handled messages, over all connections of a client.

    Args:
        store: saves positions before they are acknowledged; None for no store.
        acknowledge: sends an acknowledgement, if there is a connection.
        report: reports an error of the store to the application.
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
        """Positions to resume from: handled and, with a store, saved; or else where the client began."""
        return (self._handled if self._store is None else self._settled).completed(self._beginning)

    async def load(self) -> Positions:
        """Begin with the stored positions; positions that cannot be read count as none."""
        if self._store is None:
            return self._handled
        try:
            data = await call_for_application(self._store.load)
        except Exception as error:  # noqa: BLE001 - raised by the application
            self._failed("load", error)
            return self._handled
        positions = None if data is None else Positions.decode(data)
        if data is not None and positions is None:
            log.warning("cannot read the stored positions; messages may come again, or be missing")
        self._handled = self._settled = positions or self._handled
        return self._handled

    def received(self, arrived: Arrived) -> None:
        """Record where the server lets a client begin that had no position; nothing before has to be handled.

        Without that, a client that is cut off before its application gets the first message would have no
        position to resume from: it would begin elsewhere, and get messages twice or not at all.
        """
        if isinstance(arrived.what, Message):
            return
        self._beginning = self._beginning.completed(arrived.positions)
        if isinstance(arrived.what, Moved) and self._handled == NOWHERE:
            self.handled(arrived.positions)
            self.hurry()

    def handled(self, positions: Positions) -> None:
        """Record that the application has handled everything up to `positions`."""
        if positions is self._handled or positions == NOWHERE:  # by a message without a number
            return
        now, is_elsewhere = asyncio.get_running_loop().time(), _epochs(positions) != _epochs(self._handled)
        self._handled = positions
        self._pace.count(now)
        if is_elsewhere and self._store is not None:
            # The server would announce it again to a connection that ends before it is saved.
            self._pace.due = now
        self._proceed()

    def hurry(self) -> None:
        """Acknowledge new positions now; with a store, as soon as they are saved."""
        if self._handled is not self._settled:
            self._push()

    async def flush(self) -> None:
        """Save and acknowledge new positions. A call from within the store does not wait."""
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
            assert self._store is not None  # noqa: S101 - started only with a store
            await call(self._store.save, positions.encode())
        except Exception as error:  # noqa: BLE001 - raised by the application
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
