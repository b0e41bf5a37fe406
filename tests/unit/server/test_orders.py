"""What a node does with the orders to all nodes, whenever it learns of them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mesa_ws import BackendUnavailable, Connection, Message, User
from mesa_ws.backend.memory import MemoryBackend
from mesa_ws.backend.outbox import Entry, Page, PageStatus, Standing
from mesa_ws.close import CloseCode
from mesa_ws.errors import MesaError
from mesa_ws.messages.envelope import Envelope, Kind, prepare
from mesa_ws.messages.order import Order, prepare_order
from mesa_ws.messages.receipt import Position
from mesa_ws.server import orders as module
from mesa_ws.server.node import Node
from tests.system.server.peer import LIMIT
from tests.unit.server.test_large_deliveries import Client, slices_of


class Log(MemoryBackend):
    """Keeps orders that reach a node only where a test passes them on.

    Attributes:
        epoch: of the orders.
        given: the orders of this epoch, by their numbers.
        forks: epochs before this one, and where each ended.
        first: the oldest that is kept.
        gate: reads of orders wait for it.
        failures: raised by the next reads.
        noted: what the node has carried out.
        revoked: id -> until when.
        is_read: called at the end of each `attach`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.epoch = "A"
        self.given: dict[int, Order | None] = {}
        self.forks: dict[str, int] = {}
        self.first = 1
        self.gate = asyncio.Event()
        self.gate.set()
        self.reads = 0
        self.failures: list[Exception] = []
        self.noted: list[Position] = []
        self.revoked: dict[str, float] = {}
        self.logins = asyncio.Event()
        self.logins.set()

    @property
    def top(self) -> int:
        return max(self.given, default=0)

    def give(self, ids: str, code: int = 4100, **options: Any) -> Envelope:
        """Give an order, and return the envelope in which the bus brings it."""
        order = prepare_order(ids.split(), code, "", **options) if ids else Order((), code)
        self.given[self.top + 1] = order
        return replace(order.envelope(), positions=(Position(self.epoch, self.top),))

    def fork(self, epoch: str, kept: int) -> None:
        """Go on in another epoch, after so many of the orders."""
        self.given = {n: order for n, order in self.given.items() if n <= kept}
        self.forks, self.epoch = {self.epoch: kept}, epoch

    async def orders(self, position: Position | None) -> Page:
        self.reads += 1
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop()
        if position is None:
            return Page("fresh", self.epoch, self.top, self.top, 0)
        ended = self.forks.get(position.epoch)
        if position.epoch != self.epoch and ended is None:
            return Page("reset", self.epoch, self.top, self.top, 0)
        wanted = position.sequence if ended is None else min(position.sequence, ended)
        start = max(wanted, self.first - 1)
        entries = tuple(
            Entry(n, "", b"?" if order is None else order.envelope().body)
            for n, order in self.given.items()
            if n > start
        )
        status: PageStatus = "resumed" if ended is None else "forked"
        return Page(status, self.epoch, start, self.top, start - wanted, entries, ended)

    async def standing(self, id: str) -> Standing:
        await self.logins.wait()
        newest = Position(self.epoch, self.top) if self.top else None
        return Standing(self.revoked.get(id), newest)

    def carried_out(self, position: Position) -> None:
        self.noted.append(position)


