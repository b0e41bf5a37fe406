"""What clients do reaches the portal that owns the queue: in order, until it is dealt with."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from mesa_ws.backend.inbox import (
    GUARANTEED_EVENTS,
    MAX_CONNECTION_WEIGHT,
    MAX_READ,
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
from tests.contract.post_office import EVERY, Owner, PostOffice, told


@pytest.fixture(params=["memory", "redis", "redis-8"])
async def office(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[PostOffice]:
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            hub = MemoryHub()
            yield PostOffice(
                lambda: MemoryBackend(hub, namespace=namespace),
                lambda: MemoryPortalConsumer(hub, namespace=namespace),
                stack,
            )
        else:
            url = url_for(request, request.param)
            yield PostOffice(
                lambda: RedisBackend(url, namespace=namespace),
                lambda: RedisPortalConsumer(url, namespace=namespace),
                stack,
            )


def test_a_connection_has_one_of_sixteen_queues() -> None:
    assert {partition_of(f"node.{n}") for n in range(1000)} == set(EVERY)


async def test_letters_are_read_in_their_order_until_they_are_done(office: PostOffice) -> None:
    node, owner = await office.node(), await office.owner()
    await node.open_with("a", "b")
    letters = await owner.until_read(3)
    assert told(letters) == [("connection", "1", ""), ("message", "2", "a"), ("message", "3", "b")]
    assert await owner.settle("done", *letters[:2]) == [0, 0]
    assert told(await owner.read()) == [("message", "3", "b")]


async def test_reading_goes_on_behind_a_place(office: PostOffice) -> None:
    node, owner = await office.node(), await office.owner()
    await node.open_with("a", "b")
    letters = await owner.until_read(3)
    assert told(await owner.portal.read({3: letters[1].offset})) == [("message", "3", "b")]


async def test_what_is_read_at_once_is_bounded(office: PostOffice) -> None:
    node, owner = await office.node(), await office.owner()
    for number in EVERY:
        for n in range(MAX_READ // 4 + 1):
            name = f"{node.backend.node_id}.{number}.{n}"
            letter = InboxEvent(name, number, "1", "connection", None, node.backend.node_id)
            await node.backend.append(letter, Capacity(1000, 1 << 30))
    assert len(await owner.portal.read(dict.fromkeys(EVERY, ""))) == MAX_READ
    assert len(await owner.portal.read({3: ""})) == MAX_READ // 4


async def test_what_waits_can_be_looked_at(office: PostOffice) -> None:
    node, stranger = await office.node(), office.portal()
    nothing = await stranger.backlog()
    assert (nothing.portals, nothing.waiting, nothing.oldest) == ((), 0, None)
    assert (nothing.dead, nothing.rejected) == (0, 0)
    owner = await office.owner()
    await node.open_with("a", "b")
    letters = await owner.until_read(3)
    await owner.settle("done", letters[0])
    await owner.settle("die", letters[1])
    backlog = await stranger.backlog()
    assert (backlog.portals, backlog.waiting, backlog.dead) == ((owner.portal.portal_id,), 1, 1)
    assert [queue.partition for queue in backlog.queues] == list(EVERY)
    assert {queue.owner for queue in backlog.queues} == {owner.portal.portal_id}
    assert [queue.waiting for queue in backlog.queues] == [1 if n == 3 else 0 for n in EVERY]
    assert backlog.queues[3].oldest == backlog.oldest == letters[2].at
    assert backlog.queues[4].oldest is None


async def test_what_is_rejected_is_counted_once_and_kept_nowhere(office: PostOffice) -> None:
    node, owner = await office.node(), await office.owner()
    await node.open_with("a", "b")
    letters = await owner.until_read(3)
    assert await owner.settle("reject", *letters[1:]) == [0, 0]
    assert await owner.settle("reject", letters[1]) == [0]
    assert told(await owner.read()) == [("connection", "1", "")]
    assert await owner.portal.dead_letters(10) == []
    await owner.settle("done", letters[0])
    assert (await owner.portal.backlog()).rejected == 2
    await node.append("message", 4, "c")
    [waiting] = await owner.until_read(1)
    stranger = Owner(office.portal(), owner.tokens)
    assert await stranger.settle("reject", waiting) == [-1]
    assert (await owner.portal.backlog()).rejected == 2


async def test_the_same_letter_once_more_changes_nothing(office: PostOffice) -> None:
    node, owner = await office.node(), await office.owner()
    await node.open_with("a")
    assert await node.append("message", 2, "a") == "taken"
    await node.append("disconnection", 3)
    assert await node.append("disconnection", 3) == "gone"
    assert [sequence for _, sequence, _ in told(await owner.until_read(3))] == ["1", "2", "3"]


async def test_a_connection_that_never_began_is_unknown(office: PostOffice) -> None:
    node = await office.node()
    assert await node.append("message", 2, "a") == "unknown"


async def test_a_full_queue_takes_no_messages(office: PostOffice) -> None:
    node, owner = await office.node(), await office.owner()
    await node.open_with("a")
    assert await node.append("message", 3, "b", most=2) == "full"
    assert await node.append("disconnection", 4, most=2) == "taken"
    assert await node.append("connection", 1, connection="d", most=2) == "taken"
    assert await node.append("connection", 1, connection="e", most=2) == "full"
    letters = await owner.until_read(4)
    await owner.settle("done", *letters)
    assert await node.append("connection", 1, connection="e", most=2) == "taken"


async def test_a_queue_takes_so_many_bytes(office: PostOffice) -> None:
    node, owner = await office.node(), await office.owner()
    await node.open_with()
    taken = 0
    while await node.append("message", taken + 2, "x" * 2000, most=9000, bytes=500_000) == "taken":
        taken += 1
    assert 150 < taken < 300  # Redis takes more memory than the messages have bytes
    assert await node.append("disconnection", taken + 2, most=9000, bytes=500_000) == "taken"
    while letters := await owner.read():
        await owner.settle("done", *letters)
    await node.append("connection", 1, connection="d")
    assert await node.append("message", 2, "x", connection="d", most=9000, bytes=500_000) == "taken"


async def test_a_few_letters_fit_whatever_their_size(office: PostOffice) -> None:
    node = await office.node()
    await node.open_with()
    answers = [await node.append("message", n, "x" * 2000, bytes=1) for n in range(2, GUARANTEED_EVENTS + 3)]
    assert answers == ["taken"] * (GUARANTEED_EVENTS - 1) + ["full"] * 2


async def test_one_connection_does_not_fill_a_queue_alone(office: PostOffice) -> None:
    node, owner = await office.node(), await office.owner()
    await node.open_with("a", connection="other")
    await node.open_with()
    answers = [await node.append("message", n, "x", most=9000) for n in range(2, MAX_CONNECTION_WEIGHT + 2)]
    assert answers == ["taken"] * (MAX_CONNECTION_WEIGHT - 1) + ["full"]
    assert await node.append("message", 3, "b", connection="other", most=9000) == "taken"
    letters = await owner.until_read(4)
    await owner.settle("die", next(each for each in letters if each.event.data == b"x"))
    assert await node.append("message", 5000, "x", most=9000) == "taken"
    assert await node.append("message", 5001, "x", most=9000) == "full"
    assert await node.append("disconnection", 5002, most=9000) == "taken"


async def test_large_letters_count_for_more_among_those_of_one_connection(office: PostOffice) -> None:
    node, owner = await office.node(), await office.owner()
    await node.open_with()
    assert await node.append("message", 2, "x" * (WEIGHT_UNIT * MAX_CONNECTION_WEIGHT)) == "taken"
    assert await node.append("message", 3, "x") == "full"
    letters = await owner.until_read(2)
    for _ in range(2):  # the reply to the first may have been lost
        await owner.settle("done", *letters)
    assert await node.append("message", 3, "x") == "taken"


async def test_a_node_that_leaves_ends_its_connections(office: PostOffice) -> None:
    node, owner = await office.node(), await office.owner()
    await node.open_with("a")
    await node.open_with(connection="ended")
    await node.append("disconnection", 2, connection="ended")
    await node.backend.aclose()
    letters = await owner.until_read(5)
    assert told(letters)[-1] == ("disconnection", "2r", '[1006,""]')
    assert len(letters) == 5


async def test_a_queue_has_one_owner(office: PostOffice) -> None:
    first, second = await office.owner(), office.portal()
    assert (await second.tend(EVERY)).tokens == {}
    assert set((await first.portal.tend([1])).portals) == {first.portal.portal_id, second.portal_id}
    assert set((await second.tend(EVERY)).tokens) == set(EVERY) - {1}
    assert (await second.tend([], stays=False)).portals == (first.portal.portal_id,)


async def test_who_lost_a_queue_is_turned_away(office: PostOffice) -> None:
    node, first = await office.node(), await office.owner()
    await node.open_with()
    letters = await first.until_read(1)
    await first.portal.tend([])
    second = await office.owner()
    assert await first.settle("begin", *letters) == [-1]
    assert await first.settle("done", *letters) == [-1]
    assert told(await second.read()) == told(letters)


async def test_a_token_of_before_does_not_count(office: PostOffice) -> None:
    node, owner = await office.node(), await office.owner()
    await node.open_with()
    letters = await owner.until_read(1)
    await owner.portal.tend([])
    await owner.portal.tend(EVERY)
    assert await owner.settle("begin", *letters) == [-1]


async def test_deliveries_are_counted_over_owners(office: PostOffice) -> None:
    node, first = await office.node(), await office.owner()
    await node.open_with()
    [letter] = await first.until_read(1)
    assert await first.settle("begin", letter) == [1]
    await first.portal.tend([])
    second = await office.owner()
    assert await second.settle("begin", letter) == [2]
    assert await second.settle("done", letter) == [0]
    assert await second.read() == []


async def test_a_delivery_that_is_noted_once_more_is_counted_once(office: PostOffice) -> None:
    """Else an event whose handlers were never called would become a dead letter as replies are lost."""
    node, owner = await office.node(), await office.owner()
    await node.open_with()
    [letter] = await owner.until_read(1)
    steps = [owner.step("begin", letter), owner.step("begin", letter)]
    assert [await owner.portal.settle(steps[:1]) for _ in range(3)] == [[1]] * 3
    assert await owner.portal.settle(steps[1:]) == [2]
    await owner.settle("die", letter, reason="no")
    assert [dead.deliveries for dead in await owner.portal.dead_letters(10)] == [2]


async def test_a_dead_letter_says_why(office: PostOffice) -> None:
    node, owner = await office.node(), await office.owner()
    await node.open_with("a")
    letters = await owner.until_read(2)
    await owner.settle("begin", letters[1])
    await owner.settle("die", letters[1], reason="ValueError: no")
    await owner.settle("die", letters[1], reason="once more")
    [dead] = await owner.portal.dead_letters(10)
    assert (dead.reason, dead.deliveries, dead.event) == ("ValueError: no", 1, letters[1].event)
    assert dead.at == letters[1].at
    assert dead.died >= dead.at
    assert told(await owner.read()) == [("connection", "1", "")]


async def test_a_revived_letter_is_as_if_it_had_never_been_delivered(office: PostOffice) -> None:
    node, owner = await office.node(), await office.owner()
    await node.open_with()
    letters = await owner.until_read(1)
    await owner.settle("begin", *letters)
    await owner.settle("die", *letters, reason="no")
    [dead] = await owner.portal.dead_letters(10)
    assert await owner.portal.revive([dead.offset]) == 1
    assert await owner.portal.revive([dead.offset]) == 0
    again = await owner.until_read(1)
    assert again[0].event.key == letters[0].event.key
    assert await owner.settle("begin", *again) == [1]


async def test_a_dead_letter_can_be_dropped(office: PostOffice) -> None:
    node, owner = await office.node(), await office.owner()
    await node.open_with()
    await owner.settle("die", *await owner.until_read(1), reason="no")
    [dead] = await owner.portal.dead_letters(10)
    assert await owner.portal.drop([dead.offset]) == 1
    assert await owner.portal.dead_letters(10) == []


async def test_what_is_kept_of_large_letters_is_bounded(office: PostOffice) -> None:
    node, owner, observer = await office.node(), await office.owner(), office.portal()
    place, _ = await observer.overhear("")
    for n in range(80):
        await node.append("connection", 1, connection=f"c{n}")
        await node.append("message", 2, f"{n}".ljust(1 << 20), connection=f"c{n}")
        for waiting in await owner.until_read(2):
            await owner.settle("done" if waiting.event.kind == "connection" else "die", waiting)
    dead, heard = await owner.portal.dead_letters(100), list[WaitingEvent]()
    while more := (await observer.overhear(place))[1]:
        place, heard = more[-1].offset, [*heard, *more]
    assert 50 <= sum(len(each.event.data) for each in heard) >> 20 <= 64
    assert 50 <= len(dead) <= 64
    assert dead[-1].event.data.rstrip() == heard[-1].event.data.rstrip() == b"79"


async def test_an_observer_hears_what_comes_and_takes_nothing(office: PostOffice) -> None:
    node, owner, observer = await office.node(), await office.owner(), office.portal()
    await node.open_with("before")
    place, heard = await observer.overhear("")
    assert heard == []
    await node.append("message", 3, "after")
    while not heard:
        place, heard = await observer.overhear(place)
    assert told(heard) == [("message", "3", "after")]
    assert heard[0].event.partition == 3
    assert len(await owner.until_read(3)) == 3


async def test_a_reply_reaches_the_connection_of_that_node_once(office: PostOffice) -> None:
    node, other, portal = await office.node(), await office.node(), office.portal()
    envelope = Envelope(Recipients(False, ("c.1",), frozenset()), b"{}", "connection", "m", None, 60.0)
    assert await portal.reply(envelope, node.backend.node_id)
    assert await portal.reply(envelope, node.backend.node_id)
    assert not await portal.reply(envelope, "gone")
    assert await node.until_received() == ("c.1", b"{}")
    assert len(node.received) == 1
    assert other.received == []
