"""Events of clients reach the portal that owns their queue, in order, until it has settled them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import count
from typing import Any

import pytest

from mesa_ws.backend.inbox import (
    FEW,
    GUARANTEED_EVENTS,
    MAX_ACCOUNT_WEIGHT,
    MAX_READ,
    READ_AHEAD,
    WEIGHT_UNIT,
    Capacity,
    InboxEvent,
    WaitingEvent,
    partition_of,
)
from mesa_ws.backend.memory import MemoryBackend, MemoryHub, MemoryPortalConsumer
from mesa_ws.backend.redis import RedisBackend, RedisPortalConsumer
from mesa_ws.messages.envelope import Envelope
from mesa_ws.messages.recipients import Recipients
from tests.contract.conftest import url_for
from tests.contract.inbox_cluster import EVERY, InboxCluster, InboxNode, OwnerPortal, contents


@pytest.fixture(params=["memory", "redis", "redis-8"])
async def inbox(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[InboxCluster]:
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            hub = MemoryHub()
            yield InboxCluster(
                lambda: MemoryBackend(hub, namespace=namespace),
                lambda: MemoryPortalConsumer(hub, namespace=namespace),
                stack,
            )
        else:
            url = url_for(request, request.param)
            yield InboxCluster(
                lambda: RedisBackend(url, namespace=namespace),
                lambda: RedisPortalConsumer(url, namespace=namespace),
                stack,
            )


def test_a_connection_has_one_of_sixteen_queues() -> None:
    assert {partition_of(f"node.{n}") for n in range(1000)} == set(EVERY)


async def test_events_are_read_in_order_until_they_are_done(inbox: InboxCluster) -> None:
    node, owner = await inbox.node(), await inbox.owner()
    await node.open_with("a", "b")
    events = await owner.until_read(3)
    assert contents(events) == [("connection", "1", ""), ("message", "2", "a"), ("message", "3", "b")]
    assert await owner.settle("done", *events[:2]) == [0, 0]
    assert contents(await owner.read()) == [("message", "3", "b")]


async def test_reading_goes_on_after_an_offset(inbox: InboxCluster) -> None:
    node, owner = await inbox.node(), await inbox.owner()
    await node.open_with("a", "b")
    events = await owner.until_read(3)
    assert contents(await owner.portal.read({3: events[1].offset})) == [("message", "3", "b")]


async def test_what_is_read_at_once_is_bounded(inbox: InboxCluster) -> None:
    node, owner = await inbox.node(), await inbox.owner()
    for number in EVERY:
        for n in range(MAX_READ // 4 + 1):
            name = f"{node.backend.node_id}.{number}.{n}"
            event = InboxEvent(name, number, "1", "connection", None, node.backend.node_id)
            await node.backend.append(event, Capacity(1000, 1 << 30))
    assert len(await owner.portal.read(dict.fromkeys(EVERY, ""))) == MAX_READ
    assert len(await owner.portal.read({3: ""})) == MAX_READ // 4


async def test_what_waits_can_be_looked_at(inbox: InboxCluster) -> None:
    node, other = await inbox.node(), inbox.portal()
    nothing = await other.backlog()
    assert (nothing.portals, nothing.waiting, nothing.oldest) == ((), 0, None)
    assert (nothing.dead, nothing.rejected) == (0, 0)
    owner = await inbox.owner()
    await node.open_with("a", "b")
    events = await owner.until_read(3)
    await owner.settle("done", events[0])
    await owner.settle("die", events[1])
    backlog = await other.backlog()
    assert (backlog.portals, backlog.waiting, backlog.dead) == ((owner.portal.portal_id,), 1, 1)
    assert [queue.partition for queue in backlog.queues] == list(EVERY)
    assert {queue.owner for queue in backlog.queues} == {owner.portal.portal_id}
    assert [queue.waiting for queue in backlog.queues] == [1 if n == 3 else 0 for n in EVERY]
    assert backlog.queues[3].oldest == backlog.oldest == events[2].at
    assert backlog.queues[4].oldest is None


async def test_what_is_rejected_is_counted_once_and_kept_nowhere(inbox: InboxCluster) -> None:
    node, owner = await inbox.node(), await inbox.owner()
    await node.open_with("a", "b")
    events = await owner.until_read(3)
    assert await owner.settle("reject", *events[1:]) == [0, 0]
    assert await owner.settle("reject", events[1]) == [0]
    assert contents(await owner.read()) == [("connection", "1", "")]
    assert await owner.portal.dead_letters(10) == []
    await owner.settle("done", events[0])
    assert (await owner.portal.backlog()).rejected == 2
    await node.append("message", 4, "c")
    [waiting] = await owner.until_read(1)
    other = OwnerPortal(inbox.portal(), owner.tokens)
    assert await other.settle("reject", waiting) == [-1]
    assert (await owner.portal.backlog()).rejected == 2


async def test_an_event_that_is_appended_again_changes_nothing(inbox: InboxCluster) -> None:
    node, owner = await inbox.node(), await inbox.owner()
    await node.open_with("a")
    assert await node.append("message", 2, "a") == "taken"
    await node.append("disconnection", 3)
    assert await node.append("disconnection", 3) == "gone"
    assert [sequence for _, sequence, _ in contents(await owner.until_read(3))] == ["1", "2", "3"]


async def test_a_connection_that_never_began_is_unknown(inbox: InboxCluster) -> None:
    node = await inbox.node()
    assert await node.append("message", 2, "a") == "unknown"


async def test_a_full_queue_takes_no_messages(inbox: InboxCluster) -> None:
    node, owner = await inbox.node(), await inbox.owner()
    await node.open_with("a")
    assert await node.append("message", 3, "b", most=2) == "full"
    assert await node.append("disconnection", 4, most=2) == "taken"
    assert await node.append("connection", 1, connection="d", most=2) == "taken"
    assert await node.append("connection", 1, connection="e", most=2) == "full"
    events = await owner.until_read(4)
    await owner.settle("done", *events)
    assert await node.append("connection", 1, connection="e", most=2) == "taken"


async def test_a_queue_takes_so_many_bytes(inbox: InboxCluster) -> None:
    node, owner = await inbox.node(), await inbox.owner()
    taken, answer = 0, "taken"
    while answer == "taken":
        await node.append("connection", 1, connection=f"{taken}", most=9000)
        name = f"{taken}"
        answer = await node.append("message", 2, "x" * 2000, connection=name, most=9000, bytes=500_000)
        taken += answer == "taken"
    assert 150 < taken < 300  # Redis takes more memory than the messages have bytes
    assert await node.append("disconnection", 3, connection="0", most=9000, bytes=500_000) == "taken"
    while events := await owner.read():
        await owner.settle("done", *events)
    await node.append("connection", 1, connection="d")
    assert await node.append("message", 2, "x", connection="d", most=9000, bytes=500_000) == "taken"


async def test_a_few_events_fit_whatever_their_size(inbox: InboxCluster) -> None:
    node = await inbox.node()
    answers = []
    for n in range(GUARANTEED_EVENTS // 2 + 1):
        await node.append("connection", 1, connection=f"{n}")
        answers.append(await node.append("message", 2, "x" * 2000, connection=f"{n}", bytes=1))
    assert answers == ["taken"] * (GUARANTEED_EVENTS // 2) + ["full"]


async def test_one_connection_does_not_fill_a_queue_alone(inbox: InboxCluster) -> None:
    node, owner = await inbox.node(), await inbox.owner()
    await node.open_with("a", connection="other")
    await node.open_with()
    assert await until_full(node, "c") == READ_AHEAD // 2 - 2  # it and the other have opened
    assert await node.append("message", 3, "b", connection="other", most=9000) == "taken"
    events = await owner.until_read(4)
    await owner.settle("die", next(each for each in events if each.event.data == b"x"))
    assert await node.append("message", 5000, "x", most=9000) == "taken"
    assert await node.append("message", 5001, "x", most=9000) == "full"
    assert await node.append("disconnection", 5002, most=9000) == "taken"


async def test_an_account_gets_no_more_places_than_are_free(inbox: InboxCluster) -> None:
    """So floods share what a portal reads ahead, and leave places to those who have little."""
    node, floods = await inbox.node(), ("a", "b", "c")
    for name in ("other", *floods):
        await node.append("connection", 1, connection=name, id=name)
    full, sent = set[str](), dict.fromkeys(floods, 1)
    while len(full) < len(floods):
        for name in floods:
            answer = await node.append("message", sent[name] + 1, "x", connection=name, most=200, id=name)
            sent[name] += answer == "taken"
            if answer == "full":
                full.add(name)
    assert sent == dict.fromkeys(floods, 50)
    assert await until_full(node, "other", most=200, id="other") == 24


async def test_little_of_an_account_finds_a_place_until_the_queue_is_full(inbox: InboxCluster) -> None:
    node = await inbox.node()
    await node.open_with()
    assert await until_full(node, "c", most=FEW + 4) == FEW - 1
    await node.open_with(connection="other")
    assert await until_full(node, "other", most=FEW + 4) == 3


async def until_full(node: InboxNode, connection: str, *, most: int = 9000, id: str | None = None) -> int:
    """Append messages until one is refused; return how many were taken."""
    for taken in count():
        if await node.append("message", taken + 2, "x", connection=connection, most=most, id=id) == "full":
            return taken
    raise AssertionError


@pytest.mark.parametrize("account", [{"id": "1"}, {"network": "198.51.100.7"}])
async def test_connections_of_one_id_or_network_share_its_places(
    inbox: InboxCluster, account: dict[str, Any]
) -> None:
    node, owner = await inbox.node(), await inbox.owner()
    for name in ("c", "same", "other"):
        await node.append("connection", 1, connection=name, **(account if name != "other" else {}))
    large = "x" * (WEIGHT_UNIT * MAX_ACCOUNT_WEIGHT)
    assert await node.append("message", 2, large, **account) == "taken"
    assert await node.append("message", 2, "x", connection="same", **account) == "full"
    assert await node.append("message", 2, "x", connection="other") == "taken"
    await owner.settle("done", *await owner.until_read(5))
    assert await node.append("message", 2, "x", connection="same", **account) == "taken"
    assert [waiting.event.network for waiting in await owner.read()] == [account.get("network", "")]


async def test_the_first_login_of_a_connection_always_has_a_place(inbox: InboxCluster) -> None:
    node = await inbox.node()
    await node.open_with("a")
    assert await node.append("message", 3, "b", most=2) == "full"
    assert await node.append("authentication", 3, most=2, id="1") == "taken"
    assert await node.append("authentication", 4, most=2, id="2") == "full"


async def test_large_events_weigh_more_among_those_of_one_connection(inbox: InboxCluster) -> None:
    node, owner = await inbox.node(), await inbox.owner()
    await node.open_with()
    assert await node.append("message", 2, "x" * (WEIGHT_UNIT * MAX_ACCOUNT_WEIGHT)) == "taken"
    assert await node.append("message", 3, "x", most=9000) == "full"
    events = await owner.until_read(2)
    for _ in range(2):  # the reply to the first may have been lost
        await owner.settle("done", *events)
    assert await node.append("message", 3, "x") == "taken"


async def test_a_node_that_leaves_ends_its_connections(inbox: InboxCluster) -> None:
    node, owner = await inbox.node(), await inbox.owner()
    await node.open_with("a")
    await node.open_with(connection="ended")
    await node.append("disconnection", 2, connection="ended")
    await node.backend.aclose()
    events = await owner.until_read(5)
    assert contents(events)[-1] == ("disconnection", "2r", '[1006,""]')
    assert len(events) == 5


async def test_a_queue_has_one_owner(inbox: InboxCluster) -> None:
    first, second = await inbox.owner(), inbox.portal()
    assert (await second.heartbeat(EVERY)).tokens == {}
    assert set((await first.portal.heartbeat([1])).portals) == {first.portal.portal_id, second.portal_id}
    assert set((await second.heartbeat(EVERY)).tokens) == set(EVERY) - {1}
    assert (await second.heartbeat([], stays=False)).portals == (first.portal.portal_id,)


async def test_who_lost_a_queue_is_turned_away(inbox: InboxCluster) -> None:
    node, first = await inbox.node(), await inbox.owner()
    await node.open_with()
    events = await first.until_read(1)
    await first.portal.heartbeat([])
    second = await inbox.owner()
    assert await first.settle("begin", *events) == [-1]
    assert await first.settle("done", *events) == [-1]
    assert contents(await second.read()) == contents(events)


async def test_a_token_of_before_does_not_count(inbox: InboxCluster) -> None:
    node, owner = await inbox.node(), await inbox.owner()
    await node.open_with()
    events = await owner.until_read(1)
    await owner.portal.heartbeat([])
    await owner.portal.heartbeat(EVERY)
    assert await owner.settle("begin", *events) == [-1]


async def test_deliveries_are_counted_over_owners(inbox: InboxCluster) -> None:
    node, first = await inbox.node(), await inbox.owner()
    await node.open_with()
    [waiting] = await first.until_read(1)
    assert await first.settle("begin", waiting) == [1]
    await first.portal.heartbeat([])
    second = await inbox.owner()
    assert await second.settle("begin", waiting) == [2]
    assert await second.settle("done", waiting) == [0]
    assert await second.read() == []


async def test_a_delivery_that_is_noted_again_is_counted_once(inbox: InboxCluster) -> None:
    """Otherwise lost replies would make a dead letter of an event whose handlers were never called."""
    node, owner = await inbox.node(), await inbox.owner()
    await node.open_with()
    [waiting] = await owner.until_read(1)
    steps = [owner.step("begin", waiting), owner.step("begin", waiting)]
    assert [await owner.portal.settle(steps[:1]) for _ in range(3)] == [[1]] * 3
    assert await owner.portal.settle(steps[1:]) == [2]
    await owner.settle("die", waiting, reason="no")
    assert [dead.deliveries for dead in await owner.portal.dead_letters(10)] == [2]


async def test_a_dead_letter_says_why(inbox: InboxCluster) -> None:
    node, owner = await inbox.node(), await inbox.owner()
    await node.open_with("a")
    events = await owner.until_read(2)
    await owner.settle("begin", events[1])
    await owner.settle("die", events[1], reason="ValueError: no")
    await owner.settle("die", events[1], reason="again")
    [dead] = await owner.portal.dead_letters(10)
    assert (dead.reason, dead.deliveries, dead.event) == ("ValueError: no", 1, events[1].event)
    assert dead.at == events[1].at
    assert dead.died >= dead.at
    assert contents(await owner.read()) == [("connection", "1", "")]


async def test_a_revived_event_is_as_if_it_had_never_been_delivered(inbox: InboxCluster) -> None:
    node, owner = await inbox.node(), await inbox.owner()
    await node.open_with()
    events = await owner.until_read(1)
    await owner.settle("begin", *events)
    await owner.settle("die", *events, reason="no")
    [dead] = await owner.portal.dead_letters(10)
    assert await owner.portal.revive([dead.offset]) == 1
    assert await owner.portal.revive([dead.offset]) == 0
    again = await owner.until_read(1)
    assert again[0].event.key == events[0].event.key
    assert await owner.settle("begin", *again) == [1]


async def test_a_dead_letter_can_be_dropped(inbox: InboxCluster) -> None:
    node, owner = await inbox.node(), await inbox.owner()
    await node.open_with()
    await owner.settle("die", *await owner.until_read(1), reason="no")
    [dead] = await owner.portal.dead_letters(10)
    assert await owner.portal.drop([dead.offset]) == 1
    assert await owner.portal.dead_letters(10) == []


async def test_memory_for_large_dead_letters_is_bounded(inbox: InboxCluster) -> None:
    node, owner, observer = await inbox.node(), await inbox.owner(), inbox.portal()
    offset, _ = await observer.observe("")
    for n in range(80):
        await node.append("connection", 1, connection=f"c{n}")
        await node.append("message", 2, f"{n}".ljust(1 << 20), connection=f"c{n}")
        for waiting in await owner.until_read(2):
            await owner.settle("done" if waiting.event.kind == "connection" else "die", waiting)
    dead, heard = await owner.portal.dead_letters(100), list[WaitingEvent]()
    while more := (await observer.observe(offset))[1]:
        offset, heard = more[-1].offset, [*heard, *more]
    assert 50 <= sum(len(each.event.data) for each in heard) >> 20 <= 64
    assert 50 <= len(dead) <= 64
    assert dead[-1].event.data.rstrip() == heard[-1].event.data.rstrip() == b"79"


async def test_an_observer_hears_what_comes_and_takes_nothing(inbox: InboxCluster) -> None:
    node, owner, observer = await inbox.node(), await inbox.owner(), inbox.portal()
    await node.open_with("before")
    offset, heard = await observer.observe("")
    assert heard == []
    await node.append("message", 3, "after")
    while not heard:
        offset, heard = await observer.observe(offset)
    assert contents(heard) == [("message", "3", "after")]
    assert heard[0].event.partition == 3
    assert len(await owner.until_read(3)) == 3


async def test_a_reply_reaches_the_connection_of_that_node_once(inbox: InboxCluster) -> None:
    node, other, portal = await inbox.node(), await inbox.node(), inbox.portal()
    envelope = Envelope(Recipients(False, ("c.1",), frozenset()), b"{}", "connection", "m", None, 60.0)
    assert await portal.reply(envelope, node.backend.node_id)
    assert await portal.reply(envelope, node.backend.node_id)
    assert not await portal.reply(envelope, "gone")
    assert await node.until_received() == ("c.1", b"{}")
    assert len(node.received) == 1
    assert other.received == []
