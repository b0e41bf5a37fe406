"""A Redis, nodes that faults concern, one that they do not, and clients that stay all the time."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

from websockets.exceptions import WebSocketException

from mesa_ws import AsyncDispatcher, BackendError, MesaError, Message
from mesa_ws.settings import Durability
from tests.faults.chaos.journal import Journal
from tests.faults.chaos.program import Program
from tests.faults.failovers.redises import Redises
from tests.redis_server import RedisServer

from .clients import LIMIT, Label, Listener, Login, Ours, Socket
from .gate import Gate

AOF = ("--appendonly", "yes", "--appendfsync", "always")

NAMESPACE = "orders"

EVERYBODY = "*"

T = TypeVar("T")


class Node(NamedTuple):
    """A node, and the ids of its clients.

    Attributes:
        number: its number, with which its messages are labelled.
        url: where clients connect.
        node_id: its id in receipts.
        ordered: ids that orders concern.
        staying: ids that they never concern.
        gate: proxy to Redis, if it has one.
    """

    number: int
    url: str
    node_id: str
    ordered: tuple[str, ...]
    staying: tuple[str, ...]
    gate: Gate | None


class Site:
    """All parts of a run.

    Attributes:
        redis: the Redis; None behind Sentinels.
        redises: a master, replicas and Sentinels; None without them.
        home: a node that faults do not concern.
        nodes: those that they do.
        program: the process of `nodes`.
        bystanders: clients that stay all the time, of each node.
        sent: stored messages that were confirmed.
        number: of the newest message.
    """

    redis: RedisServer | None = None
    redises: Redises | None = None
    dispatcher: AsyncDispatcher
    home: Node
    program: Program

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.bystanders: dict[int, list[Listener]] = {}
        self.sent: list[Label] = []
        self.number = 0
        self._unstored: AsyncDispatcher

    @classmethod
    @asynccontextmanager
    async def standing(
        cls, folder: Path, release: str, lease: float, count: int, *, sentinels: bool = False
    ) -> AsyncIterator[Self]:
        """Run everything until the end of the context."""
        site = cls()
        async with AsyncExitStack() as stack:
            if sentinels:
                redises = Redises(folder, release, *("--min-replicas-to-write", "1"), down_after=2.0)
                site.redises = await stack.enter_async_context(redises.running())
                url, urls = redises.url, [redises.url] * count
                gates: list[Gate | None] = [None] * count
            else:
                site.redis = RedisServer(folder, *AOF, release=release)
                stack.callback(site.redis.stop)
                await asyncio.to_thread(site.redis.start)
                url = site.redis.url
                gates = [await stack.enter_async_context(Gate.to(site.redis.port)) for _ in range(count)]
                urls = [f"redis://127.0.0.1:{gate.port}" for gate in gates if gate is not None]
            programs = []
            for name, some in (("home", [url]), ("nodes", urls)):
                command = [sys.executable, "-m", "tests.faults.orders.nodes", NAMESPACE, str(lease), *some]
                programs.append(await stack.enter_async_context(Program(name, command, folder).running()))
            site.program = programs[1]
            [site.home] = await _nodes(programs[0], [None])
            site.nodes = await _nodes(site.program, gates)
            for sync in (True, False):
                each = AsyncDispatcher(url, namespace=NAMESPACE, sync=sync)
                site._take(await stack.enter_async_context(each), sync=sync)
            for node in site.nodes:
                site.bystanders[node.number] = [
                    await site.join(node, Login(id, 0.0, wire), ours=wire == 2)
                    for id, wire in zip(node.staying, (1, 2), strict=True)
                ]
                for bystander in site.bystanders[node.number]:
                    stack.push_async_callback(bystander.leave)
            yield site
            assert [each.starts for each in programs] == [1, 1], "a node has ended"

    def _take(self, dispatcher: AsyncDispatcher, *, sync: bool) -> None:
        if sync:
            self.dispatcher = dispatcher
        else:
            self._unstored = dispatcher

    @property
    def ids(self) -> set[str]:
        """All ids."""
        return {id for node in self.nodes for id in (*node.ordered, *node.staying)}

    async def join(self, node: Node, login: Login, *, ours: bool = False) -> Listener:
        """Log in at a node, repeatedly while it cannot be done; `code` is set if the login was refused."""
        kind: Callable[[str, Login], Awaitable[Listener]] = Ours.join if ours else Socket.join
        async with asyncio.timeout(LIMIT):
            while True:
                with suppress(MesaError, WebSocketException, OSError):
                    listener = await kind(node.url, login)
                    listener.since = self.number
                    if listener.code in {None, 1008}:
                        return listener
                await asyncio.sleep(0.1)

    async def say(self, node: Node, key: str, *, stored: bool) -> None:
        """Dispatch a message: stored ones until they are confirmed, others once."""
        self.number += 1
        label = Label(key, node.number, self.number, stored)
        recipients = {EVERYBODY: (EVERYBODY,), ordered(node): node.ordered, staying(node): node.staying}[key]
        message = Message(0, label)
        if not stored:
            with suppress(BackendError):
                await self._unstored.dispatch(message, recipients)
            return
        durability: Durability = "memory" if self.redises is None else "replicated"
        name = f"message-{label.number}"
        await insist(
            lambda: self.dispatcher.dispatch(message, recipients, idempotency_key=name, durability=durability)
        )
        self.sent.append(label)


def ordered(node: Node) -> str:
    """Return the key of messages to the ids that orders concern."""
    return f"ordered-{node.number}"


def staying(node: Node) -> str:
    """Return the key of messages to the ids that stay."""
    return f"staying-{node.number}"


async def insist(call: Callable[[], Awaitable[T]]) -> T:
    """Call until the backend answers."""
    async with asyncio.timeout(LIMIT):
        while True:
            try:
                return await call()
            except BackendError:
                await asyncio.sleep(0.05)


async def _nodes(program: Program, gates: list[Gate | None]) -> list[Node]:
    journal = Journal(program.log)
    found: list[Node] = []
    async with asyncio.timeout(LIMIT):
        while len(found) < len(gates):
            await asyncio.sleep(0.05)
            for kind, url, node_id in journal.news():
                assert kind == "up"
                number = len(found)
                names = [f"{name}-{number}" for name in ("older-a", "older-b", "stays-a", "stays-b")]
                found.append(Node(number, url, node_id, tuple(names[:2]), tuple(names[2:]), gates[number]))
    return found
