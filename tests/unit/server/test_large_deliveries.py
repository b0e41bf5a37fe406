"""Deliveries in slices: each connection gets what it would get if every delivery were made at once."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from unittest.mock import patch

from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mesa_ws import Connection, ConnectionClosed, Message, User
from mesa_ws.concurrency import turns
from mesa_ws.messages.envelope import Envelope, Retention, prepare
from mesa_ws.messages.receipt import Position
from mesa_ws.server import fanout, large_deliveries, send_queue
from mesa_ws.server.large_deliveries import Shared
from mesa_ws.server.node import Node
from mesa_ws.settings import Sync
from tests.unit.server.test_subscription import Transport

IDS = ("a", "b")
RETENTION = Retention.of(Sync(enabled=True))
MANY = 400
"""Turns of the event loop in which everything comes to an end."""
RESTING = 40
"""Turns in which logins come to their end."""


class Client(Transport):
    """Keeps what it is sent, the close frame included."""

    def close(self, code: int, reason: str) -> None:
        self.written.append(b"close %d" % code)


class World:
    """A node with clients; each step is one of a program that hypothesis writes."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.clients: list[tuple[Connection, Client]] = []
        self.lost: set[int] = set()
        self.count = 0

    @classmethod
    async def started(cls, **options: Any) -> "World":
        node = Node(sync=True, **options)

        @node.authenticator
        async def authenticate(data: dict[str, Any], _: Connection) -> User:
            return User(data["id"])

        await node.start()
        return cls(node)

    def connect(self, *, joins: bool = True) -> None:
        transport = Client(joins=joins)
        self.clients.append((self.node.connect(transport, "/", {}, None), transport))

    def log_in(self, client: int, id: str, wire: int) -> None:
        self.relieve(client)  # what a slow client gets of its page, and when, would be chance
        extension = {"x": {"v": 2}} if wire == 2 else {}
        self._of(client).receive(json.dumps({"op": 2, "d": {"id": id}, **extension}).encode())

    def rename(self, client: int, id: str) -> None:
        if self._of(client).user is not None:
            self._of(client).update_user(User(id))

    def leave(self, client: int) -> None:
        if self.clients:
            self.lost.add(client % len(self.clients))
            self._of(client).lost(1006, "")

    def disconnect(self, client: int) -> None:
        self._of(client).disconnect(4999)

    def send(self, client: int) -> None:
        message = self._message(sync=False)
        with suppress(ConnectionClosed):
            self._of(client).send(message)

    async def dispatch(self, recipients: list[str], excluding: list[str], sync: bool) -> None:
        envelope = prepare(self._message(sync=sync), recipients, excluding, retention=RETENTION)
        if sync:
            await self.node.backend.dispatch([envelope])
        else:
            self._arrive(envelope)

    async def burst(self, recipients: list[str], syncs: list[bool]) -> None:
        for sync in syncs:
            await self.dispatch(recipients, [], sync)

    async def part(self, recipients: list[str]) -> None:
        await self._rest()
        self._arrive(replace(prepare(Message(0), recipients), kind="disconnect", body=b""))

    async def congest(self, client: int) -> None:
        await self._rest()
        self._of(client).congested()

    async def _rest(self) -> None:
        """Let logins and deliveries come to their end, for as long with slices as without.

        How far a login has got when its client is ended, and what of a delivery a client gets that becomes
        slow in between, is not promised.
        """
        await self.turns(RESTING + self.count * len(self.clients))

    def relieve(self, client: int) -> None:
        self._of(client).relieved()

    def catch_up(self) -> None:
        self.node.spawn(self.node.catch_up())

    async def turns(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    def _arrive(self, envelope: Envelope) -> None:
        """Let the bus bring an envelope, even to ids that have no connection now: when they go is chance."""
        asyncio.get_running_loop().call_soon(self.node.fanout.deliver, envelope)

    def _message(self, *, sync: bool) -> Message:
        self.count += 1
        return Message(0, self.count, "T", sync=sync)

    def _of(self, client: int) -> Connection:
        return self.clients[client % len(self.clients)][0]


Step = tuple[str, dict[str, Any]]

clients, ids = st.integers(0, 5), st.sampled_from(IDS)
STEPS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "connect": {},
    "log_in": {"client": clients, "id": ids, "wire": st.sampled_from((1, 2))},
    "rename": {"client": clients, "id": ids},
    "leave": {"client": clients},
    "disconnect": {"client": clients},
    "send": {"client": clients},
    "dispatch": {
        "recipients": st.sampled_from((["*"], ["*"], ["a"], ["b"], ["a", "b"])),
        "excluding": st.sampled_from(([], [], ["b"])),
        "sync": st.booleans(),
    },
    "burst": {
        "recipients": st.sampled_from((["a"], ["b"], ["a", "b"])),
        "syncs": st.lists(st.booleans(), min_size=3, max_size=5),
    },
    "part": {"recipients": st.sampled_from((["*"], ["a"], ["a", "b"]))},
    "congest": {"client": clients},
    "relieve": {"client": clients},
    "catch_up": {},
    "turns": {"count": st.integers(1, 4)},
}
often = ("connect", "log_in", "dispatch", "dispatch", "burst", "turns")
names = st.sampled_from((*STEPS, *often))
steps = names.flatmap(lambda name: st.tuples(st.just(name), st.fixed_dictionaries(STEPS[name])))
programs = st.lists(steps, min_size=12, max_size=40)


