"""Requests to connected clients from other processes: by both dispatchers, over Redis and over HTTP."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import httpcore
import msgspec
import pytest

from mesa_ws.backend import pending
from mesa_ws.backend.http import AsyncHttpBus, aio
from mesa_ws.backend.memory import MemoryBackend
from mesa_ws.backend.pending import Quota
from mesa_ws.backend.redis import RedisBackend
from mesa_ws.client import Client
from mesa_ws.dispatcher import AsyncDispatcher, Dispatcher
from mesa_ws.errors import (
    BackendRefused,
    BackendUnavailable,
    ConnectionClosed,
    InvalidMessage,
    InvalidRecipients,
    InvalidSettings,
    NotConnected,
    RequestError,
    RequestFailed,
    TimedOut,
    TooManyRequests,
    Unanswered,
    Unsupported,
)
from mesa_ws.http_server.server import DispatchApi
from mesa_ws.messages.message import Message
from mesa_ws.messages.recipients import User
from mesa_ws.messages.request import prepare_request
from mesa_ws.server.connection import Connection
from mesa_ws.transports.run import Endpoint, Server, serve
from tests.http_site import KEY
from tests.redis_server import RedisServer
from tests.system.proxy import Proxy
from tests.system.server.peer import LIMIT, Peer
from tests.system.waiting import until

PING = Message(0, {"n": 1}, "PING")

ANY_SILENCE = 1e-6
"""Seconds; shorter than every silence in this file."""

Ask = Callable[..., Awaitable[Message]]


def believing(backend: Any = None, **options: Any) -> Server:
    """Return a server that accepts any id."""
    server = Server(backend, **options)

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        return User(data["id"])

    return server


class Cluster:
    """Two servers, and a dispatcher that sends requests."""

    def __init__(self, ends: tuple[Endpoint, Endpoint], ask: Ask, stack: AsyncExitStack) -> None:
        self._ends = ends
        self._stack = stack
        self.ask = ask

    async def client(self, at: int = 1, id: str = "0") -> Client:
        client = await self._stack.enter_async_context(Client(self._ends[at].url))
        await client.authenticate({"id": id})
        return client

    async def peer(self, at: int = 1, id: str = "0", wire: int = 2) -> Peer:
        peer = await self._stack.enter_async_context(Peer.connect(self._ends[at].url))
        await peer.log_in(id, wire=wire)
        return peer


@pytest.fixture(params=["redis", "http"])
def way(request: pytest.FixtureRequest) -> str:
    """Return the dispatcher's URL of the cluster."""
    return str(request.param)


@pytest.fixture(params=["aio", "blocking"])
async def cluster(
    request: pytest.FixtureRequest, way: str, redis_url: str, namespace: str
) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        servers = [believing(redis_url, namespace=namespace) for _ in range(2)]
        api = DispatchApi(servers[0], key=KEY, port=0)
        first = await stack.enter_async_context(serve(servers[0], "127.0.0.1", 0, api))
        second = await stack.enter_async_context(serve(servers[1]))
        url, key = (redis_url, None) if way == "redis" else (api.url, KEY)
        if request.param == "aio":
            dispatcher = AsyncDispatcher(url, namespace=namespace, key=key)
            await stack.enter_async_context(dispatcher)
            yield Cluster((first, second), dispatcher.request, stack)
        else:
            blocking = stack.enter_context(Dispatcher(url, namespace=namespace, key=key))

            async def ask(*args: Any, **options: Any) -> Message:
                return await asyncio.to_thread(blocking.request, *args, **options)

            yield Cluster((first, second), ask, stack)


async def test_a_client_answers_a_dispatcher(cluster: Cluster) -> None:
    client = await cluster.client()
    client.on_request("PING")(lambda message: Message(99, [message.data], "PONG"))
    for _ in range(2):
        assert await cluster.ask("0", PING) == Message(99, [{"n": 1}], "PONG")


async def test_many_requests_are_answered_at_the_same_time(cluster: Cluster) -> None:
    client = await cluster.client()
    client.on_request(lambda message: message.data)
    answers = await asyncio.gather(*(cluster.ask("0", Message(0, n)) for n in range(10)))
    assert [answer.data for answer in answers] == list(range(10))


async def test_the_first_of_the_devices_on_two_servers_answers(cluster: Cluster) -> None:
    silent, mute = await cluster.peer(at=0), await cluster.client(at=0)
    mute.on_request("OTHER")(lambda message: "not this")
    able = await cluster.client(at=1)
    able.on_request(lambda message: "able")
    assert (await cluster.ask("0", PING)).data == "able"
    assert "r" in (await silent.receive())["x"]


