"""The order in which a subscription writes."""

import logging
from collections.abc import Collection, Sequence

import pytest

from mesa_ws.backend.outbox import Entry, Page
from mesa_ws.concurrency.limited_log import LimitedLog
from mesa_ws.messages.receipt import Position
from mesa_ws.server.send_queue import PeerState, SendQueue
from mesa_ws.server.slow_readers import SlowReaders
from mesa_ws.server.subscription import Subscription


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.buffered = self.memory = 0

    write_joined = None

    def is_cut(self) -> bool:
        return False

    def write(self, payload: bytes) -> None:
        self.written.append(payload)

    def ping(self, payload: bytes = b"") -> None: ...

    def close(self, code: int, reason: str) -> None: ...

    def pause_reading(self) -> None: ...

    def hold_back(self) -> None: ...

    def resume_reading(self) -> None: ...

    def peer_state(self) -> PeerState:
        return PeerState.PRESENT

    def cut(self) -> None: ...


class Host:
    """Counts the reads that its subscriptions request."""

    redelivery_interval: float | None = None
    is_prompt = False
    log = LimitedLog(logging.getLogger("mesa_ws.server"))
    redelivered_handlers: Collection[object] = ()

    def __init__(self) -> None:
        self.reads = 0

    def read(self, subscription: Subscription) -> None:
        self.reads += 1

    def read_broadcasts(self, subscription: Subscription) -> None: ...

    def watch(self, subscription: Subscription) -> None: ...

    def acked(self, subscription: Subscription) -> None: ...

    def redelivers(self, subscription: Subscription, entries: Sequence[Entry]) -> None: ...

    def lost(self, subscription: Subscription, page: Page) -> None: ...


OLD = Page("fresh", "old", 5, 5, 0)


@pytest.fixture
def transport() -> Transport:
    return Transport()


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def subscription(transport: Transport, host: Host) -> Subscription:
    readers = SlowReaders(10_000, Host.log)
    send_queue = SendQueue(transport, transport.write, 1000, pytest.fail, readers)
    return Subscription(host, send_queue, "1", is_wire2=False, probe=lambda: None)


@pytest.mark.parametrize("has_begun", [True, False])
def test_what_is_not_stored_waits_for_what_is_read_from_another_epoch(
    subscription: Subscription, transport: Transport, host: Host, has_begun: bool
) -> None:
    if has_begun:
        subscription.begin(OLD, None, None)
    subscription.deliver(Position("new", 3), b"stored")
    if not has_begun:
        subscription.begin(OLD, None, None)
    subscription.send_queue.write(b"not stored")
    assert (transport.written, host.reads) == ([], 1)
    subscription.on_page(Page("forked", "new", 2, 3, 0, (Entry(3, "m", b"stored"),)))
    assert transport.written == [b"stored", b"not stored"]
