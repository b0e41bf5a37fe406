"""Messages that may be dropped or replaced for a client that reads slowly, and others that never are."""

import logging
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesa_ws.concurrency.limited_log import LimitedLog
from mesa_ws.server.send_queue import MAX_HELD_FRAMES, SendQueue
from mesa_ws.server.slow_readers import SlowReaders
from tests.unit.server.test_subscription import Transport


class Slow(Transport):
    """A transport that calls its queue as that of a real client does; `buffered` is what the test says."""

    queue: SendQueue

    def hold_back(self) -> None:
        self.queue.congested()

    def slow(self) -> None:
        self.buffered = self.memory = 1
        self.queue.recount()

    def read(self) -> list[bytes]:
        """The client reads all."""
        self.buffered = self.memory = 0
        self.queue.relieved()
        self.queue.recount()
        return self.written


def slow_client(most: int = 10_000_000, *, joins: bool = False) -> tuple[Slow, SendQueue, SlowReaders]:
    transport = Slow(joins=joins)
    readers = SlowReaders(most, LimitedLog(logging.getLogger("mesa_ws.server")))
    transport.queue = SendQueue(transport, transport.write, most, pytest.fail, readers)
    return transport, transport.queue, readers


@pytest.mark.parametrize("policy", ["volatile", "latest:a"])
def test_a_client_that_nothing_waits_for_gets_every_message(policy: str) -> None:
    transport, queue, readers = slow_client()
    assert all(queue.offer(policy, payload) for payload in (b"1", b"2"))
    assert (transport.written, readers.skipped) == ([b"1", b"2"], {})


@pytest.mark.parametrize("reason", ["bytes", "page", "frames"])
def test_a_volatile_message_is_dropped_and_counted_if_anything_waits(reason: str) -> None:
    transport, queue, readers = slow_client()
    if reason == "bytes":
        transport.slow()
    else:
        queue.block()
    if reason == "frames":
        queue.write(b"1")
    assert not queue.offer("volatile", b"2")
    queue.unblock()
    assert transport.read() == ([b"1"] if reason == "frames" else [])
    assert readers.skipped == {"volatile": 1}


def test_the_newest_message_of_a_key_comes_in_its_place_among_others() -> None:
    transport, queue, readers = slow_client()
    transport.slow()
    for policy, payload in [
        ("latest:a", b"a1"), ("", b"1"), ("latest:b", b"b1"), ("latest:a", b"a2"), ("", b"2"),
        ("latest:a", b"a3"), ("", b"3"),
    ]:  # fmt: skip
        queue.offer(policy, payload) if policy else queue.write(payload)
    assert transport.written == []
    assert transport.read() == [b"1", b"b1", b"2", b"a3", b"3"]
    assert readers.skipped == {"latest": 2}
    queue.offer("latest:a", b"a4")
    assert transport.written[-1] == b"a4"
    assert readers.waiting == 0


def test_a_message_follows_the_stored_one_that_it_was_sent_after() -> None:
    transport, queue, _ = slow_client()
    queue.block()
    queue.offer("latest:a", b"a1")
    queue.follow(5)
    queue.offer("latest:a", b"a2")
    queue.release_before(5)
    assert transport.written == []
    queue.release_before(6)
    assert transport.written == [b"a2"]


def test_replaced_messages_take_no_memory() -> None:
    transport, queue, readers = slow_client()
    queue.block()
    queue.write(b"x")
    for n in range(10 * MAX_HELD_FRAMES):
        queue.offer(f"latest:{n % 3}", b"%d" % n)
    assert readers.waiting == queue.measure() < 2000
    assert len(queue._frames or ()) <= 9
    queue.unblock()
    newest = 10 * MAX_HELD_FRAMES
    assert transport.written == [b"x", *(b"%d" % n for n in range(newest - 3, newest))]
    assert queue.measure() == 0


def test_what_waits_goes_out_before_a_close_and_nothing_after() -> None:
    transport, queue, readers = slow_client()
    transport.slow()
    for payload in (b"a1", b"a2"):
        queue.offer("latest:a", payload)
    queue.flush()
    assert transport.written == [b"a2"]
    queue.close()
    queue.offer("latest:a", b"a3")
    queue.offer("volatile", b"v")
    queue.ended()
    assert (transport.written, readers.waiting, queue.measure()) == ([b"a2"], 0, transport.memory)


STEPS = st.lists(st.sampled_from(["", "latest:a", "latest:b", "volatile", "read", "slow"]), max_size=60)


@given(STEPS)
def test_ordinary_messages_all_arrive_and_of_a_key_the_newest(steps: Sequence[str]) -> None:
    transport, queue, readers = slow_client()
    sent: list[tuple[str, bytes]] = []
    for number, step in enumerate(steps):
        if step == "read":
            transport.read()
        elif step == "slow":
            transport.slow()
        else:
            sent.append((step, b"%d" % number))
            queue.offer(step, sent[-1][1]) if step else queue.write(sent[-1][1])
    written = transport.read()
    assert written == sorted(set(written), key=int), "in their order, each once"
    missing = [(policy, payload) for policy, payload in sent if payload not in written]
    assert len(missing) == readers.skipped.total()
    assert "" not in {policy for policy, _ in missing}
    newest = {policy: payload for policy, payload in sent if policy.startswith("latest")}
    assert set(newest.values()) <= set(written)
    assert readers.waiting == queue.measure() == 0


@pytest.mark.parametrize("write", [SendQueue.write_gathered, SendQueue.flush])
def test_gathered_frames_leave_in_one_write_at_the_latest_before_a_close(
    write: Callable[[SendQueue], None],
) -> None:
    transport, queue, _ = slow_client(joins=True)
    queue.gather()
    for payload in (b"1", b"2"):
        queue.write(payload)
    write(queue)
    assert (transport.written, transport.writes) == ([b"1", b"2"], [2])
    assert queue.write_joined == transport.write_joined
    queue.write_gathered()
    queue.write(b"3")
    assert transport.writes == [2, 1]


@pytest.mark.parametrize("reason", ["single", "blocked", "congested", "ended"])
def test_nothing_is_gathered_where_frames_wait_or_go_singly(reason: str) -> None:
    transport, queue, _ = slow_client(joins=reason != "single")
    if reason == "blocked":
        queue.block()
    elif reason == "congested":
        queue.congested()
    elif reason == "ended":
        queue.close()
    queue.gather()
    queue.write(b"1")
    queue.write_gathered()
    assert transport.written == ([b"1"] if reason == "single" else [])
    queue.unblock()
    queue.relieved()
    assert transport.written == ([] if reason == "ended" else [b"1"])


def test_frames_are_joined_only_while_each_is_written_at_once() -> None:
    transport, queue, _ = slow_client(joins=True)
    for before, after in ((queue.block, queue.unblock), (queue.congested, queue.relieved)):
        before()
        assert queue.write_joined is None
        after()
        assert queue.write_joined == transport.write_joined
    transport.write_joined, counted = None, list[bytes]()
    queue.reroute(queue.put, counted.append)
    assert queue.write_joined is None
    queue.close()
    assert queue.write_joined is None
