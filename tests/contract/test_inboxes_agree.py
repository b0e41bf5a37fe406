"""The embedded inbox and that of Redis give the same answers to random actions of nodes and portals."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec
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
)
from mesa_ws.backend.memory import MemoryBackend, MemoryHub, MemoryPortalConsumer, portal_consumer
from mesa_ws.backend.redis import RedisBackend, RedisPortalConsumer
from mesa_ws.backend.redis import portal_consumer as redis_consumer
from tests.contract.test_backends_agree import BOUNDED
from tests.redis_server import RedisServer

QUEUES = (0, 1)
PORTALS = 2
NODES = 2
CAPACITY = Capacity(4, 1 << 30)
"""Events of a queue that is full."""


class Append(NamedTuple):
    """Append an event of a connection; `skip` 0 repeats its last sequence."""

    node: int
    connection: int
    kind: EventKind
    skip: int


class Tend(NamedTuple):
    portal: int
    wanted: frozenset[int]
    stays: bool


class Settle(NamedTuple):
    """Settle the nth of all events that were ever read, with current or with earlier tokens.

    Each step has its attempt, which may repeat an earlier one.
    """

    portal: int
    steps: tuple[tuple[str, int, int], ...]
    is_late: bool


class Raise(NamedTuple):
    """Revive or drop the nth dead letter and the one after it."""

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
heartbeats = st.builds(
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
actions = st.one_of(appends, appends, appends, heartbeats, settles, settles, settles, raises, leaves)


START = [Append(node, connection, "connection", 1) for node in range(NODES) for connection in QUEUES]


class NormalizedInbox:
    """Nodes and portals at one kind of inbox; random names in their answers are replaced by numbers."""

    def __init__(
        self, make: Callable[[], Backend], make_portal: Callable[[], PortalConsumer], stack: AsyncExitStack
    ):
        self._make_node, self._make_portal, self._stack = make, make_portal, stack
        self._nodes: list[Backend] = []
        self._portals: list[PortalConsumer] = []
        self._tokens: list[dict[int, int]] = [{} for _ in range(PORTALS)]
        self._late: list[dict[int, int]] = [{} for _ in range(PORTALS)]
        self._sequences: dict[str, int] = {}
        self._known: list[WaitingEvent] = []
        self._names: dict[str, str] = {}

    async def open(self) -> None:
        self._nodes = [await self._node() for _ in range(NODES)]
        self._portals = [self._make_portal() for _ in range(PORTALS)]
        for portal in self._portals:
            self._stack.push_async_callback(portal.aclose)

    async def do(self, action: Action) -> Any:
        match action:
            case Append():
                return await self._append(action)
            case Tend(portal, wanted, stays):
                self._late[portal] |= self._tokens[portal]
                found = await self._portals[portal].heartbeat(wanted, stays=stays)
                self._tokens[portal] = dict(found.tokens)
                return sorted(map(self._name, found.portals)), dict(found.tokens)
            case Settle():
                return await self._settle(action)
            case Raise(do, which):
                dead = await self._portals[0].dead_letters(10)
                offsets = [each.offset for each in dead[which : which + 2]]
                return await getattr(self._portals[0], do)(offsets)
            case Leave(number):
                await self._nodes[number].aclose()
                self._nodes[number] = await self._node()
                return None

    async def look(self) -> Any:
        """Return the waiting events, the dead letters, and how many events were rejected."""
        found = await self._portals[0].read(dict.fromkeys(QUEUES, ""))
        known = {(waiting.event.partition, waiting.offset) for waiting in self._known}
        self._known += [each for each in found if (each.event.partition, each.offset) not in known]
        dead = await self._portals[0].dead_letters(100)
        # Connections that end with their node end in no particular order.
        self._known.sort(key=lambda waiting: msgspec.structs.astuple(self._normalized(waiting.event)))
        waiting = [self._normalized(each.event) for each in found]
        waiting.sort(key=lambda event: (event.connection_id, event.partition))
        dead_letters = [(self._normalized(each.event), each.deliveries, each.reason) for each in dead]
        return waiting, dead_letters, (await self._portals[0].backlog()).rejected

    async def _node(self) -> Backend:
        node = self._make_node()
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
        network = "" if id else "198.51.100.7"
        event = InboxEvent(name, partition, str(sequence), action.kind, id, node.node_id, data, network)
        return await node.append(event, CAPACITY)

    async def _settle(self, action: Settle) -> list[int]:
        if not self._known:
            return []
        tokens = (self._late if action.is_late else self._tokens)[action.portal]
        planned = []
        for what, which, attempt in action.steps:
            waiting = self._known[-1 - which % len(self._known)]
            partition = waiting.event.partition
            details = (waiting.offset, waiting.event.account, waiting.event.weight)
            step = Step(partition, tokens.get(partition, 99), what, *details, attempt, "why")  # type: ignore[arg-type]
            planned.append(step)
        return await self._portals[action.portal].settle(planned)

    def _normalized(self, event: InboxEvent) -> Any:
        node, _, connection = event.connection_id.rpartition(".")
        assert node == event.node
        return msgspec.structs.replace(event, connection_id=connection, node=self._name(node))

    def _name(self, random: str) -> str:
        """Number a node or a portal in the order of first appearance."""
        members = [each.node_id for each in self._nodes] + [each.portal_id for each in self._portals]
        for each in members:
            self._names.setdefault(each, f"{len(self._names)}")
        return self._names[random]


async def answer_alike(redis_url: str, script: list[Action]) -> None:
    """Run `script` on both inboxes, and compare their answers after every action."""
    hub, namespace = MemoryHub(), f"test-{uuid4().hex}"
    async with AsyncExitStack() as stack:
        inboxes = (
            NormalizedInbox(
                lambda: MemoryBackend(hub, namespace=namespace),
                lambda: MemoryPortalConsumer(hub, namespace=namespace),
                stack,
            ),
            NormalizedInbox(
                lambda: RedisBackend(redis_url, namespace=namespace, lease=60.0),
                lambda: RedisPortalConsumer(redis_url, namespace=namespace, lease=60.0),
                stack,
            ),
        )
        for inbox in inboxes:
            await inbox.open()
        for action in (Tend(0, frozenset(QUEUES), stays=True), *START, *script):
            answers = [await inbox.do(action) for inbox in inboxes]
            assert answers[0] == answers[1], f"memory, then redis; to {action!r}"
            views = [await inbox.look() for inbox in inboxes]
            assert views[0] == views[1], f"memory, then redis; after {action!r}"


@pytest.mark.timeout(300)  # hypothesis may need minutes to shorten a failing script
def test_both_inboxes_answer_alike(either_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (portal_consumer, redis_consumer):
        monkeypatch.setattr(module, "WAIT", 0.001)

    @BOUNDED
    @given(st.lists(actions, min_size=8, max_size=40))
    def alike(script: list[Action]) -> None:
        asyncio.run(answer_alike(either_redis.url, script))

    alike()
