"""Dispatchers at a hub, in the event loop of its servers, in another one, and in threads."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

from mesa_ws import (
    AsyncDispatcher,
    BackendUnavailable,
    Dispatcher,
    InvalidRecipients,
    InvalidSettings,
    MemoryBackend,
    MemoryHub,
    MesaError,
    Message,
    NotConnected,
    Portal,
    Server,
    TimedOut,
    Unsupported,
)
from mesa_ws.backend.queries import Peek
from mesa_ws.backend.urls import async_bus, blocking_bus
from mesa_ws.messages.envelope import Envelope
from mesa_ws.messages.request import Question, Reply

T = TypeVar("T")


class Node:
    """A node that holds the connection of `anna`, and answers requests where they arrive."""

    def __init__(self, hub: MemoryHub) -> None:
        self.backend = MemoryBackend(hub, namespace="shop")
        self.bodies: list[bytes] = []
        self.threads: set[int] = set()

    async def open(self) -> None:
        await self.backend.open(self._receive)
        await self.backend.attach("anna", 1)

    def _receive(self, envelope: Envelope) -> None:
        self.threads.add(threading.get_ident())
        if envelope.kind != "request":
            self.bodies.append(envelope.body)
            return
        question = Question.read(envelope.body)
        assert question is not None
        if b"SILENT" not in question.body:
            self.backend.reply(question.requester, Reply(envelope.message_id, question.body))


@pytest.fixture
def hub() -> MemoryHub:
    return MemoryHub()


@pytest.fixture
async def node(hub: MemoryHub) -> AsyncIterator[Node]:
    node = Node(hub)
    await node.open()
    yield node
    await node.backend.aclose()


async def in_thread(work: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1) as pool:
        return await asyncio.get_running_loop().run_in_executor(pool, work)


def numbered(count: int) -> list[bytes]:
    return [b'{"op":0,"d":%d}' % number for number in range(count)]


async def use(dispatcher: AsyncDispatcher) -> tuple[Any, ...]:
    """Make every kind of call once."""
    async with dispatcher:
        receipts = [await dispatcher.dispatch(Message(0, n), ["anna"]) for n in range(3)]
        receipts += await dispatcher.dispatch_many([(Message(0, n), ["anna", "bob"]) for n in (3, 4)])
        online = await dispatcher.presence.online(["anna", "bob"])
        answer = await dispatcher.request("anna", Message(0, "where?", "LOCATION"))
        status = await dispatcher.status(receipts[4])
        with pytest.raises(NotConnected):
            await dispatcher.request("bob", Message())
        with pytest.raises(TimedOut):
            await dispatcher.request("anna", Message(0, None, "SILENT"), timeout=0.01)
        done = (await dispatcher.disconnect(["bob"])).done
    with pytest.raises(BackendUnavailable):
        await dispatcher.dispatch(Message(), ["anna"])
    return [r.deliveries["anna"].online for r in receipts], online, answer, status.ids["bob"].state, len(done)


def use_blocking(dispatcher: Dispatcher) -> tuple[Any, ...]:
    """`use` for threads."""
    with dispatcher:
        receipts = [dispatcher.dispatch(Message(0, n), ["anna"]) for n in range(3)]
        receipts += dispatcher.dispatch_many([(Message(0, n), ["anna", "bob"]) for n in (3, 4)])
        online = dispatcher.presence.online(["anna", "bob"])
        answer = dispatcher.request("anna", Message(0, "where?", "LOCATION"))
        status = dispatcher.status(receipts[4])
        with pytest.raises(NotConnected):
            dispatcher.request("bob", Message())
        with pytest.raises(TimedOut):
            dispatcher.request("anna", Message(0, None, "SILENT"), timeout=0.01)
    with pytest.raises(BackendUnavailable):
        dispatcher.dispatch(Message(), ["anna"])
    return [r.deliveries["anna"].online for r in receipts], online, answer, status.ids["bob"].state, 1


EXPECTED = [1] * 5, {"anna": 1, "bob": 0}, Message(0, "where?", "LOCATION"), "pending", 1


@pytest.mark.parametrize("where", ["the same loop", "another loop", "a thread"])
async def test_a_dispatcher_reaches_the_nodes_of_its_hub_in_order(
    hub: MemoryHub, node: Node, where: str
) -> None:
    node.backend.carried_out = lambda position: None  # type: ignore[method-assign]
    at = {"namespace": "shop", "sync": True}
    if where == "the same loop":
        found = await use(AsyncDispatcher(hub, **at))  # type: ignore[arg-type]
    elif where == "another loop":
        found = await in_thread(lambda: asyncio.run(use(AsyncDispatcher(node.backend, **at))))  # type: ignore[arg-type]
    else:
        found = await in_thread(lambda: use_blocking(Dispatcher(hub, **at)))  # type: ignore[arg-type]
    assert found[:4] == EXPECTED[:4]
    await asyncio.sleep(0)
    assert [body for body in node.bodies if body.startswith(b'{"op"')] == numbered(5)
    assert node.threads == {threading.get_ident()}, "nodes are called in their own event loop"


async def test_dispatches_of_many_threads_arrive_once_each_and_in_the_order_of_each(
    hub: MemoryHub, node: Node
) -> None:
    dispatcher = Dispatcher(hub, namespace="shop")

    def send(thread: int) -> None:
        for number in range(50):
            dispatcher.dispatch(Message(0, [thread, number]), ["anna"])

    with ThreadPoolExecutor(4) as pool:
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(pool, send, thread) for thread in range(4)))
    await asyncio.sleep(0)
    for thread in range(4):
        expected = [b'{"op":0,"d":[%d,%d]}' % (thread, number) for number in range(50)]
        assert [body for body in node.bodies if body in expected] == expected
    assert len(node.bodies) == 200


def test_without_servers_messages_are_stored_from_any_thread(hub: MemoryHub) -> None:
    with Dispatcher(hub, sync=True) as dispatcher:
        dispatcher.dispatch(Message(0, 0), ["anna"], idempotency_key="once")
        again = dispatcher.dispatch(Message(0, 0), ["anna"], idempotency_key="once")
        assert again.deliveries["anna"].position is not None
        with pytest.raises(NotConnected):
            dispatcher.request("anna", Message())

    async def look() -> int:
        backend = MemoryBackend(hub)
        await backend.open(lambda envelope: None)
        stored = await backend.query(Peek("anna"))
        await backend.aclose()
        return len(stored)

    assert asyncio.run(look()) == 1


@pytest.mark.filterwarnings("ignore:Dispatcher blocks this event loop")
async def test_a_blocking_dispatcher_in_the_event_loop_of_the_servers_does_not_wait_for_itself(
    hub: MemoryHub, node: Node
) -> None:
    dispatcher = Dispatcher(hub, namespace="shop")
    assert dispatcher.dispatch(Message(0, 0), ["anna"]).nodes == 1
    with pytest.raises(MesaError, match="use AsyncDispatcher there"):
        dispatcher.request("anna", Message())


async def test_an_event_loop_that_is_blocked_is_an_unknown_outcome(hub: MemoryHub, node: Node) -> None:
    dispatcher, errors = Dispatcher(hub, namespace="shop", timeout=0.01), list[BackendUnavailable]()

    def send() -> None:
        with pytest.raises(BackendUnavailable) as raised:
            dispatcher.dispatch(Message(0, 0), ["anna"])
        errors.append(raised.value)

    async def send_elsewhere() -> None:
        other = AsyncDispatcher(hub, namespace="shop", timeout=0.01)
        with pytest.raises(BackendUnavailable) as raised:
            await other.dispatch(Message(0, 0), ["anna"])
        errors.append(raised.value)

    for work in (send, lambda: asyncio.run(send_elsewhere())):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()  # in the event loop
    assert [error.maybe_sent for error in errors] == [True, True]


async def test_an_outbox_can_be_purged_and_an_error_reaches_the_caller(hub: MemoryHub, node: Node) -> None:
    options: dict[str, Any] = {"namespace": "shop", "key": None}
    blocking, in_loop = blocking_bus(hub, **options), async_bus(hub, **options)
    async with AsyncDispatcher(hub, namespace="shop", sync=True) as dispatcher:
        for _ in range(3):
            await dispatcher.dispatch(Message(), ["bob"])
    assert await in_thread(lambda: blocking.purge("bob")) == 3
    assert await in_loop.purge("bob") == 0
    with pytest.raises(InvalidRecipients):
        await in_thread(lambda: blocking.purge("*"))
    with pytest.raises(InvalidRecipients):
        await in_loop.purge("*")


async def test_servers_and_portals_of_a_hub_share_one_event_loop(hub: MemoryHub, node: Node) -> None:
    async def enter_elsewhere() -> None:
        with pytest.raises(MesaError, match="one event loop"):
            await MemoryBackend(hub).open(lambda envelope: None)
        with pytest.raises(MesaError, match="one event loop"):
            await Portal(hub).start()

    await in_thread(lambda: asyncio.run(enter_elsewhere()))
    async with Portal(hub, namespace="shop"):
        pass
    await node.backend.aclose()
    assert hub.loop is None


def test_a_hub_whose_event_loop_was_closed_without_notice_can_be_used_again(hub: MemoryHub) -> None:
    asyncio.run(Node(hub).open())
    assert hub.loop is None
    with Dispatcher(hub, namespace="shop") as dispatcher:
        assert dispatcher.presence.online(["anna"]) == {"anna": 1}


@pytest.mark.parametrize("kind", [Dispatcher, AsyncDispatcher])
def test_what_a_hub_does_not_have_is_refused(
    kind: type[Dispatcher | AsyncDispatcher], hub: MemoryHub
) -> None:
    with pytest.raises(InvalidSettings, match="key: expected None with a MemoryHub"):
        kind(hub, key="secret")
    with pytest.raises(InvalidSettings, match="wire: expected 'native' with a MemoryHub"):
        kind(hub, wire="mesa1")
    with pytest.raises(InvalidSettings, match="or a MemoryHub"):
        kind(3)  # type: ignore[arg-type]
    with pytest.raises(Unsupported), Dispatcher(hub, sync=True) as dispatcher:
        dispatcher.dispatch(Message(), ["anna"], durability="fsync")


def test_a_server_takes_a_hub_in_place_of_a_url(hub: MemoryHub) -> None:
    server = Server(hub, namespace="shop")
    assert isinstance(server.backend, MemoryBackend)
    assert server.backend.hub is hub
    assert server.backend._cluster is hub.cluster("shop")
    with pytest.raises(InvalidSettings, match="a Redis URI"):
        Server(hub, wire="mesa1")