async def test_an_absent_id_is_an_error_at_once(cluster: Cluster) -> None:
    with pytest.raises(NotConnected, match="'7'"):
        await cluster.ask("7", PING)


async def test_a_client_without_a_handler_is_an_error_at_once(cluster: Cluster) -> None:
    await cluster.client()
    with pytest.raises(Unanswered, match="no handler"):
        await cluster.ask("0", PING)


async def test_a_deliberate_error_is_raised(cluster: Cluster) -> None:
    client = await cluster.client()

    @client.on_request
    def refuse(message: Message) -> None:
        raise RequestError("no such room", "no_room")

    with pytest.raises(RequestFailed) as raised:
        await cluster.ask("0", PING)
    assert (raised.value.code, raised.value.text) == ("no_room", "no such room")


async def test_no_answer_in_time_is_an_error(cluster: Cluster) -> None:
    peer = await cluster.peer()
    began = time.monotonic()
    with pytest.raises(TimedOut):
        await cluster.ask("0", PING, timeout=0.3)
    assert 0.3 <= time.monotonic() - began < LIMIT
    assert "r" in (await peer.receive())["x"]


async def test_a_client_that_leaves_is_an_error(cluster: Cluster) -> None:
    peer = await cluster.peer()
    asking = asyncio.ensure_future(cluster.ask("0", PING))
    await peer.receive()
    await peer.socket.close()
    with pytest.raises(ConnectionClosed, match="before the client answered the request"):
        await asking


async def test_a_client_of_wire_1_is_an_error(cluster: Cluster) -> None:
    await cluster.peer(wire=1)
    with pytest.raises(Unsupported, match="wire 2"):
        await cluster.ask("0", PING)