class World:
    """A node with clients."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.node = Node(log, sync=True)

        @self.node.authenticator
        async def authenticate(data: dict[str, Any], _: Connection) -> User:
            return User(data["id"], issued_at=data.get("iat"), expires_at=data.get("exp"))

    @property
    def orders(self) -> module.OrderFollower:
        return self.node.fanout.orders

    def connect(self) -> tuple[Connection, Client]:
        transport = Client()
        return self.node.connect(transport, "/", {}, None), transport

    async def log_in(self, id: str, **claims: Any) -> tuple[Connection, Client]:
        each, transport = self.connect()
        self.ask(each, id, **claims)
        await until(lambda: not each.is_open or (each.is_authenticated and not each.is_logging_in))
        return each, transport

    def ask(self, connection: Connection, id: str, wire: int = 2, **claims: Any) -> None:
        extension = {"x": {"v": 2}} if wire == 2 else {}
        connection.receive(json.dumps({"op": 2, "d": {"id": id, **claims}, **extension}).encode())

    def message(self, data: object, recipients: Any = "*", kind: Kind = "message") -> None:
        self.node.fanout.deliver(replace(prepare(Message(0, data), recipients), kind=kind))

    def arrive(self, envelope: Envelope) -> None:
        self.node.fanout.deliver(envelope)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT):
        while not holds():
            await asyncio.sleep(0)


async def turns(count: int = 50) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def got(client: Client) -> list[object]:
    """Return the data of the messages that a client got, and the code with which it was closed."""
    found: list[object] = []
    for frame in client.written:
        if frame.startswith(b"close"):
            found.append(int(frame.split()[1]))
        elif (read := json.loads(frame))["op"] == 0:
            found.append(read["d"])
    return found


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(module, "RETRY", 0.0)
    world = World(Log())
    await world.node.start()
    yield world
    world.log.gate.set()
    world.log.logins.set()
    await world.node.stop()


async def test_an_order_ends_connections_of_its_ids_between_the_messages_before_and_after_it(
    world: World,
) -> None:
    clients = [await world.log_in(id) for id in ("1", "1", "2")]
    with slices_of(0):  # the first message waits for each client in a slice
        world.message("before")
        world.arrive(world.log.give("1 away"))
        world.message("after")
        await turns()
    assert [got(client) for _, client in clients] == [["before", 4100], ["before", 4100], ["before", "after"]]
    assert world.log.noted[-1] == ("A", 1)


async def test_an_order_for_all_connections_spares_some_ids(world: World) -> None:
    (_, guest), (_, one), (_, two) = world.connect(), await world.log_in("1"), await world.log_in("2")
    order = Order((), 4100, excluding=("2",))
    world.log.given[1] = order
    world.arrive(replace(order.envelope(), positions=(Position("A", 1),)))
    assert [got(each) for each in (guest, one, two)] == [[4100], [4100], []]


async def test_in_doubt_orders_are_read_before_anything_is_delivered(world: World) -> None:
    (_, gone), (_, stays) = await world.log_in("1"), await world.log_in("2")
    world.log.give("1")
    world.log.gate.clear()
    world.log.failures = [ValueError("a bug"), BackendUnavailable("away")]
    world.orders.doubt()
    world.message(1)
    await world.node.backend.dispatch([prepare(Message(0, 2), ["1", "2"], retention=world.node._retention)])
    await turns()
    assert got(gone) == got(stays) == []
    world.log.gate.set()
    await until(lambda: len(got(stays)) == 2)
    assert (got(gone), got(stays), world.log.reads) == ([4100], [1, 2], 4)
    await until(lambda: world.orders.waiting is None)


async def test_a_doubt_while_orders_are_read_has_them_read_again(world: World) -> None:
    _, gone = await world.log_in("1")
    read = world.log.orders

    async def late(position: Position | None) -> Page:
        page = await read(position)
        if not world.log.given:
            world.log.give("1")  # after the first page was read
            world.orders.doubt()
        return page

    world.log.orders = late  # type: ignore[method-assign]
    world.orders.doubt()
    world.message(1)
    await until(lambda: got(gone) != [])
    assert (got(gone), world.log.reads) == ([4100], 3)


async def test_an_event_that_waits_ends_no_client_that_came_back_after_its_order(world: World) -> None:
    _, gone = await world.log_in("1")
    world.log.gate.clear()
    world.orders.doubt()
    order = world.log.give("1")
    world.arrive(order)  # it does not wait
    assert got(gone) == [4100]
    (_, back), (_, other) = await world.log_in("1"), await world.log_in("2")
    for id, message_id in (("1", order.message_id), ("2", "of an older dispatcher")):
        event = replace(prepare(Message(0), [id]), kind="disconnect", message_id=message_id)
        world.arrive(event)
    assert got(other) == []
    world.log.gate.set()
    await until(lambda: got(other) != [])
    assert (got(back), got(other)) == ([], [1000])


@pytest.mark.parametrize("limit", ["MAX_WAITING", "MAX_WAITING_BYTES"])
async def test_what_is_beyond_the_limits_of_waiting_is_reported_to_the_backend(
    world: World, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    _, client = await world.log_in("1")
    size = len(prepare(Message(0, 1)).body)
    monkeypatch.setattr(module, limit, 2 if limit == "MAX_WAITING" else 2 * size)
    world.log.gate.clear()
    for _ in range(2):  # the second time as the first one: nothing is counted twice
        world.orders.doubt()
        world.message(1)
        world.message(2)
        with pytest.raises(MesaError, match="too many messages wait"):
            world.message(3)
        world.log.gate.set()
        await until(lambda: world.orders.waiting is None)
        world.log.gate.clear()
    assert got(client) == [1, 2, 1, 2]


async def test_a_message_that_fails_keeps_no_later_one_back(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, client = await world.log_in("1")
    world.log.gate.clear()
    world.orders.doubt()
    world.arrive(replace(prepare(Message(0, 1)), positions=(Position("A", 1),) * 2))
    world.message(2)
    monkeypatch.setattr(module, "TURN", -1.0)  # a slice of none: those that come now wait behind
    world.log.gate.set()
    await turns()
    monkeypatch.setattr(module, "TURN", 1.0)
    await until(lambda: world.orders.waiting is None)
    assert got(client) == [2]
    assert "was not delivered" in caplog.text


async def test_an_order_behind_a_gap_or_of_another_epoch_has_those_before_read(world: World) -> None:
    _, gone = await world.log_in("1")
    world.log.give("1")
    behind = world.log.give("3")
    world.arrive(behind)
    world.message(1)
    await turns()
    assert got(gone) == [4100]
    reads = world.log.reads
    world.arrive(behind)  # again
    await turns()
    assert world.log.reads == reads
    _, gone = await world.log_in("1")
    world.log.fork("B", 2)
    world.arrive(world.log.give("1"))
    world.message(1)
    await turns()
    assert got(gone) == [4100]


@pytest.mark.parametrize("is_dropped", [False, True])
async def test_a_node_whose_place_is_gone_ends_all_clients_before_it_delivers(
    world: World, is_dropped: bool, caplog: pytest.LogCaptureFixture
) -> None:
    clients = [world.connect()[1], (await world.log_in("1"))[1]]
    world.arrive(world.log.give("away"))
    for _ in range(2):
        world.log.give("away")
    if is_dropped:
        world.log.first = 3
    else:
        world.log.epoch = "B"
    with slices_of(0):
        world.orders.doubt()
        world.message(1)
        await turns()
    assert [got(client) for client in clients] == [[CloseCode.EXPIRED]] * 2
    assert "orders to all nodes were lost" in caplog.text
    _, client = await world.log_in("1")
    world.orders.doubt()
    await turns()
    assert got(client) == []


async def test_nothing_is_lost_where_there_never_was_an_order(world: World) -> None:
    _, client = await world.log_in("1")
    world.log.epoch = "B"
    world.orders.doubt()
    world.message(1)
    await turns()
    assert got(client) == [1]
    world.arrive(world.log.give("1"))
    assert got(client) == [1, 4100]


async def test_a_login_after_an_order_stays_also_when_a_replica_has_taken_over(world: World) -> None:
    for _ in range(3):
        world.log.give("1")
    _, after = await world.log_in("1")
    world.log.fork("B", 2)  # the node reads two of them in another epoch
    world.orders.doubt()
    await turns()
    assert got(after) == []
    assert world.log.noted[-1] == ("B", 2)
    world.arrive(world.log.give("1"))  # under the number of the one that is lost
    assert got(after) == [4100]


async def test_an_order_during_a_login_waits_until_it_is_known_which_was_first(world: World) -> None:
    world.log.logins.clear()
    clients = []
    for id in ("1", "2"):
        each, client = world.connect()
        world.ask(each, id)
        clients.append(client)
    await until(lambda: "2" in world.node.fanout.by_id)
    world.arrive(world.log.give("1"))
    world.log.logins.set()
    await turns()
    world.message(1)
    await turns()
    assert [got(client) for client in clients] == [[1], [1]]  # the login was later
    world.log.logins.clear()
    each, client = world.connect()
    world.ask(each, "1")
    await until(lambda: len(world.node.fanout.by_id["1"]) == 2)
    newer, older = world.log.give("1"), world.log.given.pop(2)
    world.arrive(newer)
    world.message(2, ["1"])
    world.log.logins.set()
    await turns()
    assert (got(clients[0]), got(client), older) == ([1, 4100], [4100], Order(("1",), 4100))


async def test_a_revoked_login_is_refused_and_gets_nothing_that_came_during_it(world: World) -> None:
    world.log.revoked = {"1": 100.0}
    world.log.logins.clear()
    found = []
    tokens: list[dict[str, Any]] = [{"iat": 100.9}, {}, {"iat": 101.0}]
    for claims in tokens:
        each, client = world.connect()
        world.ask(each, "1", **claims)
        found.append(client)
    await until(lambda: len(world.node.fanout.by_id.get("1", ())) == 3)
    world.message("late", ["1"])
    world.log.logins.set()
    await turns()
    assert [got(client) for client in found] == [[1008], [1008], ["late"]]


async def test_a_login_again_is_held_against_revocations_and_keeps_its_place_among_orders(
    world: World,
) -> None:
    for wire in (1, 2):
        each, client = await world.log_in("1", iat=50.0)
        world.log.give("1")  # which the node has not heard of
        world.ask(each, "1", wire=wire, iat=60.0)
        await turns()
        assert each.user is not None
        assert each.user.issued_at == 60.0
        world.orders.doubt()
        await turns()
        assert got(client) == [4100]
    each, client = await world.log_in("1", iat=150.0)
    world.log.revoked = {"1": 100.0}
    world.ask(each, "1", iat=90.0)
    await turns()
    assert got(client) == [1008]
    each, client = await world.log_in("1", iat=150.0)
    world.log.logins.clear()
    world.ask(each, "1", iat=151.0)
    await turns()
    each.update_user(User("2"))  # while it is asked whether the login is revoked
    world.log.logins.set()
    await until(lambda: "1" in world.node.fanout.by_id)
    world.message(1, ["1"])
    assert got(client) == [1]


async def test_another_id_of_a_connection_begins_among_the_orders_as_a_login_does(world: World) -> None:
    each, client = await world.log_in("1")
    world.log.give("2")
    each.update_user(User("2"))
    await turns()
    world.orders.doubt()
    await turns()
    assert got(client) == []
    world.log.revoked = {"3": 100.0}
    each.update_user(User("3", issued_at=99.0))
    world.message("late", ["3"])
    await turns()
    assert got(client) == [1008]


async def test_a_revocation_ends_older_logins_alone_and_an_order_that_cannot_be_read_none(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    (_, older), (_, newer) = await world.log_in("1", iat=100), await world.log_in("1", iat=101)
    world.arrive(world.log.give("1", 1008, issued_before=100.5))
    assert (got(older), got(newer)) == ([1008], [])
    world.log.given[2] = None
    world.orders.doubt()
    await turns()
    assert (got(newer), world.log.noted[-1]) == ([], ("A", 2))
    assert "cannot be read" in caplog.text


async def test_what_is_read_waits_for_the_orders_that_were_given_before(world: World) -> None:
    _, gone = await world.log_in("1")
    await world.orders.settled(Position("A", 0))
    assert world.log.reads == 1
    world.log.give("1")
    await world.orders.settled(Position("A", 1))
    assert got(gone) == [4100]
    world.log.gate.clear()
    world.orders.doubt()
    waiting = asyncio.ensure_future(world.orders.settled())
    await turns()
    assert not waiting.done()
    world.log.gate.set()
    await waiting


async def test_a_login_that_expired_while_the_machine_slept_gets_nothing_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    (_, slept), (_, lasts) = await world.log_in("1", exp=now + 60), await world.log_in("1", exp=now + 7200)
    monkeypatch.setattr(time, "time", lambda: now + 3600)  # the clock of the event loop did not go on
    world.orders.doubt()
    world.message(1)
    await turns()
    assert (got(slept), got(lasts)) == ([CloseCode.EXPIRED], [1])


class Program:
    """Steps of a cluster and of a node that misses some of what the bus brings, as a channel notices it.

    Attributes:
        sent: number, recipients and whether it arrived of each message, by how many orders were given before.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.orders: list[str] = []
        self.sent: list[tuple[int, str, int, bool]] = []
        self.clients: list[tuple[str, int, int, Client]] = []
        self.is_missing = False

    async def log_in(self, id: str) -> None:
        here = self.world.orders._reader.position
        if here is None or "" in self.orders[here.sequence :]:
            return  # an order for all would end a client before its login, which cannot be told from a guest
        self.clients.append((id, len(self.orders), len(self.sent), (await self.world.log_in(id))[1]))

    async def order(self, id: str, arrives: bool) -> None:
        self.orders.append(id)
        self._bring(self.world.log.give(id), arrives=arrives)

    async def message(self, id: str, arrives: bool) -> None:
        self.sent.append((len(self.sent), id, len(self.orders), arrives))
        self._bring(prepare(Message(0, len(self.sent) - 1), [id or "*"]), arrives=arrives)

    async def fork(self) -> None:
        log, here = self.world.log, self.world.orders._reader.position
        if here is not None and here.epoch == log.epoch:  # not twice before the node has read
            log.fork(f"{log.epoch}'", log.top)

    async def hold(self) -> None:
        self.world.log.gate.clear()

    async def go_on(self) -> None:
        self.world.log.gate.set()
        await turns(10)

    async def turn(self) -> None:
        await asyncio.sleep(0)

    async def end(self) -> None:
        self.world.log.gate.set()
        self.world.orders.doubt()
        await until(lambda: self.world.orders.waiting is None)

    def _bring(self, envelope: Envelope, *, arrives: bool) -> None:
        if arrives and self.is_missing:
            self.world.orders.doubt()  # the counters of frames have a gap
        self.is_missing = not arrives
        if arrives:
            self.world.arrive(envelope)

    def expected(self, id: str, orders: int, sent: int) -> list[object]:
        """Return all that a client may get, from the numbers of orders and messages before its login."""
        ends = next((n for n, each in enumerate(self.orders) if n >= orders and each in ("", id)), None)
        got: list[object] = [
            n
            for n, to, after, arrived in self.sent
            if n >= sent and to in ("", id) and arrived and (ends is None or after <= ends)
        ]
        return got if ends is None else [*got, 4100]