async def outputs(program: list[Step]) -> World:
    """Run a program, and return what became of it."""
    world = await World.started()
    world.connect()
    try:
        for name, details in program:
            done = getattr(world, name)(**details)
            if done is not None:
                await done
        for each, _ in world.clients:
            each.relieved()
        await world.turns(MANY)
    finally:
        await world.node.stop()
    return world


class TimedClient(Transport):
    """Notes the turn of the event loop in which each frame is written."""

    def __init__(self, turns: list[int]) -> None:
        super().__init__()
        self._turns = turns
        self.turns: list[int] = []

    def write(self, payload: bytes) -> None:
        self.turns.append(self._turns[0])

    def close(self, code: int, reason: str) -> None:
        self.turns.append(self._turns[0])


async def turns_of_writes(do: Callable[[Node], Coroutine[Any, Any, None]]) -> Counter[int]:
    """Let a node with 20 clients do something, and return how many clients each turn of the loop wrote to."""
    turns = [0]

    async def count() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    node = Node()
    await node.start()
    transports = [TimedClient(turns) for _ in range(20)]
    for transport in transports:
        node.connect(transport, "/", {}, None)
        transport.turns.clear()
    counting = asyncio.create_task(count())
    await do(node)
    counting.cancel()
    assert [len(each.turns) for each in transports] == [1] * 20
    counted = Counter(turn for each in transports for turn in each.turns)
    await node.stop()
    return counted


@contextmanager
def slices_of(at_once: float, most: int = 64, joined: int = 64) -> Iterator[None]:
    """Make slices of one connection each from so many connections on; with 0 joined, none is shared."""
    with (
        patch.multiple(large_deliveries, TURN=0.0, BLOCK=1, AT_ONCE=at_once, MOST=most, MOST_JOINED=joined),
        patch.multiple(fanout, JITTER=0.0, MAX_JOINED=send_queue.MAX_JOINED if joined else 0),
        patch.object(turns, "TURN", 60.0),  # no step depends on the clock
    ):
        yield


def judged(written: list[bytes], program: list[Step]) -> list[bytes]:
    """Leave out frames of the protocol if a client reads slowly: they overtake what waits for it."""
    if all(name != "congest" for name, _ in program):
        return written
    return [frame for frame in written if frame.startswith((b'{"op":0', b"close"))]


