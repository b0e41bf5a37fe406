"""What a feed writes, and in which order."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from mesa_ws.backend.outbox import Entry, Page
from mesa_ws.messages.receipt import Position
from mesa_ws.server.send_queue import Outlet, PeerState
from mesa_ws.server.subscription import Feed


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.buffered = 0

    def is_cut(self) -> bool:
        return False

    def write(self, payload: bytes) -> None:
        self.written.append(payload)

    def ping(self, payload: bytes = b"") -> None: ...

    def close(self, code: int, reason: str) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def peer_state(self) -> PeerState:
        return PeerState.PRESENT

    def cut(self) -> None: ...


class Office:
    """A node that notes what it is asked to read."""

    redelivery_interval: float | None = None
    is_prompt = False

    def __init__(self) -> None:
        self.reads = 0

    def at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        raise AssertionError("nothing is paced here")

    def now(self) -> float:
        return 0.0

    def read(self, feed: Feed) -> None:
        self.reads += 1

    def read_broadcasts(self, feed: Feed) -> None: ...

    def watch(self, feed: Feed) -> None: ...

    def proved(self, feed: Feed) -> None: ...

    def redelivers(self, feed: Feed, entries: Sequence[Entry]) -> None: ...

    def lost(self, feed: Feed, page: Page) -> None: ...


OLD = Page("fresh", "old", 5, 5, 0)


@pytest.fixture
def transport() -> Transport:
    return Transport()


@pytest.fixture
def office() -> Office:
    return Office()


@pytest.fixture
def feed(transport: Transport, office: Office) -> Feed:
    outlet = Outlet(transport, transport.write, 1000, pytest.fail)
    return Feed(office, outlet, "1", is_wire2=False, ask=lambda: None)


@pytest.mark.parametrize("has_begun", [True, False])
def test_what_is_not_stored_waits_for_what_is_read_from_another_epoch(
    feed: Feed, transport: Transport, office: Office, has_begun: bool
) -> None:
    if has_begun:
        feed.begin(OLD, None, None)
    feed.deliver(Position("new", 3), b"stored")
    if not has_begun:
        feed.begin(OLD, None, None)
    feed.outlet.write(b"not stored")
    assert (transport.written, office.reads) == ([], 1)
    feed.took(Page("forked", "new", 2, 3, 0, (Entry(3, "m", b"stored"),)))
    assert transport.written == [b"stored", b"not stored"]
