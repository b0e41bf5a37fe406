"""Starting, the handshake, and stopping."""

import asyncio
import re
import signal
import ssl
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis import Redis

from mesa_ws.backend.memory import MemoryBackend
from mesa_ws.dispatcher import AsyncDispatcher
from mesa_ws.errors import BackendUnavailable, InvalidSettings, ListenFailed, MesaError
from mesa_ws.messages.message import Message
from mesa_ws.messages.recipients import User
from mesa_ws.server import fanout
from mesa_ws.server.connection import Connection
from mesa_ws.server.fanout import MIN_SPREAD
from mesa_ws.transports.run import Server, serve
from tests.ports import free_port

from .conftest import Joining, Serving, accepting
from .peer import LIMIT, Peer, RawPeer


async def handshake(serving: Serving, request: str, *, path: str | None = "/ws") -> str:
    endpoint = await serving(accepting(), path=path)
    async with RawPeer.connect(endpoint.host, endpoint.port) as peer:
        return await peer.request(request)


UPGRADE = (
    "Host: x\nConnection: {connection}\nUpgrade: websocket\nSec-WebSocket-Version: {version}\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
)


@pytest.mark.native("the bytes of the handshake")
@pytest.mark.parametrize(
    ("target", "connection", "version", "status"),
    [
        ("/ws", "Upgrade", 13, "101"),
        ("/ws?a=1", "Upgrade", 13, "101"),
        ("/ws", "keep-alive, Upgrade", 13, "101"),
        ("/ws/", "Upgrade", 13, "400"),
        ("/other", "Upgrade", 13, "400"),
        ("/ws", "Upgrade", 12, "400"),
        ("/ws", "keep-alive", 13, "400"),
    ],
)
async def test_upgrades_are_granted_by_path_and_version(
    serving: Serving, target: str, connection: str, version: int, status: str
) -> None:
    head = UPGRADE.format(connection=connection, version=version)
    answer = await handshake(serving, f"GET {target} HTTP/1.1\n{head}")
    assert answer.startswith(f"HTTP/1.1 {status} ")


@pytest.mark.native("the bytes of the handshake")
async def test_a_subprotocol_which_the_answer_repeats_has_to_be_ascii(serving: Serving) -> None:
    head = UPGRADE.format(connection="Upgrade", version=13)
    answer = await handshake(serving, f"GET /ws HTTP/1.1\n{head}\nSec-WebSocket-Protocol: \xff")
    assert answer.startswith("HTTP/1.1 400 ")


@pytest.mark.native("the bytes of the handshake")
async def test_a_plain_request_is_told_to_upgrade(serving: Serving) -> None:
    answer = await handshake(serving, "GET /ws HTTP/1.1\nHost: x")
    assert answer.startswith("HTTP/1.1 426 Upgrade Required")


@pytest.mark.native("the bytes of the handshake")
async def test_any_path_is_served_where_none_is_set(serving: Serving) -> None:
    head = UPGRADE.format(connection="Upgrade", version=13)
    assert " 101 " in await handshake(serving, f"GET /any/thing HTTP/1.1\n{head}", path=None)


@pytest.mark.native("the bytes of the handshake")
async def test_the_first_subprotocol_is_chosen_and_no_extension(serving: Serving) -> None:
    head = UPGRADE.format(connection="Upgrade", version=13)
    extra = "Sec-WebSocket-Protocol: a, b\nSec-WebSocket-Extensions: permessage-deflate"
    answer = (await handshake(serving, f"GET /ws HTTP/1.1\n{head}\n{extra}")).lower()
    assert "sec-websocket-protocol: a\r\n" in answer
    assert "extensions" not in answer


@pytest.mark.native("the listening socket")
async def test_a_path_has_to_start_with_a_slash(serving: Serving) -> None:
    with pytest.raises(InvalidSettings, match="path: expected a path that starts with /"):
        await serving(accepting(), path="ws")


@pytest.mark.native("the listening socket")
async def test_a_port_in_use_is_one_clear_error(serving: Serving) -> None:
    endpoint = await serving(accepting())
    with pytest.raises(
        ListenFailed, match=f"^cannot listen on 127.0.0.1:{endpoint.port}: Address already in use$"
    ):
        await serving(accepting(), port=endpoint.port)


@pytest.mark.native("the listening socket")
async def test_a_host_that_has_no_address_is_one_clear_error(serving: Serving) -> None:
    with pytest.raises(ListenFailed, match=r"^cannot listen on nowhere\.invalid:0: [A-Z]\w+ .*$"):
        await serving(accepting(), host="nowhere.invalid")


@pytest.mark.native("the listening socket")
async def test_a_failed_start_leaves_the_server_stopped(serving: Serving) -> None:
    endpoint = await serving(accepting())
    server = accepting()
    with pytest.raises(ListenFailed):
        await serving(server, port=endpoint.port)
    assert not server.is_ready


