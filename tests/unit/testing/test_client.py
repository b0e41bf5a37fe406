"""A server in memory: clients see what they see over sockets, and the test moves the time."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import uvloop

from mesa_ws import (
    AsyncDispatcher,
    AuthenticationFailed,
    Client,
    ConnectFailed,
    Connection,
    ConnectionClosed,
    Dispatcher,
    MemoryHub,
    MesaError,
    Message,
    Portal,
    PortalEvent,
    Refused,
    Server,
    Sync,
    TimedOut,
    User,
    serve,
)
from mesa_ws.testing import AsyncTestClient, AsyncTestConnection, TestClient

Log = list[Any]


def make(hub: MemoryHub, log: Log | None = None, **options: Any) -> Server:
    """A server that notes what happens, and sends what it gets to `bob`."""
    server = Server(hub, **{"sync": Sync(enabled=True, ttl=600.0), **options})
    log = [] if log is None else log

    @server.authenticator
    def authenticate(data: dict[str, Any], _: Connection) -> User:  # in a thread
        if data["id"] == "eve":
            raise Refused("not you")
        return User(data["id"], expires_at=data.get("until"))

    @server.on_message("CHAT")
    async def chat(message: Message, _: Connection) -> None:
        await server.send(Message(0, message.data, "CHAT"), ["bob"])

    @server.on_message("ADD")
    def add(message: Message, _: Connection) -> int:  # in a thread
        time.sleep(0.01)
        return sum(message.data)

    @server.on_message("KICK")
    async def kick(message: Message, connection: Connection) -> None:
        connection.disconnect(4321, "go away")

    server.on_disconnection(lambda connection, code, reason: log.append((connection.id, code, reason)))
    server.on_online(lambda who: log.append((who, "online")))
    server.on_offline(lambda who: log.append((who, "offline")))
    return server


@asynccontextmanager
async def over_sockets(server: Server) -> AsyncIterator[Callable[..., Client]]:
    async with serve(server, path="/ws") as endpoint:
        yield lambda **options: Client(endpoint.url, **options)


@asynccontextmanager
async def in_memory(server: Server) -> AsyncIterator[Callable[..., Client]]:
    async with AsyncTestClient(server, path="/ws") as client:
        yield lambda **options: client.connect("/ws", **options)


async def ending(client: Client) -> tuple[type[Exception], Any, Any]:
    async with asyncio.timeout(10):
        try:
            await client.wait_closed()
        except (ConnectionClosed, AuthenticationFailed) as error:
            return type(error), getattr(error, "code", None), getattr(error, "reason", None)
    return Exception, None, None


async def converse(connect: Callable[..., Client]) -> Log:
    """Do all that clients do, and note what they see."""
    seen: Log = []
    async with connect(reconnect=False) as anna, connect(reconnect=False) as bob:
        seen.append([await bob.authenticate({"id": "bob"}), await anna.authenticate({"id": "anna"})])
        for number in range(100):
            await anna.send(Message(0, number, "CHAT"))
        seen.append([await anext(aiter(bob)) for _ in range(100)])
        seen.append(await anna.request(Message(0, [1, 2, 3], "ADD")))
        await anna.send(Message(0, None, "KICK"))
        seen.append(await ending(anna))
        await bob.send(Message(0, "x" * 2_000_000, "CHAT"))
        seen.append(await ending(bob))
    async with connect(reconnect=False) as eve:
        with pytest.raises(AuthenticationFailed):
            await eve.authenticate({"id": "eve"})
        seen.append(await ending(eve))
    async with connect() as carl:
        await carl.authenticate({"id": "carl"})
        await carl.aclose(4000)
    with pytest.raises(ConnectFailed) as raised:
        await connect(headers={"Origin": "https://evil.example", "Cookie": "session=1"}).connect()
    seen.append(str(raised.value).partition(": ")[2])
    return seen


def ends(log: Log) -> list[str]:
    """The log in an order of its own; without the reason of a large message, which depends on chance."""
    return sorted(repr(each[: 2 if each[1] == 1009 else 3]) for each in log)


@pytest.mark.parametrize("wire", ["sync", "no sync"])
async def test_clients_in_memory_see_what_clients_over_sockets_see(wire: str) -> None:
    seen, logs = [], []
    for run in (over_sockets, in_memory):
        logs.append(log := list[Any]())
        server = make(MemoryHub(), log, sync=wire == "sync")
        context: AbstractAsyncContextManager[Callable[..., Client]] = run(server)
        async with context as connect:
            seen.append(await converse(connect))
    assert seen[1] == seen[0]
    assert ends(logs[1]) == ends(logs[0])
    assert [each for each in logs[1] if each[0] == "anna"] == [("anna", "online"), ("anna", 4321, "go away")]
    assert ("carl", 4000, "") in logs[1]


@pytest.fixture
def log() -> Log:
    return []


@pytest.fixture
def hub() -> MemoryHub:
    return MemoryHub()


@pytest.fixture
async def client(hub: MemoryHub, log: Log) -> AsyncIterator[AsyncTestClient]:
    async with AsyncTestClient(make(hub, log, heartbeat=True)) as client:
        yield client


def frames_of(server: Server) -> list[bool]:
    return [connection.is_open for connection in server.connections]


async def test_a_client_that_answers_stays_for_hours_and_one_that_sleeps_does_not(
    hub: MemoryHub, log: Log
) -> None:
    server = make(hub, log, heartbeat={"enabled": True, "interval": 30.0})
    async with (
        AsyncTestClient(server) as client,
        client.connect() as anna,
        client.connect(reconnect=False) as bob,
    ):
        await anna.authenticate({"id": "anna"})
        await bob.authenticate({"id": "bob"})
        before = client.now
        await client.advance(7200)
        assert 7200 <= client.now - before < 7260
        assert frames_of(server) == [True, True]
        connection = bob._reconnecting.connection
        assert connection is not None
        connection.websocket.pause_reading()
        await client.advance(300)
        assert [each.id for each in server.connections if each.is_open] == ["anna"]


async def test_a_client_that_does_not_log_in_is_closed_at_its_deadline_and_not_before(hub: MemoryHub) -> None:
    server = make(hub, authentication={"timeout": 20.0})
    async with AsyncTestClient(server) as client, client.connect(reconnect=False) as anna:
        await client.advance(15)
        states = [anna.is_connected]
        await client.advance(6)
        assert [*states, anna.is_connected] == [True, False]
        with pytest.raises(ConnectionClosed):
            await anna.receive()


async def test_a_login_expires(client: AsyncTestClient, log: Log) -> None:
    until = client.now + 3600
    async with client.connect(reconnect=False) as anna:
        await anna.authenticate({"id": "anna", "until": until})
        await client.advance(3590)
        assert anna.is_connected
        await client.advance(20)
        assert log[1] == ("anna", 4004, log[1][2])
    async with client.connect(reconnect=False) as anna:
        with pytest.raises(AuthenticationFailed):
            await anna.authenticate({"id": "anna", "until": until})


async def test_a_client_that_was_cut_comes_back_and_gets_what_it_missed_once(
    client: AsyncTestClient, hub: MemoryHub, log: Log
) -> None:
    async with AsyncDispatcher(hub, sync=True) as dispatcher, client.connect() as bob:
        await bob.authenticate({"id": "bob"})
        await dispatcher.dispatch(Message(0, 0, "N"), ["bob"])
        assert await bob.receive() == Message(0, 0, "N")
        bob.cut()
        await client.settle()
        assert log[1:] == [("bob", 1006, "")]
        for number in (1, 2):
            assert not (await dispatcher.dispatch(Message(0, number, "N"), ["bob"])).deliveries["bob"].online
        assert await bob.receive_all() == []
        await client.advance(60)
        assert await bob.receive_all() == [Message(0, 1, "N"), Message(0, 2, "N")]
        assert await bob.receive_all() == []
        with pytest.raises(TimedOut, match=r"within 0\.01 s"):
            await bob.receive(0.01)


async def test_stored_messages_expire_and_ids_go_offline_after_their_grace(
    client: AsyncTestClient, hub: MemoryHub, log: Log
) -> None:
    async with AsyncDispatcher(hub, sync=Sync(enabled=True, ttl=100.0)) as dispatcher:
        async with client.connect() as bob:
            await bob.authenticate({"id": "bob"})
        await client.advance(2)
        assert ("bob", "offline") not in log
        await client.advance(4)
        assert log == [("bob", "online"), ("bob", 1000, ""), ("bob", "offline")]
        await dispatcher.dispatch(Message(0, 1), ["bob"])
        await client.advance(60)
        await dispatcher.dispatch(Message(0, 2), ["bob"])
        await client.advance(60)
        async with client.connect() as bob:
            await bob.authenticate({"id": "bob"})
            assert await bob.receive_all() == [Message(0, 2)]


async def test_a_client_that_reads_nothing_is_closed_when_too_much_waits_for_it(
    hub: MemoryHub, log: Log
) -> None:
    server = make(hub, log, limits={"max_buffered": 200_000}, sync=False)
    async with AsyncTestClient(server) as client, client.connect(reconnect=False) as bob:
        await bob.authenticate({"id": "bob"})
        connection = bob._reconnecting.connection
        assert connection is not None
        connection.websocket.pause_reading()
        for _ in range(10):
            await server.send(Message(0, "x" * 50_000), ["bob"])
        await client.settle()
        connection.websocket.resume_reading()
        await client.settle()
        assert log[1][1] == 4000
    async with client, client.connect(reconnect=False) as bob:
        await bob.authenticate({"id": "bob"})
        connection = bob._reconnecting.connection
        assert connection is not None
        connection.websocket.pause_reading()
        for number in range(5):
            await server.send(Message(number + 100, "x" * 50_000), ["bob"])
        await client.settle()
        [at_server] = server.connections
        assert at_server.send_queue.is_congested
        connection.websocket.resume_reading()
        assert [each.opcode for each in await bob.receive_all()] == [100, 101, 102, 103, 104]
        assert not at_server.send_queue.is_congested


async def test_a_client_whose_messages_wait_for_handlers_is_read_no_further(hub: MemoryHub) -> None:
    server, handled, go_on = make(hub, limits={"max_queued": 10}), list[Any](), asyncio.Event()

    @server.on_message("WORK")
    async def work(message: Message, _: Connection) -> None:
        await go_on.wait()
        handled.append(message.data)

    async with AsyncTestClient(server) as client, client.connect() as anna:
        await anna.authenticate({"id": "anna"})
        for number in range(100):
            await anna.send(Message(0, number, "WORK"))
        await client.settle()
        [connection] = server.connections
        assert len(connection._events or ()) <= 10
        go_on.set()
        await client.settle()
        assert handled == list(range(100))


async def test_a_portal_of_the_hub_runs_with_the_server(hub: MemoryHub) -> None:
    server, portal = make(hub, portals={"enabled": True}), Portal(hub)

    @portal.on_message("ORDER")
    def order(event: PortalEvent) -> dict[str, Any]:  # in a thread
        assert event.message is not None
        time.sleep(0.01)
        return {"ordered": event.message.data, "by": event.id}

    async with AsyncTestClient(server, portal) as client, client.connect() as anna:
        await anna.authenticate({"id": "anna"})
        answer = await anna.request(Message(0, "tea", "ORDER"))
        assert answer.data == {"ordered": "tea", "by": "anna"}
    assert not portal.is_running


def test_without_asyncio_everything_works_from_the_thread_of_the_test(hub: MemoryHub, log: Log) -> None:
    server = make(hub, log)
    client = TestClient(server)
    with pytest.raises(MesaError, match="use it with `with`"):
        client.settle()
    with client, Dispatcher(hub, sync=True) as dispatcher, client.connect() as bob:
        assert bob.authenticate({"id": "bob"}) == bob.user == {"id": "bob"}
        with client.connect(reconnect=False) as anna:
            anna.send(Message(0, "hi", "CHAT"))
            assert bob.receive() == Message(0, "hi", "CHAT")
            assert anna.request(Message(0, [4, 5], "ADD")).data == 9
            anna.send(Message(0, None, "KICK"))
            with pytest.raises(ConnectionClosed, match="4321"):
                anna.wait_closed()
        bob.cut()
        assert not bob.is_connected
        dispatcher.dispatch(Message(0, 1), ["bob"])
        dispatcher.dispatch_many([(Message(0, 2), ["bob"]), (Message(0, 3), ["carl"])])
        before = client.now
        client.advance(60)
        assert 60 <= client.now - before < 120
        assert (bob.is_connected, bob.is_authenticated) == (True, True)
        assert [message.data for message in bob.receive_all()] == [1, 2]
        assert dispatcher.presence.online(["bob", "carl"]) == {"bob": 1, "carl": 0}
        receipt = client.call(lambda: server.send(Message(), ["bob"]))
        assert receipt.deliveries["bob"].online == 1
        client.settle()
    assert not server.is_running
    assert not [thread for thread in threading.enumerate() if thread.name == "mesa-test-client"]
    with client, client.connect() as bob:  # again
        bob.authenticate({"id": "bob"})


def test_errors_of_services_are_raised_where_the_client_is_entered_and_left(hub: MemoryHub) -> None:
    @asynccontextmanager
    async def failing(*, early: bool) -> AsyncIterator[None]:
        if early:
            raise ZeroDivisionError
        yield
        raise LookupError

    server = make(hub)
    with pytest.raises(ZeroDivisionError), TestClient(server, failing(early=True)):
        pass
    assert not server.is_running
    with pytest.raises(LookupError), TestClient(server, failing(early=False)) as client:
        client.settle()
    assert not server.is_running


def test_what_cannot_be_tested_so_is_an_error_at_once(hub: MemoryHub) -> None:
    with pytest.raises(MesaError, match=r"expected a server with a MemoryHub, got one with RedisBackend"):
        TestClient(Server("redis://localhost"))
    server = make(hub)
    with TestClient(server), pytest.raises(MesaError, match="running already"), TestClient(server):
        pass

    async def advance() -> None:
        async with AsyncTestClient(make(MemoryHub())) as client, client.connect() as anna:
            await anna.authenticate({"id": "anna"})
            await anna.send(Message(0, "hi", "CHAT"))
            await client.settle()
            with pytest.raises(MesaError, match=r"got uvloop\.Loop"):
                await client.advance(1)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(advance())


async def test_clients_that_are_left_open_end_with_the_server(hub: MemoryHub) -> None:
    connections: list[AsyncTestConnection] = []
    async with AsyncTestClient(make(hub)) as client:
        connections += [client.connect(), client.connect()]
        await connections[0].connect()
    assert not connections[0].is_connected
    with pytest.raises(ConnectionClosed):
        await connections[1].connect()
    with pytest.raises(ConnectFailed, match="503 Service Unavailable"):
        await client.connect().connect()


async def test_two_servers_of_a_hub_are_one_cluster_with_one_time(hub: MemoryHub, log: Log) -> None:
    first, second = make(hub, log), make(hub, log, authentication={"timeout": 10.0})
    async with (
        AsyncTestClient(first) as one,
        AsyncTestClient(second) as two,
        one.connect() as anna,
        two.connect() as bob,
        two.connect(reconnect=False) as stranger,
    ):
        await anna.authenticate({"id": "anna"})
        await bob.authenticate({"id": "bob"})
        await anna.send(Message(0, "hi", "CHAT"))
        assert await bob.receive_all() == [Message(0, "hi", "CHAT")]
        await one.advance(11)
        assert [each.is_connected for each in (anna, bob, stranger)] == [True, True, False]