one = st.sampled_from(("1", "2", ""))
STEPS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "log_in": {"id": st.sampled_from(("1", "2"))},
    "order": {"id": one, "arrives": st.booleans()},
    "message": {"id": one, "arrives": st.booleans()},
    "fork": {},
    "hold": {},
    "go_on": {},
    "turn": {},
}
steps = st.sampled_from((*STEPS, "log_in", "message", "message")).flatmap(
    lambda name: st.tuples(st.just(name), st.fixed_dictionaries(STEPS[name]))
)


@settings(derandomize=True)
@given(st.lists(steps, min_size=4, max_size=30), st.sampled_from((0, 100)))
def test_whatever_a_node_misses_its_clients_get_nothing_that_is_later_than_their_order(
    program: list[tuple[str, dict[str, Any]]], at_once: int
) -> None:
    async def run() -> None:
        world = World(Log())
        await world.node.start()
        steps = Program(world)
        try:
            for name, details in program:
                await getattr(steps, name)(**details)
            await steps.end()
            await turns()
            for id, orders, sent, client in steps.clients:
                found, allowed = got(client), steps.expected(id, orders, sent)
                assert (found[-1:] == [4100]) == (allowed[-1:] == [4100])
                if 4100 not in found:  # some may have waited since before the login
                    assert [each for each in found if int(str(each)) >= sent] == allowed
                else:  # of what waited until the order was read, nothing is written to a client that it ends
                    assert [each for each in allowed if each in found] == [
                        each for each in found if int(str(each)) >= sent
                    ]
        finally:
            await world.node.stop()

    with slices_of(at_once), patch.object(module, "RETRY", 0.0):
        asyncio.run(run())


async def test_a_node_that_stops_reads_no_orders_and_keeps_nothing(world: World) -> None:
    _, client = await world.log_in("1")
    world.log.gate.clear()
    world.orders.doubt()
    world.message(1)
    waiting = asyncio.ensure_future(world.orders.settled())
    await turns()
    world.node.fanout.close()
    await waiting
    await turns()
    assert world.orders._worker is None
    reads = world.log.reads
    world.orders.doubt()
    world.log.gate.set()
    await turns()
    assert (world.log.reads, world.orders.waiting, got(client)) == (reads, None, [1001])
    await world.node.stop()
    await world.node.start()  # again, after which it follows the orders as before
    _, gone = await world.log_in("1")
    world.log.give("1")
    world.orders.doubt()
    await turns()
    assert got(gone) == [4100]