async def test_readiness_follows_the_life_of_the_server() -> None:
    server = accepting()
    ready = [server.is_ready]
    async with serve(server):
        ready.append(server.is_ready)
    ready.append(server.is_ready)
    assert ready == [False, True, False]


async def test_a_server_can_be_served_again(join: Joining) -> None:
    server = accepting()
    for _ in range(2):
        async with serve(server) as endpoint, Peer.connect(endpoint.url) as peer:
            assert await peer.authenticate("1") == {"id": "1"}


async def test_stopping_closes_clients_with_1001_and_lets_handlers_finish() -> None:
    server = accepting()
    finished: list[str] = []
    started = asyncio.Event()

    @server.on_message
    async def handle(message: Message, connection: Connection) -> None:
        started.set()
        await asyncio.sleep(0.05)
        finished.append("message")

    @server.on_disconnection
    async def ended(connection: Connection, code: int, reason: str) -> None:
        finished.append(f"disconnection {code}")

    async with serve(server) as endpoint, Peer.connect(endpoint.url) as peer:
        await peer.send("X")
        await started.wait()
        closing = asyncio.create_task(peer.closed())
        await server.stop()
        assert await closing == 1001
    assert finished == ["message", "disconnection 1001"]


@pytest.mark.parametrize(("pace", "longest"), [(20, MIN_SPREAD), (1, 1.2)])
async def test_clients_are_sent_away_one_after_another_and_served_until_then(
    join: Joining, monkeypatch: pytest.MonkeyPatch, pace: int, longest: float
) -> None:
    monkeypatch.setattr(fanout, "COMING_BACK", pace)
    monkeypatch.setattr(fanout, "SENDING_AWAY", 2.0)
    server = accepting(presence={"grace": 2.4})
    async with AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(serve(server))
        peers = [await join(endpoint) for _ in range(40)]
        for number, peer in enumerate(peers):
            await peer.log_in(str(number), wire=2)
        stopping = asyncio.create_task(stack.aclose())
        assert await peers[0].closed() == 1001
        for connection in server.connections:
            connection.send(Message(0, "still here"))
        assert len(server.connections) > 20
        await stopping
        assert {await peer.closed() for peer in peers[1:]} == {1001}
    served = [any(frame.get("d") == "still here" for frame in peer.frames) for peer in peers]
    assert served == sorted(served)
    assert sum(served) > 20
    asked = [frame["d"]["after"] for peer in peers for frame in peer.frames if frame["op"] == 7]
    assert len(asked) == 40
    assert max(asked) <= longest


async def test_stopping_does_not_wait_for_a_peer_that_does_not_answer() -> None:
    async with asyncio.timeout(LIMIT):
        async with serve(accepting()) as endpoint:
            reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
            peer = RawPeer(reader, writer)
            await peer.upgrade()
            await peer.next_frame()
        writer.close()


async def test_services_run_beside_the_server() -> None:
    life: list[str] = []

    @asynccontextmanager
    async def service() -> AsyncIterator[None]:
        life.append(f"in {server.is_ready}")
        yield
        life.append(f"out {server.is_ready}")

    server = accepting()
    async with serve(server, "127.0.0.1", 0, service()):
        life.append("running")
    assert life == ["in True", "running", "out True"]


async def test_using_a_stopped_server_says_so() -> None:
    with pytest.raises(MesaError, match="the server is not running"):
        _ = Server().terms


async def test_a_backend_that_fails_to_open_leaves_nothing_running() -> None:
    class Away(MemoryBackend):
        async def open(self, *args: object, **options: object) -> None:
            raise BackendUnavailable("Redis at nowhere does not answer")

    server = Server(Away())
    with pytest.raises(BackendUnavailable, match="Redis at nowhere"):
        async with serve(server):
            pass
    assert not server.is_ready


async def test_a_backend_that_fails_at_login_closes_1013(serving: Serving, join: Joining) -> None:
    class Away(MemoryBackend):
        async def attach(self, *args: object) -> None:
            raise BackendUnavailable("Redis at nowhere does not answer")

    server = accepting_on(Away())
    peer = await join(await serving(server))
    await peer.send(data={"id": "1"}, op=2)
    assert await peer.closed() == 1013
    assert [frame["op"] for frame in peer.frames] == [10]


async def test_a_backend_is_none_a_uri_or_a_backend() -> None:
    with pytest.raises(InvalidSettings, match="backend: expected None, a MemoryHub, a Backend, or redis://"):
        Server(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["uri", "mapping", "list", "client"])