@pytest.mark.parametrize(
    ("id", "message", "timeout", "error"),
    [
        ("*", PING, 1.0, InvalidRecipients),
        (1, PING, 1.0, InvalidRecipients),
        ("0", Message(3), 1.0, InvalidMessage),
        ("0", PING, 0, InvalidSettings),
    ],
)
async def test_an_invalid_request_is_refused(
    cluster: Cluster, id: Any, message: Message, timeout: float, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await cluster.ask(id, message, timeout)


async def test_a_server_sends_requests_to_clients_of_another(redis_url: str, namespace: str) -> None:
    async with AsyncExitStack() as stack:
        asker, holder = (believing(redis_url, namespace=namespace) for _ in range(2))
        await stack.enter_async_context(serve(asker))
        endpoint = await stack.enter_async_context(serve(holder))
        client = await stack.enter_async_context(Client(endpoint.url))
        await client.authenticate({"id": "0"})
        client.on_request(lambda message: "answer")
        assert (await asker.request("0", PING)).data == "answer"
        assert (await holder.request("0", PING)).data == "answer"


# Redis.


async def test_a_closed_dispatcher_sends_no_request(redis_url: str, namespace: str) -> None:
    dispatcher, blocking = AsyncDispatcher(redis_url), Dispatcher(redis_url)
    await dispatcher.aclose()
    blocking.close()
    with pytest.raises(BackendUnavailable):
        await dispatcher.request("0", PING)
    with pytest.raises(BackendUnavailable):
        await asyncio.to_thread(blocking.request, "0", PING)


async def test_without_redis_a_request_is_an_error() -> None:
    async with AsyncDispatcher("redis://127.0.0.1:1") as dispatcher:
        with pytest.raises(BackendUnavailable) as raised:
            await dispatcher.request("0", PING)
    assert not raised.value.maybe_sent
    with Dispatcher("redis://127.0.0.1:1") as blocking, pytest.raises(BackendUnavailable) as raised:
        await asyncio.to_thread(blocking.request, "0", PING)
    assert not raised.value.maybe_sent
    with pytest.raises(BackendUnavailable, match="not open"):
        await RedisBackend("redis://127.0.0.1:1").request(prepare_request("0", PING), 1)


async def test_closing_a_dispatcher_ends_its_requests_and_its_subscription(
    own_redis: RedisServer, client: Any, namespace: str
) -> None:
    async with AsyncExitStack() as stack:
        server = believing(own_redis.url, namespace=namespace)
        endpoint = await stack.enter_async_context(serve(server))
        peer = await stack.enter_async_context(Peer.connect(endpoint.url))
        await peer.log_in("0", wire=2)
        dispatcher = AsyncDispatcher(own_redis.url, namespace=namespace)
        asking = asyncio.create_task(dispatcher.request("0", PING))
        await peer.receive()
        assert len(await client.pubsub_channels("*}:a:*")) == 1
        await dispatcher.aclose()
        with pytest.raises(BackendUnavailable) as raised:
            await asking
        assert raised.value.maybe_sent
        async with asyncio.timeout(LIMIT):
            while await client.pubsub_channels("*}:a:*"):
                await asyncio.sleep(0.01)


async def test_a_dispatcher_that_is_closed_while_it_connects_does_not_subscribe(
    own_redis: RedisServer, client: Any, namespace: str
) -> None:
    dispatcher = AsyncDispatcher(own_redis.url, namespace=namespace)
    asking = asyncio.create_task(dispatcher.request("0", PING))
    await asyncio.sleep(0)  # the dispatcher has begun to connect
    await dispatcher.aclose()
    with pytest.raises(BackendUnavailable):
        await asking
    assert await client.pubsub_channels("*}:a:*") == []


async def test_a_thread_leaves_no_subscription(own_redis: RedisServer, client: Any, namespace: str) -> None:
    async with AsyncExitStack() as stack:
        server = believing(own_redis.url, namespace=namespace)
        endpoint = await stack.enter_async_context(serve(server))
        peer = await stack.enter_async_context(Peer.connect(endpoint.url))
        await peer.log_in("0", wire=2)
        with Dispatcher(own_redis.url, namespace=namespace) as dispatcher:
            with pytest.raises(TimedOut):
                await asyncio.to_thread(dispatcher.request, "0", PING, 0.2)
            async with asyncio.timeout(LIMIT):
                while await client.pubsub_channels("*}:a:*"):
                    await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", ["aio", "blocking"])
async def test_a_cut_from_redis_ends_or_outlasts_a_request(
    proxy: Proxy, redis_url: str, namespace: str, kind: str
) -> None:
    async with AsyncExitStack() as stack:
        server = believing(redis_url, namespace=namespace)
        endpoint = await stack.enter_async_context(serve(server))
        peer = await stack.enter_async_context(Peer.connect(endpoint.url))
        await peer.log_in("0", wire=2)
        blocking = stack.enter_context(Dispatcher(proxy.url, namespace=namespace))
        dispatcher = await stack.enter_async_context(AsyncDispatcher(proxy.url, namespace=namespace))
        if kind == "aio":
            asking = asyncio.ensure_future(dispatcher.request("0", PING, 0.5))
        else:
            asking = asyncio.ensure_future(asyncio.to_thread(blocking.request, "0", PING, 0.5))
        await peer.receive()
        proxy.cut()
        with pytest.raises((TimedOut, BackendUnavailable)):
            await asking


# HTTP.


async def test_the_number_of_requests_that_wait_over_http_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aio, "MAX_REQUESTS", 1)
    async with AsyncExitStack() as stack:
        server = believing()
        api = DispatchApi(server, key=KEY, port=0)
        endpoint = await stack.enter_async_context(serve(server, "127.0.0.1", 0, api))
        peer = await stack.enter_async_context(Peer.connect(endpoint.url))
        await peer.log_in("0", wire=2)
        dispatcher = await stack.enter_async_context(AsyncDispatcher(api.url, key=KEY))
        asking = asyncio.create_task(dispatcher.request("0", PING, 0.5))
        await peer.receive()
        with pytest.raises(TooManyRequests, match="up to 1"):
            await dispatcher.request("0", PING)
        receipt = await dispatcher.dispatch(Message(0), ["7"])  # is not delayed by the request
        assert not asking.done()
        assert receipt.nodes == 0
        with pytest.raises(TimedOut):
            await asking
        with pytest.raises(NotConnected):  # one more may wait again
            await dispatcher.request("7", PING)


@pytest.mark.parametrize("kind", ["aio", "blocking"])
async def test_a_request_over_http_is_given_up_with_its_requester(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending, "MAX_REQUESTS", 1)
    server = believing()
    api = DispatchApi(server, key=KEY, port=0)
    async with serve(server, "127.0.0.1", 0, api) as endpoint, Peer.connect(endpoint.url) as peer:
        await peer.log_in("0", wire=2)
        if kind == "aio":
            async with AsyncDispatcher(api.url, key=KEY) as dispatcher:
                asking = asyncio.create_task(dispatcher.request("0", PING, 3600))
                await peer.receive()
                asking.cancel()
        else:
            asks = f"Dispatcher({api.url!r}, key={KEY!r}).request('0', Message(0), 3600)"
            script = f"from mesa_ws import Dispatcher, Message; {asks}"
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
            await peer.receive()
            process.kill()
            await process.wait()

        async def may_ask() -> bool:
            try:
                await server.request("0", PING, 0.01)
            except TimedOut:
                return True
            except TooManyRequests:
                return False
            return False

        await until(may_ask)