def without_chance(written: list[bytes]) -> list[bytes]:
    """Leave out what is random: epochs, and when to come back."""
    return [re.sub(rb'"(e|after)":[^,}]*', b"", frame) for frame in written]


LOGGED_IN = [("connect", {}), ("log_in", {"client": 1, "id": "a", "wire": 1}), ("turns", {"count": 20})]
EVERYBODY = ("dispatch", {"recipients": ["*"], "excluding": [], "sync": False})
STORED = ("dispatch", {"recipients": ["a"], "excluding": [], "sync": True})
LAST_LOGS_IN = ("log_in", {"client": 4, "id": "a", "wire": 1})
DIRECT = ("dispatch", {"recipients": ["a"], "excluding": [], "sync": False})
CONGEST, RELIEVE = ("congest", {"client": 1}), ("relieve", {"client": 1})
TURN = ("turns", {"count": 1})
BURST = ("burst", {"recipients": ["a"], "syncs": [True, False, True, False]})
LOGS_IN, PART = ("log_in", {"client": 1, "id": "a", "wire": 1}), ("part", {"recipients": ["*"]})


@settings(derandomize=True)  # it holds for any programs; a run of all tests is no search for new ones
@given(programs, st.sampled_from((0, 1, 3)), st.sampled_from((2, 64)), st.sampled_from((0, 2, 64)))
@example([*[("connect", {})] * 5, CONGEST, LOGS_IN, EVERYBODY, STORED, PART, TURN], 0, 2, 0)
@example([*LOGGED_IN, CONGEST, STORED, TURN, EVERYBODY, RELIEVE, STORED], 1, 64, 0)
@example([*LOGGED_IN, ("catch_up", {}), EVERYBODY, TURN, STORED], 1, 64, 0)
@example([*LOGGED_IN, EVERYBODY, TURN, ("disconnect", {"client": 1})], 1, 64, 0)
@example([*[("connect", {})] * 4, LAST_LOGS_IN, ("turns", {"count": 20}), EVERYBODY, TURN, DIRECT], 3, 64, 0)
@example(
    [*LOGGED_IN, BURST, EVERYBODY, DIRECT, ("burst", {"recipients": ["b"], "syncs": [True] * 3})], 3, 64, 64
)
@example([*LOGGED_IN, TURN, BURST, CONGEST, BURST, RELIEVE, BURST], 3, 64, 64)
@example([*[("connect", {})] * 4, EVERYBODY, TURN, TURN, EVERYBODY, TURN], 0, 64, 64)
# In the examples, a message to everybody waits for the client while its page is read, or requested, with a
# message that the bus has not brought yet; or while the client is closed.
def test_each_connection_gets_the_same_in_the_same_order(
    program: list[Step], at_once: int, most: int, joined: int
) -> None:
    with slices_of(float("inf"), joined=0):
        whole = asyncio.run(outputs(program))
    with slices_of(at_once, most, joined):
        sliced = asyncio.run(outputs(program))
    for number, ((_, expected), (_, found)) in enumerate(zip(whole.clients, sliced.clients, strict=True)):
        frames, got = (judged(without_chance(each.written), program) for each in (expected, found))
        if number in whole.lost:  # a client that has gone may miss what it was about to get
            frames = frames[: len(got)]
        assert got == frames


async def test_a_message_to_very_many_leaves_turns_to_others() -> None:
    async def send(node: Node) -> None:
        await node.send(Message(0, 1, "T"))
        for _ in range(MANY):
            await asyncio.sleep(0)

    with slices_of(19):
        assert max((await turns_of_writes(send)).values()) <= 1
    with slices_of(20, joined=0):
        assert list((await turns_of_writes(send)).values()) == [20]


async def test_a_node_that_stops_leaves_turns_to_others() -> None:
    with patch.object(fanout, "TURN", 0.0):
        assert max((await turns_of_writes(Node.stop)).values()) <= 1


