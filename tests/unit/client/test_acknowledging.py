"""How far an application has come, and when that is saved."""

import asyncio

from mesa_ws.client.acknowledging import Acknowledging
from mesa_ws.messages.receipt import Position
from mesa_ws.protocol.positions import Positions


class Store:
    """Keeps all that was saved."""

    def __init__(self) -> None:
        self.saved: list[bytes] = []

    async def load(self) -> bytes | None:
        return self.saved[-1] if self.saved else None

    async def save(self, data: bytes) -> None:
        self.saved.append(data)


async def test_another_epoch_is_saved_at_once_so_that_a_reset_is_not_told_again() -> None:
    store, acknowledged = Store(), list[Position]()
    progress = Acknowledging(store, acknowledged.append, _raise)
    one, other = Position("all", 7), Position("other", 0)
    for positions in (
        Positions(Position("a", 1), one),
        Positions(Position("b", 0), one),
        Positions(Position("b", 0), other),
    ):
        progress.handled(positions)
        await _settled()
        assert progress.resumable == positions
    progress.handled(Positions(Position("b", 1), other))
    await _settled()
    assert len(store.saved) == len(acknowledged) == 3


async def _settled() -> None:
    """Let tasks do what they do without waiting."""
    for _ in range(10):
        await asyncio.sleep(0)


def _raise(error: Exception) -> None:
    raise error
