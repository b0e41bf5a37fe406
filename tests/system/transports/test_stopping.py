"""Servers and portals end when they are stopped, whatever their handlers do."""

import asyncio
import signal
import sys
import textwrap
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Self

import pytest

from mesa_ws.portal.event import PortalEvent
from mesa_ws.settings import Wire
from mesa_ws.transports.run import Portal, Server, serve
from tests.system.server.peer import LIMIT, Peer

SERVER = """
    import asyncio, logging, socket, threading
    from mesa_ws import Server
    from mesa_ws.server import event_loop as work, node, registrations
    from mesa_ws.transports import event_loop, run

    logging.basicConfig()
    node.GRACE = run.LIMIT = 0.3
    for module in (registrations, work, event_loop, run):
        module.CANCEL_GRACE = event_loop.THREAD_GRACE = 0.1

    async def never_ends(*_):
        print("begun", flush=True)
        while True:
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                pass

    def hangs(*_):
        print("begun", flush=True)
        threading.Event().wait()
"""

PORTAL = """
    import sys
    from mesa_ws import Portal
    from mesa_ws.portal import native, worker
    from mesa_ws.transports import run

    worker.GRACE = native.PATIENCE = 0.2
    run.PORTAL_LIMIT = 2.0
    url, namespace, wire, sees_all = sys.argv[1:]
    portal = Portal(url, namespace=namespace, wire=wire, report_all_events=sees_all == "all")
"""

RUN_PORTAL = """
    portal.run(lambda: print("up", flush=True))
    print("stopped", flush=True)
"""

STUBBORN_PORTALS = {
    "async def": "portal.on_connection(never_ends)",
    "def": "portal.on_connection(hangs)",
    "executor": "portal.on_connection(lambda event: asyncio.to_thread(hangs))",
}

RUN = """
    server.run("127.0.0.1", 0, on_start=lambda endpoint: print(endpoint.url, flush=True))
    print("stopped", flush=True)
"""

STUBBORN = {
    "async def": """
        server = Server()
        server.on_connection(never_ends)
    """,
    "def": """
        server = Server()
        server.on_connection(hangs)
    """,
    "on_stop": """
        server = Server()
        server.on_connection(lambda connection: print("begun", flush=True))
        server.on_stop(never_ends)
    """,
    "executor": """
        server = Server()
        @server.on_connection
        async def connected(connection):
            await asyncio.to_thread(hangs)
    """,
    "task of its own": """
        server, tasks = Server(), []
        @server.on_connection
        async def connected(connection):
            tasks.append(asyncio.create_task(never_ends()))
    """,
    "asynchronous generator": """
        server, kept = Server(), []
        async def forever():
            try:
                yield
            finally:
                await never_ends()
        @server.on_connection
        async def connected(connection):
            kept.append(forever())
            await anext(kept[0])
            print("begun", flush=True)
    """,
}


class Process:
    """A Python program that prints its progress."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @asynccontextmanager
    async def of(cls, *parts: str, arguments: Sequence[str] = ()) -> AsyncIterator[Self]:
        program = "\n".join(map(textwrap.dedent, parts))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program, *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield cls(process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def line(self) -> str:
        assert self._process.stdout is not None
        async with asyncio.timeout(LIMIT):
            return (await self._process.stdout.readline()).decode().strip()

    async def stop(self, signum: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """Send a signal; return the exit code and the rest of stdout and stderr."""
        self._process.send_signal(signum)
        return await self.ended()

    async def ended(self) -> tuple[int, str, str]:
        """Wait until the program ends by itself; return the same values."""
        async with asyncio.timeout(LIMIT):
            out, err = await self._process.communicate()
            return await self._process.wait(), out.decode(), err.decode()


@pytest.mark.parametrize("kind", STUBBORN)
async def test_a_server_ends_whatever_goes_on_in_it_and_says_what(kind: str) -> None:
    async with Process.of(SERVER, STUBBORN[kind], RUN) as process, Peer.connect(await process.line()):
        assert await process.line() == "begun"
        code, out, err = await process.stop()
    assert (code, out.splitlines()[-1]) == (0, "stopped")
    assert "left behind: " in err
    place = {"def": "hangs", "executor": "hangs", "asynchronous generator": "forever"}.get(kind, "never_ends")
    assert f"{place} (<string>:" in err
    assert "Task was destroyed" not in err


async def test_a_service_that_does_not_end_keeps_no_server() -> None:
    service = """
        server = Server()
        class Service:
            async def __aenter__(self):
                pass
            async def __aexit__(self, *raised):
                await never_ends()
        server.run("127.0.0.1", 0, Service(), on_start=lambda endpoint: print(endpoint.url, flush=True))
    """
    async with Process.of(SERVER, service) as process:
        assert (await process.line()).startswith("ws://")
        code, out, err = await process.stop()
    assert (code, out) == (0, "begun\n")
    assert "left behind: Service.__aexit__ (<string>:" in err


@pytest.mark.parametrize(
    ("kind", "wire", "sees"),
    [
        ("async def", "native", "own"),
        ("async def", "native", "all"),
        ("async def", "mesa1", "own"),
        ("def", "native", "own"),
        ("executor", "native", "own"),
    ],
)
async def test_a_portal_ends_whatever_goes_on_in_it_and_says_what(
    redis_url: str, namespace: str, kind: str, wire: Wire, sees: str
) -> None:
    arguments = (redis_url, namespace, wire, sees)
    server = Server(redis_url, namespace=namespace, wire=wire, portals=True)
    async with (
        Process.of(SERVER, PORTAL, STUBBORN_PORTALS[kind], RUN_PORTAL, arguments=arguments) as process,
        serve(server) as endpoint,
    ):
        assert await process.line() == "up"
        async with Peer.connect(endpoint.url):
            assert await process.line() == "begun"
            code, out, err = await process.stop()
    assert (code, out) == (0, "stopped\n")
    assert "left behind: " in err
    assert f"{'never_ends' if kind == 'async def' else 'hangs'} (<string>:" in err


STARTING = {
    "server": """
        from mesa_ws.backend.redis import RedisBackend
        Server(RedisBackend(f"redis://{sys.argv[1]}", timeout=600)).run("127.0.0.1", 0)
    """,
    "server on the wire of 1.x": """
        from mesa_ws.backend.mesa1 import Mesa1Backend
        Server(Mesa1Backend(f"redis://{sys.argv[1]}", timeout=600), wire="mesa1").run("127.0.0.1", 0)
    """,
    "portal": """
        from mesa_ws import Portal
        Portal(f"redis://{sys.argv[1]}", timeout=600).run()
    """,
    "portal on the wire of 1.x": """
        from mesa_ws import Portal
        Portal(f"redis://{sys.argv[1]}", timeout=600, wire="mesa1").run()
    """,
    "tail": """
        from mesa_ws.cli import main
        main(["tail", "--url", f"ws://{sys.argv[1]}"], standalone_mode=False)
    """,
}

LOOKUP = """
    import sys

    def looks_up(host, *_, **__):
        print("looking up", host, flush=True)
        threading.Event().wait()

    if not sys.argv[1][0].isdigit():
        socket.getaddrinfo = looks_up