async def test_a_bus_that_is_faster_than_the_node_fills_no_memory() -> None:
    node = Node()
    await node.start()
    transports = [Client() for _ in range(3)]
    for transport in transports:
        node.connect(transport, "/", {}, None)
    with slices_of(0, most=2, joined=1):
        for number in range(10):
            node.fanout.deliver(prepare(Message(0, number, "T"), "*"))
    assert [len(each.written) for each in transports] == [9, 9, 9]
    await node.stop()
    assert [len(each.written) for each in transports] == [12, 12, 12]


async def test_messages_to_everybody_of_one_turn_leave_in_one_write() -> None:
    """A stranger, a client of each wire, one that is excluded once, and one whose transport joins nothing."""
    world = await World.started()
    for number in range(5):
        world.connect(joins=number < 4)
    for client, wire in ((1, 1), (2, 2), (3, 2)):
        world.log_in(client, "b" if client == 3 else "a", wire)
    await world.turns(MANY)
    for _, each in world.clients:
        each.written.clear()
        each.writes.clear()
    for number in range(6):
        await world.dispatch(["*"], ["b"] if number == 2 else [], sync=number != 4)
    assert [each.written for _, each in world.clients] == [[]] * 5
    await world.turns(MANY)
    assert [each.writes for _, each in world.clients] == [[6], [6], [6], [1] * 5, [1] * 6]
    plain = [b'{"op":0,"d":%d,"t":"T"}' % n for n in range(1, 7)]
    places = (b',"b":1}', b',"b":2}', b',"b":3}', b',"b":4}', b"}", b',"b":5}')
    numbered = [body[:-1] + place for body, place in zip(plain, places, strict=True)]
    without = [frame for n, frame in enumerate(numbered) if n != 2]
    assert [each.written for _, each in world.clients] == [numbered, plain, numbered, without, numbered]
    subscription = world.clients[2][0].subscription
    assert subscription is not None
    subscription.congested()
    assert subscription.broadcasts_written is not None
    assert subscription.broadcasts_written.sequence == 5
    await world.node.stop()


async def test_what_has_begun_takes_no_further_message_and_is_written_once() -> None:
    node = Node()
    await node.start()
    clients = [Client(joins=True) for _ in range(3)]
    connections = [node.connect(client, "/", {}, None) for client in clients]
    for client in clients:
        client.written.clear()
    with slices_of(0):
        node.fanout.deliver(prepare(Message(0, 1), "*"))
        await asyncio.sleep(0)
        assert [len(client.written) for client in clients] == [1, 0, 0]
        node.fanout.deliver(prepare(Message(0, 2), "*"))
        connections[0].send(Message(0, 3))
        for _ in range(MANY):
            await asyncio.sleep(0)
    got = [[json.loads(frame)["d"] for frame in client.written] for client in clients]
    assert got == [[1, 2, 3], [1, 2], [1, 2]]
    await node.stop()


