"""The embedded inbox and that of Redis answer alike, whatever nodes and portals ask of them."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesa_ws.backend.base import Backend
from mesa_ws.backend.inbox import (
    Capacity,
    EventKind,
    InboxEvent,
    PortalConsumer,
    Step,
    WaitingEvent,
    weight_of,
)
from mesa_ws.backend.memory import MemoryBackend, MemoryHub, MemoryPortalConsumer, portal_consumer
from mesa_ws.backend.redis import RedisBackend, RedisPortalConsumer, inbox_commands
from tests.contract.test_same_answers import BOUNDED
from tests.redis_server import RedisServer

QUEUES = (0, 1)
PORTALS = 2
NODES = 2
ROOM = Capacity(4, 1 << 30)
"""Letters of a queue that is full."""


class Append(NamedTuple):
    """Something happens to a connection; `skip` 0 repeats what it said last."""

    node: int
    connection: int
    kind: EventKind
    skip: int


class Tend(NamedTuple):
    portal: int
    wanted: frozenset[int]
    stays: bool


class Settle(NamedTuple):
    """Steps about letters, the nth of all that were ever read, under tokens of now or of once.

    With each step its attempt, which may be one that was made before.
    """

    portal: int
    steps: tuple[tuple[str, int, int], ...]
    is_late: bool


class Raise(NamedTuple):
    """Revive or drop the nth dead letter and the one behind it."""

    do: str
    which: int


class Leave(NamedTuple):
    node: int


Action = Append | Tend | Settle | Raise | Leave

small = st.integers(0, 5)
kinds = st.sampled_from(("connection", "authentication", "message", "message", "disconnection"))
appends = st.builds(
    Append, st.integers(0, NODES - 1), st.integers(0, 2), kinds, st.sampled_from((1, 1, 1, 0))
)
tends = st.builds(
    Tend,
    st.integers(0, PORTALS - 1),
    st.sampled_from((frozenset(QUEUES), frozenset(QUEUES), frozenset({0}), frozenset({1}), frozenset())),
    st.sampled_from((True, True, True, False)),
)
steps = st.tuples(st.sampled_from(("begin", "done", "die", "reject")), small, small)
settles = st.builds(
    Settle,
    st.sampled_from((0, 0, 0, 1)),
    st.lists(steps, min_size=1, max_size=4).map(tuple),
    st.sampled_from((False, False, True)),
)
raises = st.builds(Raise, st.sampled_from(("revive", "drop")), st.sampled_from((0, 0, 1)))
leaves = st.builds(Leave, st.integers(0, NODES - 1))
actions = st.one_of(appends, appends, appends, tends, settles, settles, settles, raises, leaves)


START = [Append(node, connection, "connection", 1) for node in range(NODES) for connection in QUEUES]


class Office:
    """Nodes and portals over one kind of inbox, and what they say without the names of that kind."""

    def __init__(
        self, make: Callable[[], Backend], seat: Callable[[], PortalConsumer], stack: AsyncExitStack
    ):
        self._make, self._seat, self._stack = make, seat, stack
        self._nodes: list[Backend] = []
        self._portals: list[PortalConsumer] = []
        self._tokens: list[dict[int, int]] = [{} for _ in range(PORTALS)]
        self._late: list[dict[int, int]] = [{} for _ in range(PORTALS)]
        self._sequences: dict[str, int] = {}
        self._known: list[WaitingEvent] = []
        self._names: dict[str, str] = {}

    async def open(self) -> None:
        self._nodes = [await self._node() for _ in range(NODES)]
        self._portals = [self._seat() for _ in range(PORTALS)]
        for portal in self._portals:
            self._stack.push_async_callback(portal.aclose)

    async def do(self, action: Action) -> Any:
        match action:
            case Append():
                return await self._append(action)
            case Tend(portal, wanted, stays):
                self._late[portal] |= self._tokens[portal]
                found = await self._portals[portal].tend(wanted, stays=stays)
                self._tokens[portal] = dict(found.tokens)
                return sorted(map(self._name, found.portals)), dict(found.tokens)
            case Settle():
                return await self._settle(action)
            case Raise(do, which):
                dead = await self._portals[0].dead_letters(10)
                places = [each.offset for each in dead[which : which + 2]]
                return await getattr(self._portals[0], do)(places)
            case Leave(number):
                await self._nodes[number].aclose()
                self._nodes[number] = await self._node()
                return None

    async def look(self) -> Any:
        """What waits, what is dead, and how many were rejected."""
        found = await self._portals[0].read(dict.fromkeys(QUEUES, ""))
        known = {(waiting.event.partition, waiting.offset) for waiting in self._known}
        self._known += [each for each in found if (each.event.partition, each.offset) not in known]
        dead = await self._portals[0].dead_letters(100)
        # Those that end with their node do so in no order among each other.
        self._known.sort(key=lambda waiting: self._told(waiting.event))
        waiting = sorted((self._told(each.event) for each in found), key=lambda letter: letter[:2])
        buried = [(self._told(each.event), each.deliveries, each.reason) for each in dead]
        return waiting, buried, (await self._portals[0].backlog()).rejected

    async def _node(self) -> Backend:
        node = self._make()
        await node.open(lambda envelope: None)
        self._stack.push_async_callback(node.aclose)
        return node

    async def _append(self, action: Append) -> str:
        node = self._nodes[action.node]
        name = f"{node.node_id}.{action.connection}"
        sequence = self._sequences[name] = self._sequences.get(name, 1) + action.skip
        id = "alice" if action.connection else None
        partition = QUEUES[action.connection % len(QUEUES)]
        data = b'[1000,""]' if action.kind == "disconnection" else b"{}"
        letter = InboxEvent(name, partition, str(sequence), action.kind, id, node.node_id, data)
        return await node.append(letter, ROOM)

    async def _settle(self, action: Settle) -> list[int]:
        if not self._known:
            return []
        tokens = (self._late if action.is_late else self._tokens)[action.portal]
        planned = []
        for what, which, attempt in action.steps:
            waiting = self._known[-1 - which % len(self._known)]
            partition = waiting.event.partition
            letter = (waiting.offset, waiting.event.connection_id, weight_of(waiting.event.data))
            step = Step(partition, tokens.get(partition, 99), what, *letter, attempt, "why")  # type: ignore[arg-type]
            planned.append(step)
        return await self._portals[action.portal].settle(planned)

    def _told(self, letter: InboxEvent) -> Any:
        node, _, connection = letter.connection_id.rpartition(".")
        assert node == letter.node
        return letter._replace(connection_id=connection, node=self._name(node))

    def _name(self, random: str) -> str:
        """Names of nodes and portals, for the order in which they were met."""
        everybody = [each.node_id for each in self._nodes] + [each.portal_id for each in self._portals]
        for each in everybody:
            self._names.setdefault(each, f"{len(self._names)}")
        return self._names[random]


async def answer_alike(redis_url: str, script: list[Action]) -> None:
    """Carry out `script` on both, and compare what they say after every action."""
    hub, namespace = MemoryHub(), f"test-{uuid4().hex}"
    async with AsyncExitStack() as stack:
        offices = (
            Office(
                lambda: MemoryBackend(hub, namespace=namespace),
                lambda: MemoryPortalConsumer(hub, namespace=namespace),
                stack,
            ),
            Office(
                lambda: RedisBackend(redis_url, namespace=namespace, lease=60.0),
                lambda: RedisPortalConsumer(redis_url, namespace=namespace, lease=60.0),
                stack,
            ),
        )
        for office in offices:
            await office.open()
        for action in (Tend(0, frozenset(QUEUES), stays=True), *START, *script):
            answers = [await office.do(action) for office in offices]
            assert answers[0] == answers[1], f"memory, then redis; to {action!r}"
            views = [await office.look() for office in offices]
            assert views[0] == views[1], f"memory, then redis; after {action!r}"


@pytest.mark.timeout(300)  # to find the shortest script that fails takes longer than to find one
def test_both_inboxes_answer_alike(either_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (portal_consumer, inbox_commands):
        monkeypatch.setattr(module, "WAIT", 0.001)

    @BOUNDED
    @given(st.lists(actions, min_size=8, max_size=40))
    def alike(script: list[Action]) -> None:
        asyncio.run(answer_alike(either_redis.url, script))

    alike()
