"""What each event loop has of its own, while loops of other threads end."""

import asyncio
import threading

from mesa_ws.concurrency.event_loops import PerLoop

LIMIT = 10.0
"""Seconds after which something hangs."""


class Slow(asyncio.SelectorEventLoop):
    """A loop during whose look-up another one ends."""

    elsewhere: "Elsewhere | None" = None

    def is_closed(self) -> bool:
        elsewhere, self.elsewhere = self.elsewhere, None
        if elsewhere is not None:
            elsewhere.end()
        return super().is_closed()


class Elsewhere:
    """An event loop of another thread that uses the same object, until it is to end."""

    def __init__(self, per_loop: PerLoop[object]) -> None:
        self._per_loop = per_loop
        self._is_used, self._may_end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._use()), daemon=True)

    async def _use(self) -> None:
        self._per_loop.get()
        self._is_used.set()
        await asyncio.to_thread(self._may_end.wait, LIMIT)

    def begin(self) -> None:
        self._thread.start()
        assert self._is_used.wait(LIMIT)

    def end(self) -> None:
        self._may_end.set()
        self._thread.join(LIMIT)
        assert not self._thread.is_alive()


async def use(per_loop: PerLoop[object]) -> object:
    return per_loop.get()


def test_a_loop_may_end_while_another_one_looks_for_those_that_have_ended() -> None:
    closed: list[object] = []

    async def close(thing: object) -> None:
        closed.append(thing)

    per_loop = PerLoop(object, close, closed.append)
    elsewhere = Elsewhere(per_loop)
    slow = Slow()
    first = slow.run_until_complete(use(per_loop))
    elsewhere.begin()
    slow.elsewhere = elsewhere
    found = asyncio.run(use(per_loop))
    assert found is not first
    assert len(closed) == 2  # that of the loop elsewhere, and that of the last call
    slow.run_until_complete(per_loop.aclose())
    slow.close()
    assert closed[-1] is first
