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


def split(frames: bytes) -> list[bytes]:
    """Return the payloads of text frames."""
    payloads = []
    while frames:
        assert frames[0] == 0x81
        head, size = (2, frames[1]) if frames[1] < 126 else (4, int.from_bytes(frames[2:4]))
        payloads.append(frames[head : head + size])
        frames = frames[head + size :]
    return payloads


class Transport:
    """Keeps what is written; `writes` has the number of frames of each write."""

    def __init__(self, *, joins: bool = False) -> None:
        self.written: list[bytes] = []
        self.writes: list[int] = []
        self.buffered = self.memory = 0
        self.write_joined = self._write_joined if joins else None

    def is_cut(self) -> bool:
        return False

    def write(self, payload: bytes) -> None:
        self.written.append(payload)
        self.writes.append(1)

    def _write_joined(self, frames: bytes) -> None:
        payloads = split(frames)
        self.written += payloads
        self.writes.append(len(payloads))

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


def entries(first: int, *sizes: int, excluding: str = "") -> tuple[Entry, ...]:
    return tuple(
        Entry(first + n, "m", b'{"d":"%s"}' % (b"x" * size), frozenset(excluding) if n == 1 else frozenset())
        for n, size in enumerate(sizes)
    )


def test_a_page_leaves_in_one_write_of_bounded_size(host: Host) -> None:
    transport = Transport(joins=True)
    send_queue = SendQueue(transport, transport.write, 1000, pytest.fail, SlowReaders(10_000, Host.log))
    subscription = Subscription(host, send_queue, "1", is_wire2=True, probe=lambda: None)
    page = Page("fresh", "e", 0, 53, 0, entries(1, *[10] * 50, 20_000, 1, 1))
    subscription.begin(page, Page("fresh", "b", 0, 4, 0, entries(1, 1, 1, 1, 9000, excluding="1")), None)
    assert transport.writes == [50, 1, 2, 3]
    sequences = [frame[frame.index(b'"s"') :] for frame in transport.written[:53]]
    assert sequences == [b'"s":%d}' % n for n in range(1, 54)]
    assert [frame[-6:] for frame in transport.written[53:]] == [b'"b":%d}' % n for n in (1, 3, 4)]
    assert send_queue.unwritten == 0


def test_what_waits_between_the_messages_of_a_page_keeps_its_place(host: Host) -> None:
    transport = Transport(joins=True)
    send_queue = SendQueue(transport, transport.write, 1000, pytest.fail, SlowReaders(10_000, Host.log))
    subscription = Subscription(host, send_queue, "1", is_wire2=True, probe=lambda: None)
    page = Page("resumed", "e", 0, 4, 0, entries(1, 1, 1, 1, 1))
    subscription.outbox.on_page(page._replace(entries=(), top=0))
    subscription.outbox.invalidate()
    subscription.outbox.begin_read()
    send_queue.follow(2)
    send_queue.write(b"direct")
    subscription.on_page(page)
    assert transport.writes == [1, 1, 1, 2]
    assert transport.written[2] == b"direct"


def test_a_page_is_recorded_message_by_message(host: Host) -> None:
    transport, recorded = Transport(joins=True), list[bytes]()
    send_queue = SendQueue(transport, recorded.append, 1000, pytest.fail, SlowReaders(10_000, Host.log))
    subscription = Subscription(host, send_queue, "1", is_wire2=False, probe=lambda: None)
    subscription.begin(Page("fresh", "e", 0, 3, 0, entries(1, 1, 1, 1)), None, None)
    assert (len(recorded), transport.writes) == (3, [])