"""


@pytest.mark.parametrize("kind", STARTING)
async def test_a_signal_is_heeded_while_the_first_connection_hangs(kind: str) -> None:
    came, gone = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        await gone.wait()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as listener:
        host, port = listener.sockets[0].getsockname()
        async with Process.of(SERVER, LOOKUP, STARTING[kind], arguments=[f"{host}:{port}"]) as process:
            async with asyncio.timeout(LIMIT):
                await came.wait()
            code, _, err = await process.stop()
        gone.set()
    assert (code, err) == (0, "")


@pytest.mark.parametrize("kind", ["server", "portal", "tail"])
async def test_a_signal_is_heeded_while_a_name_is_looked_up(kind: str) -> None:
    async with Process.of(SERVER, LOOKUP, STARTING[kind], arguments=["somewhere.invalid:1"]) as process:
        assert await process.line() == "looking up somewhere.invalid"
        code, _, err = await process.stop()
    assert code == 0
    assert "Traceback" not in err
    assert "looks_up (<string>:" in err


async def test_a_signal_is_heeded_while_the_host_to_listen_on_is_looked_up() -> None:
    listening = """
        Server().run(sys.argv[1], 0)
    """
    async with Process.of(SERVER, LOOKUP, listening, arguments=["somewhere.invalid"]) as process:
        assert await process.line() == "looking up somewhere.invalid"
        code, _, err = await process.stop()
    assert code == 0
    assert "looks_up (<string>:" in err


LEAVING = """
    @server.on_stop
    async def stop():
        await asyncio.sleep(0.01)
        print("on_stop", flush=True)

    @server.on_disconnection
    async def disconnected(connection, code, reason):
        await asyncio.sleep(0.01)
        print("disconnected", code, flush=True)
"""


async def test_a_handler_that_exits_stops_its_server_in_order() -> None:
    exits = """
        import sys
        server = Server()
        node.GRACE = run.LIMIT = 10.0

        @server.on_message("EXIT")
        async def leave(message, connection):
            sys.exit(3)
    """
    async with Process.of(SERVER, exits, LEAVING, RUN) as process:
        url = await process.line()
        async with Peer.connect(url) as peer, Peer.connect(url) as other:
            await peer.send("EXIT")
            assert await other.closed() == 1001
            code, out, err = await process.ended()
    assert (code, out) == (3, "on_stop\n" + 2 * "disconnected 1001\n")
    assert "left behind" not in err


async def test_a_handler_that_exits_hands_over_what_its_portal_works_on(
    redis_url: str, namespace: str
) -> None:
    exits = """
        @portal.on_message("EXIT")
        async def leave(event):
            sys.exit(3)
    """
    arguments = (redis_url, namespace, "native", "own")
    server = Server(redis_url, namespace=namespace, portals=True)
    handled = asyncio.Queue[int]()
    next_portal = Portal(redis_url, namespace=namespace)

    @next_portal.on_message("EXIT")
    async def handle(event: PortalEvent) -> None:
        handled.put_nowait(event.deliveries)

    async with (
        Process.of(SERVER, PORTAL, exits, RUN_PORTAL, arguments=arguments) as process,
        serve(server) as endpoint,
        Peer.connect(endpoint.url) as peer,
    ):
        assert await process.line() == "up"
        await peer.send("EXIT")
        code, _, err = await process.ended()
        async with asyncio.timeout(LIMIT), next_portal:
            assert await handled.get() == 2
    assert code == 3
    assert "left behind" not in err