async def test_a_body_that_is_no_request_is_refused_over_http() -> None:
    server = believing()
    api = DispatchApi(server, key=KEY, port=0)
    async with serve(server, "127.0.0.1", 0, api), httpcore.AsyncConnectionPool() as http:

        async def post(body: Any) -> tuple[int, Any]:
            headers: list[tuple[bytes | str, bytes | str]] = [("Authorization", f"Bearer {KEY}")]
            content = msgspec.json.encode(body)
            response = await http.request("POST", f"{api.url}/v1/request", headers=headers, content=content)
            return response.status, msgspec.json.decode(response.content)["error"]["code"]

        message = {"d": 1}
        assert await post({}) == (400, "invalid_request")
        assert await post({"id": "0"}) == (400, "invalid_message")
        assert await post({"id": 0, "message": message}) == (400, "invalid_recipients")
        assert await post({"id": "0", "message": message, "timeout": 0}) == (400, "invalid_request")
        assert await post({"id": "0", "message": message, "x": 1}) == (400, "invalid_request")
        assert await post({"id": "0", "message": {"op": 5, "t": "DISCONNECT_CLIENT"}}) == (
            400,
            "invalid_message",
        )
        assert await post({"id": "0", "message": message, "namespace": "other"}) == (400, "wrong_namespace")
        assert await post({"id": "0", "message": message}) == (409, "not_connected")


async def test_an_answer_of_no_mesa_server_is_refused() -> None:
    async def serve_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        writer.close()

    async with await asyncio.start_server(serve_nonsense, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        bus = AsyncHttpBus(f"http://127.0.0.1:{port}", key=KEY)
        with pytest.raises(BackendRefused):
            await bus.request(prepare_request("0", PING), 1.0)
        await bus.aclose()


# Threads.


def test_the_number_of_threads_that_wait_is_limited() -> None:
    quota = Quota(1)
    with quota.one(), pytest.raises(TooManyRequests, match="up to 1"), quota.one():
        pass
    with quota.one():
        pass


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_has_a_quota_of_its_own() -> None:
    quota = Quota(1)
    with quota.one():
        child = os.fork()
        if child == 0:
            try:
                with quota.one():
                    os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


async def test_the_memory_backend_reaches_only_its_own_process() -> None:
    with pytest.raises(NotConnected):
        await MemoryBackend().request(prepare_request("0", PING), 1.0)


async def test_a_request_that_is_over_leaves_nothing_in_memory() -> None:
    server = believing()
    async with serve(server) as endpoint, Client(endpoint.url) as client:
        client.on_request(lambda message: "here")
        await client.authenticate({"id": "0"})
        await server.request("0", PING)
        with pytest.raises(NotConnected):
            await server.request("7", PING)
    assert isinstance(server.backend, MemoryBackend)
    assert server.backend._cluster.requesters == {}


@pytest.fixture
async def behind_proxy(
    proxy: Proxy, redis_url: str, namespace: str
) -> AsyncIterator[tuple[AsyncDispatcher, list[Message]]]:
    """A dispatcher, and the requests that the client with the id 0 received."""
    asked: list[Message] = []
    async with (
        serve(believing(redis_url, namespace=namespace)) as endpoint,
        Client(endpoint.url) as client,
        AsyncDispatcher(proxy.url, namespace=namespace, timeout=1.5) as dispatcher,
    ):

        @client.on_request
        def count(message: Message) -> int:
            asked.append(message)
            return len(asked)

        await client.authenticate({"id": "0"})
        yield dispatcher, asked


async def test_a_dispatcher_that_was_cut_off_in_silence_is_answered_again(
    behind_proxy: tuple[AsyncDispatcher, list[Message]], proxy: Proxy
) -> None:
    dispatcher, _ = behind_proxy
    await dispatcher.request("0", PING)
    proxy.mute_subscribers()
    with pytest.raises(TimedOut):
        await dispatcher.request("0", PING, 0.2)

    async def is_answered() -> bool:
        with suppress(TimedOut, BackendUnavailable):
            return bool(await dispatcher.request("0", PING, 0.2))
        return False

    await until(is_answered)


async def test_after_a_long_silence_a_request_is_answered_on_a_new_connection(
    behind_proxy: tuple[AsyncDispatcher, list[Message]], proxy: Proxy, namespace: str
) -> None:
    place = {"host": "127.0.0.1", "port": proxy.port, "health_check_interval": ANY_SILENCE}
    async with AsyncDispatcher(place, namespace=namespace) as dispatcher:
        assert [(await dispatcher.request("0", PING)).data for _ in range(2)] == [1, 2]
        proxy.forget()
        assert (await dispatcher.request("0", PING)).data == 3
