"""The embedded backend under a clock that the tests advance."""

import asyncio

import pytest
from msgspec.structs import replace

from mesa_ws.backend.base import Membership
from mesa_ws.backend.memory import MemoryBackend, MemoryHub
from mesa_ws.backend.memory.cluster import Cluster
from mesa_ws.backend.memory.outbox import Timetable
from mesa_ws.backend.outbox import Acknowledgement, Page, Start
from mesa_ws.backend.queries import Heads, Online
from mesa_ws.errors import Unsupported
from mesa_ws.messages.envelope import Envelope, Retention, prepare
from mesa_ws.messages.message import Message
from mesa_ws.messages.order import prepare_order
from mesa_ws.messages.receipt import Position
from mesa_ws.settings import Durability

KEEP = Retention(max_messages=1000, max_bytes=1_000_000, ttl=3600.0)
FRESH = Start()
WIRE2 = Start(is_wire2=True)
DAY = 86_400.0
MANY = 3000


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


class Memory:
    """A hub under a clock, and an open node."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.hub = MemoryHub(self.clock)
        self.backend = MemoryBackend(self.hub)

    @property
    def cluster(self) -> Cluster:
        return self.hub.cluster(None)

    @property
    def outboxes(self) -> int:
        """Number of outboxes in memory."""
        return len(self.cluster.outboxes)

    @property
    def remembered(self) -> int:
        """Number of remembered message ids."""
        return len(self.cluster._remembered)

    async def dispatch(self, *ids: str, retention: Retention = KEEP, times: int = 1) -> None:
        await self.backend.dispatch([kept(*ids, retention=retention) for _ in range(times)])

    async def enter(self, start: Start = WIRE2) -> Page:
        """Attach a connection of alice."""
        page = await self.backend.attach("alice", 1, start)
        assert page is not None
        return page

    async def resume(self, position: Position) -> Page:
        return await self.enter(Start("resume", position, is_wire2=True))

    async def pass_by(self, seconds: float) -> None:
        """Advance the clock, and send messages, during which the backend cleans up."""
        self.clock.now += seconds
        for _ in range(MANY):
            await self.backend.dispatch([prepare(Message(0, 1), ["other"])])


def kept(*ids: str, retention: Retention = KEEP) -> Envelope:
    return prepare(Message(0, 1), ids, retention=retention)


@pytest.fixture
async def memory() -> Memory:
    memory = Memory()
    await memory.backend.open(lambda envelope: None, membership=Membership(retention=KEEP, window=60.0))
    return memory


async def test_a_message_is_there_until_its_time_is_over(memory: Memory) -> None:
    await memory.dispatch("alice")
    memory.clock.now += KEEP.ttl - 1
    assert (await attach(memory)).lost == 0
    memory.clock.now += 1
    assert (await attach(memory)).lost == 1


async def test_revocations_of_ids_that_never_come_back_are_forgotten(memory: Memory) -> None:
    async def revoke(*ids: str) -> None:
        await memory.backend.dispatch([prepare_order(ids, 1008, "", 100.0).envelope()])

    await revoke("1", "2")
    memory.clock.now += DAY / 2
    await revoke("1")  # which is kept longer
    memory.clock.now += DAY / 2
    await memory.dispatch("other")
    assert list(memory.cluster.revocations) == ["1"]
    assert (await memory.backend.standing("2")).revoked_until is None
    assert (await memory.backend.standing("1")).revoked_until == 100.0
    memory.clock.now += DAY / 2
    await memory.dispatch("other")
    assert memory.cluster.revocations == {}


async def test_messages_to_everybody_are_kept_for_five_minutes(memory: Memory) -> None:
    await memory.backend.dispatch([prepare(Message(0, 1), retention=KEEP)])
    start = Position((await memory.backend.broadcasts(None)).epoch, 0)
    memory.clock.now += 299
    assert len((await memory.backend.broadcasts(start)).entries) == 1
    memory.clock.now += 1
    page = await memory.backend.broadcasts(start)
    assert (page.status, page.lost, page.entries) == ("resumed", 1, ())


async def test_messages_to_everybody_take_up_so_many_bytes(memory: Memory) -> None:
    start = Position((await memory.backend.broadcasts(None)).epoch, 0)
    body = bytes(1024 * 1024)
    await memory.backend.dispatch(
        [replace(prepare(Message(0, n), retention=KEEP), body=body) for n in range(70)]
    )
    assert (await memory.backend.broadcasts(start)).lost == 6


async def test_messages_to_everybody_leave_although_nobody_asks(memory: Memory) -> None:
    await memory.backend.dispatch([prepare(Message(0, 1), retention=KEEP)])
    await memory.pass_by(301)
    assert memory.cluster.broadcasts.head.length == 0


async def test_what_another_device_has_is_kept_for_the_window(memory: Memory) -> None:
    await memory.dispatch("alice", times=2)
    page = await attach(memory, Start(is_wire2=True))
    memory.backend.acknowledge([Acknowledgement("alice", Position(page.epoch, 2), 2)])
    start = Start("resume", Position(page.epoch, 0), is_wire2=True)
    memory.clock.now += 59
    assert (await attach(memory, start)).lost == 0
    memory.clock.now += 1
    memory.backend.acknowledge([Acknowledgement("alice", Position(page.epoch, 2), 2)])
    assert (await attach(memory, start)).lost == 2


async def test_outboxes_that_nobody_needs_are_forgotten(memory: Memory) -> None:
    ids = [f"id-{n}" for n in range(MANY)]
    await memory.dispatch(*ids)
    await memory.pass_by(KEEP.ttl + DAY - 60)
    assert memory.outboxes == MANY
    await memory.pass_by(180)
    assert memory.outboxes == 0


async def test_outboxes_of_ids_that_only_log_in_are_forgotten(memory: Memory) -> None:
    for n in range(MANY):
        await memory.backend.attach(f"id-{n}", 1, Start())
        memory.backend.detach(f"id-{n}")
    await memory.pass_by(KEEP.ttl + DAY + 120)
    assert memory.outboxes == 0


async def test_an_outbox_with_somebody_attached_is_not_forgotten(memory: Memory) -> None:
    await memory.dispatch("alice")
    await memory.backend.attach("alice", 1, Start())
    await memory.pass_by(100 * DAY)
    assert memory.outboxes == 1
    assert memory.cluster.outboxes._timetable.take(memory.clock.now, 1) == []


async def test_an_outbox_is_forgotten_when_the_last_has_left(memory: Memory) -> None:
    await memory.backend.attach("alice", 1, Start())
    await memory.pass_by(100 * DAY)
    memory.backend.detach("alice")
    await memory.pass_by(DAY + 120)
    assert memory.outboxes == 0


async def test_an_outbox_that_is_used_is_not_forgotten(memory: Memory) -> None:
    await memory.dispatch("alice")
    epoch = (await attach(memory)).epoch
    memory.backend.detach("alice")
    for _ in range(5):
        await memory.pass_by(KEEP.ttl + DAY - 60)
        await memory.dispatch("alice")
    assert (await attach(memory)).epoch == epoch


async def test_an_outbox_stays_as_long_as_its_longest_message(memory: Memory) -> None:
    await memory.dispatch("alice", retention=KEEP._replace(ttl=300 * DAY))
    await memory.dispatch("alice")
    await memory.pass_by(300 * DAY - 1)
    assert (await attach(memory)).lost == 0


async def test_an_outbox_stays_as_long_as_its_longest_message_might_have(memory: Memory) -> None:
    await memory.dispatch("alice", retention=KEEP._replace(ttl=300 * DAY))
    await memory.backend.purge("alice")
    await memory.dispatch("alice")
    await memory.pass_by(300 * DAY)
    assert memory.outboxes == 1


async def test_messages_take_up_no_memory_when_nobody_who_lacks_them_is_left(memory: Memory) -> None:
    slow = MemoryBackend(memory.hub)
    await slow.open(lambda envelope: None)
    await memory.dispatch("alice", times=3)
    await slow.attach("alice", 1, Start())
    page = await attach(memory)
    memory.backend.acknowledge([Acknowledgement("alice", Position(page.epoch, 3), 3)])
    assert lengths(memory) == [3]
    slow.detach("alice")
    await memory.pass_by(120)
    assert lengths(memory) == [0]


async def test_messages_take_up_no_memory_when_their_time_is_over(memory: Memory) -> None:
    await memory.dispatch("alice", times=3)
    await memory.pass_by(KEEP.ttl + 120)
    assert lengths(memory) == [0]


async def test_messages_take_up_no_memory_when_the_window_is_over(memory: Memory) -> None:
    await memory.dispatch("alice", times=3)
    page = await attach(memory, Start(is_wire2=True))
    memory.backend.acknowledge([Acknowledgement("alice", Position(page.epoch, 3), 3)])
    memory.backend.detach("alice")
    assert lengths(memory) == [3]
    await memory.pass_by(180)
    assert lengths(memory) == [0]


async def test_an_outbox_that_is_used_for_long_leaves_nothing_behind(memory: Memory) -> None:
    page = await attach(memory, Start(is_wire2=True))
    for n in range(1, 300):
        await memory.dispatch("alice")
        memory.backend.acknowledge([Acknowledgement("alice", Position(page.epoch, n), n)])
        memory.clock.now += 45
    timetable = memory.cluster.outboxes._timetable
    assert len(timetable) == 1
    assert len(timetable._minutes) < 10


async def test_messages_are_remembered_for_two_minutes(memory: Memory) -> None:
    for n in range(MANY):
        await memory.dispatch(f"id-{n}")
    await memory.pass_by(119)
    assert memory.remembered == MANY
    await memory.pass_by(120)
    assert memory.remembered == 0


async def test_a_message_is_not_remembered_for_longer_although_it_was_not_cleared_up(memory: Memory) -> None:
    sent = kept("alice")
    for seconds, top in ((0.0, 1), (119.0, 1), (1.0, 2)):
        memory.clock.now += seconds
        await memory.backend.dispatch([sent])
        assert (await attach(memory)).top == top


async def test_what_survives_the_process_is_not_offered(memory: Memory) -> None:
    levels: list[Durability] = ["fsync", "replicated"]
    for durability in levels:
        more = prepare(Message(0, 1), ["alice"], retention=KEEP, durability=durability)
        with pytest.raises(Unsupported, match=f"expected 'memory', got '{durability}'.*use Redis"):
            await memory.backend.dispatch([kept("alice"), more])
    assert memory.outboxes == 0


async def test_a_server_that_is_started_again_finds_what_was_stored() -> None:
    backend = MemoryBackend()
    for _ in range(2):
        await backend.open(lambda envelope: None)
        await backend.dispatch([kept("alice")])
        await backend.aclose()
    head = (await backend.query(Heads(["alice"])))["alice"]
    assert head is not None
    assert head.length == 2


async def test_what_is_delivered_comes_in_the_next_turn_of_the_loop() -> None:
    received: list[Envelope] = []
    backend = MemoryBackend()
    await backend.open(received.append)
    await backend.attach("alice", 1)
    await backend.dispatch([kept("alice")])
    assert received == []
    await asyncio.sleep(0)
    assert len(received) == 1


async def test_an_id_that_came_back_has_no_grace_running() -> None:
    backend, gone = MemoryBackend(), asyncio.Event()

    class Leaving:
        async def catch_up(self) -> None:
            """Do nothing: memory misses no messages."""

        def came_online(self, id: str) -> None:
            """Do nothing."""

        def went_offline(self, id: str) -> None:
            gone.set()

        def portal_joined(self, id: str) -> None:
            """Do nothing."""

        def doubted(self) -> None: ...

        def portal_left(self, id: str) -> None:
            """Do nothing."""

        def forked(self, since: float) -> None:
            """Do nothing."""

    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
    await backend.open(lambda envelope: None, Leaving(), Membership(grace=0.0))
    await backend.attach("alice", 1)
    backend.detach("alice")
    await backend.attach("alice", 1)
    await backend.attach("bob", 1)
    backend.detach("bob")
    await asyncio.wait_for(gone.wait(), 10)
    assert (problems, await backend.query(Online(["alice"]))) == ([], {"alice": 1})


def test_a_timetable_gives_what_is_due_and_no_more_than_asked_for() -> None:
    timetable: Timetable[int] = Timetable()
    for n in range(12):
        timetable.put(n, 20.0 * n)
    assert timetable.take(59.0, 100) == []
    first = timetable.take(181.0, 2)
    assert (len(first), {*first} <= {0, 1, 2}) == (2, True)
    assert sorted(first + timetable.take(181.0, 100)) == list(range(9))
    assert len(timetable) == 3


def test_a_key_of_a_timetable_is_due_once() -> None:
    timetable: Timetable[str] = Timetable()
    timetable.put("a", 0.0)
    timetable.put("a", 600.0)
    assert timetable.take(300.0, 100) == []
    assert timetable.take(700.0, 100) == ["a"]
    assert timetable.take(9999.0, 100) == []


def test_a_key_of_a_timetable_may_be_put_earlier() -> None:
    timetable: Timetable[str] = Timetable()
    timetable.put_earlier("a", 600.0)
    timetable.put_earlier("a", 6000.0)
    assert timetable.take(700.0, 100) == ["a"]
    timetable.put_earlier("a", 6000.0)
    timetable.put_earlier("a", 600.0)
    assert timetable.take(700.0, 100) == ["a"]


async def attach(memory: Memory, start: Start = FRESH) -> Page:
    page = await memory.backend.attach("alice", 1, start)
    assert page is not None
    return page


def lengths(memory: Memory) -> list[int]:
    """Number of messages in each outbox in memory."""
    return [outbox.head.length for outbox in memory.cluster.outboxes._outboxes.values()]


async def test_guests_leave_nothing(memory: Memory) -> None:
    for n in range(100):
        await memory.backend.attach(f"guest {n}", 1, WIRE2)
        memory.backend.detach(f"guest {n}")
    assert memory.outboxes == 0
    assert len(memory.cluster.outboxes._timetable) == 0


@pytest.mark.parametrize("stored", [0, 3])
async def test_the_position_of_a_guest_holds_for_eight_days(memory: Memory, stored: int) -> None:
    position = Position((await memory.enter()).epoch, 0)
    memory.backend.detach("alice")
    await memory.pass_by(7.9 * DAY)
    await memory.dispatch("alice", times=stored)
    page = await memory.resume(position)
    assert (page.status, page.start, page.lost, page.ended) == ("forked", 0, 0, 0)
    assert len(page.entries) == stored
    await memory.pass_by(2 * DAY)
    assert (await memory.resume(position)).status == "reset"


async def test_an_epoch_is_never_begun_again(memory: Memory) -> None:
    """Not while the epoch of any position may still be computed from its day."""
    guest = Position((await memory.enter()).epoch, 0)
    memory.backend.detach("alice")
    await memory.dispatch("alice", times=50)
    for _ in range(12):
        await memory.pass_by(0.9 * DAY)
        page = await memory.resume(guest)
        memory.backend.detach("alice")
        assert page.status == "reset" or page.lost == 50 or page.entries
        await memory.backend.attach("bob", 1, WIRE2)  # there are always guests
    await memory.pass_by(12 * DAY)
    assert memory.outboxes == 0
    await memory.dispatch("alice", times=60)
    for position in (guest, guest._replace(sequence=50)):
        assert (await memory.resume(position)).status == "reset"


async def test_an_outbox_begins_in_the_epoch_of_who_is_connected(memory: Memory) -> None:
    epoch = (await memory.enter()).epoch
    await memory.pass_by(3 * DAY)
    await memory.dispatch("alice")
    assert (await memory.resume(Position(epoch, 0))).status == "resumed"