async def test_one_write_has_a_bounded_size_and_a_large_message_goes_alone() -> None:
    node = Node()
    await node.start()
    client = Client(joins=True)
    node.connect(client, "/", {}, None)
    client.writes.clear()
    most = send_queue.MAX_JOINED - len('{"op":0,"d":""}')
    for size in (*[2000] * 10, most, most + 1, 1, 1):
        node.fanout.deliver(prepare(Message(0, "x" * size), "*"))
    for _ in range(66):
        node.fanout.deliver(prepare(Message(0), "*"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert client.writes == [8, 2, 1, 1, 64, 4]
    await node.stop()


async def test_a_burst_to_the_same_ids_leaves_in_few_writes_and_in_its_order() -> None:
    """The first two are written at once, as a single message is; what goes to others ends a burst."""
    world = await World.started()
    for client, (id, wire) in enumerate((("a", 1), ("a", 2), ("b", 2))):
        world.connect(joins=True)
        world.log_in(client, id, wire)
    await world.turns(MANY)
    for _, each in world.clients:
        each.written.clear()
        each.writes.clear()

    async def send(recipients: list[str], count: int) -> None:
        for number in range(count):
            await world.dispatch(recipients, [], sync=number % 2 == 0)

    await send(["a"], 8)
    await send(["b"], 4)
    await send(["*"], 2)
    await send(["b"], 1)
    await world.turns(1)
    assert [each.writes for _, each in world.clients] == [[1, 1, 6], [1, 1, 6], [1, 3, 1, 1, 1]]
    await world.turns(MANY)
    numbers = [[json.loads(frame)["d"] for frame in each.written] for _, each in world.clients]
    assert numbers == [[*range(1, 9), 13, 14]] * 2 + [[*range(9, 16)]]
    before = world.count
    for _ in range(4):
        await world.dispatch(["a"], [], sync=False)
        await world.turns(1)
        assert json.loads(world.clients[0][1].written[-1])["d"] == world.count
    assert world.clients[0][1].writes[-4:] == [1] * 4
    assert world.count == before + 4
    await world.node.stop()


async def test_a_client_that_has_missed_a_message_to_everybody_reads_it_before_the_next() -> None:
    world = await World.started()
    world.connect()
    world.log_in(0, "a", 2)
    await world.turns(MANY)
    connection, client = world.clients[0]
    assert connection.subscription is not None
    client.written.clear()
    connection.subscription.invalidate_broadcasts()
    for _ in range(3):
        await world.dispatch(["*"], [], sync=True)
    await world.turns(MANY)
    assert [json.loads(frame)["b"] for frame in client.written] == [1, 2, 3]
    await world.node.stop()


def test_only_positions_that_follow_each_other_join() -> None:
    delivery = large_deliveries._Delivery(1, 1, None)
    places = [None, Position("e", 1), Position("e", 3), Position("f", 2)]
    assert [delivery.follows(each) for each in places] == [True] * 4
    delivery.add(lambda _: None, lambda: None, 1, Shared(b"", b"", Position("e", 2)))
    assert [delivery.follows(each) for each in places] == [True, False, True, False]


async def test_hooks_learn_of_each_message_of_a_burst_when_it_is_written() -> None:
    world, told = await World.started(), list[tuple[Any, int, int]]()
    world.connect()
    world.log_in(0, "a", 2)
    await world.turns(MANY)
    _, client = world.clients[0]
    client.written.clear()

    class Hook:
        def on_message_sent(self, message: Message, connections: Sequence[Connection], here: bool) -> None:
            told.append((message.data, len(connections), len(client.written)))

    world.node.use(Hook())
    await world.burst(["a"], [True] * 5)
    await world.turns(MANY)
    assert told == [(1, 1, 1), (2, 1, 2), (3, 1, 5), (4, 1, 5), (5, 1, 5)]
    for _ in range(2):
        await world.dispatch(["*"], [], sync=True)
    await world.turns(MANY)
    assert told[5:] == [(6, 1, 6), (7, 1, 7)]
    client.writes.clear()
    for _ in range(4):
        world.node.fanout.deliver(prepare(Message(0, "x" * send_queue.JOINED_BYTES), ["a"]))
    assert client.writes == [1] * 4, "large ones do not wait"
    await world.node.stop()


async def test_strangers_get_nothing_where_all_have_to_log_in() -> None:
    world = await World.started(authentication={"required": True})
    for _ in range(2):
        world.connect()
    world.log_in(1, "a", 2)
    await world.turns(MANY)
    written = [len(each.written) for _, each in world.clients]
    await world.dispatch(["*"], [], sync=False)
    await world.dispatch(["*"], [], sync=True)
    await world.turns(MANY)
    assert [len(each.written) for _, each in world.clients] == [written[0], written[1] + 2]
    assert world.clients[1][1].writes[-1] == 2
    await world.node.stop()
