"""How far the application has come: handled, then saved, then acknowledged, in this order."""

import asyncio
import logging
from collections.abc import Callable

from ..calling import call, call_for_application
from ..message import Message
from ..position import Position
from ..session import NOWHERE, Arrived, Moved, Pace, Positions
from .own_task import OwnTask
from .positions import PositionStore

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
        self._pace = Pace()
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