async def test_redis_is_given_in_any_form(redis_url: str, namespace: str, form: str) -> None:
    parts = urlsplit(redis_url)
    address = {"host": parts.hostname, "port": parts.port}
    given: Any = {
        "uri": redis_url,
        "mapping": address,
        "list": [parts.port, parts.hostname, {"db": 0}],
        "client": Redis(**address),  # type: ignore[arg-type]
    }[form]
    server = Server(given, namespace=namespace)
    server.authenticator(lambda data, connection: User(data["id"]))
    async with serve(server) as endpoint, Peer.connect(endpoint.url) as peer:
        await peer.authenticate("1")
        async with AsyncDispatcher(given, namespace=namespace) as dispatcher:
            assert await dispatcher.presence.online(["1"]) == {"1": 1}
            await dispatcher.dispatch(Message(0, "hi", "HI"), ["1"])
        assert (await peer.until(t="HI"))["d"] == "hi"


async def test_an_endpoint_says_wss_where_tls_is_on() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    async with serve(accepting(), path="/ws", ssl=context) as endpoint:
        assert endpoint.url == f"wss://127.0.0.1:{endpoint.port}/ws"


@pytest.mark.parametrize(
    ("setup", "heard"),
    [
        ("", r"mesa [\d.]+: clients at ws://127\.0\.0\.1:\d+/ws"),
        ("logging.basicConfig(level='INFO', format='LOG %(message)s')", r"LOG clients at ws://\S+/ws"),
        ("logging.basicConfig(level='WARNING')", ""),
    ],
    ids=["no logging", "at INFO", "at WARNING"],
)
async def test_run_says_where_it_listens(setup: str, heard: str) -> None:
    program = textwrap.dedent(f"""
        import asyncio, logging, os, signal
        from contextlib import asynccontextmanager
        from mesa_ws import Server
        {setup}
        server = Server()
        @asynccontextmanager
        async def end_at_once():
            asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGTERM)
            yield
        server.run("127.0.0.1", 0, end_at_once(), path="/ws")
    """)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(LIMIT):
        _, said = await process.communicate()
    told = [line for line in said.decode().splitlines() if "clients at" in line]
    assert process.returncode == 0
    assert [bool(re.fullmatch(heard, line)) for line in told] == ([True] if heard else [])


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
async def test_run_stops_cleanly_on_a_signal(signum: signal.Signals) -> None:
    program = textwrap.dedent("""
        import sys
        from contextlib import asynccontextmanager
        from mesa_ws.transports.run import Server
        server = Server()
        @server.on_disconnection
        async def ended(connection, code, reason):
            print("closed with", code, flush=True)
        @asynccontextmanager
        async def announce():
            print("ready", flush=True)
            yield
        server.run("127.0.0.1", int(sys.argv[1]), announce())
        print("stopped", flush=True)
    """)
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(port), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(LIMIT):
            assert await process.stdout.readline() == b"ready\n"
            async with Peer.connect(f"ws://127.0.0.1:{port}") as peer:
                await peer.receive()
                process.send_signal(signum)
                assert await peer.closed() == 1001
            assert await process.stdout.read() == b"closed with 1001\nstopped\n"
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()


async def test_a_plain_handler_that_never_returns_does_not_keep_a_server_that_was_told_to_stop() -> None:
    program = textwrap.dedent("""
        import threading
        from mesa_ws import Server
        from mesa_ws.server import node
        node.GRACE = 0.2
        server = Server()
        @server.on_connection
        def connected(connection):
            print("begun", flush=True)
            threading.Event().wait()
        server.run("127.0.0.1", 0, on_start=lambda endpoint: print(endpoint.url, flush=True))
    """)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(LIMIT):
            url = (await process.stdout.readline()).decode().strip()
            async with Peer.connect(url):
                assert await process.stdout.readline() == b"begun\n"
                process.terminate()
                assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()


def accepting_on(backend: object) -> Server:
    server = Server(backend)  # type: ignore[arg-type]
    server.authenticator(lambda data, connection: User(data["id"]))
    return server


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        ("", ["(5000, 2, 500) True", "(700, 10, 10) False"]),
        ("gc_threshold=1000", ["(1000, 2, 500) True", "(700, 10, 10) False"]),
        ("gc_threshold=None", ["(700, 10, 10) False", "(700, 10, 10) False"]),
    ],
)
async def test_run_makes_the_garbage_collector_run_rarely(arguments: str, lines: list[str]) -> None:
    program = textwrap.dedent(f"""
        import gc, os, signal
        from mesa_ws import Server
        gc.set_threshold(700, 10, 10)
        def tell(*_):
            print(gc.get_threshold(), gc.get_freeze_count() > 0, flush=True)
        def begin(endpoint):
            tell()
            os.kill(os.getpid(), signal.SIGTERM)
        Server().run(port=0, on_start=begin, {arguments})
        tell()
    """)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(LIMIT):
        told, _ = await process.communicate()
    assert told.decode().splitlines() == lines


@pytest.mark.parametrize("value", [0, "many", 1.5])
def test_run_refuses_a_threshold_that_is_none(value: object) -> None:
    with pytest.raises(InvalidSettings, match="gc_threshold: expected an integer from 1 to 2147483648"):
        Server().run(port=0, gc_threshold=value)  # type: ignore[arg-type]
