"""A connection that has ended is freed at once: nothing of it waits for the garbage collector."""

import asyncio
import gc
import socket
import ssl
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from bench.attacks.neighbour import connected
from bench.wire import authentication, frame
from mesa_ws import Connection, Message, Server, Unanswered, User, serve
from mesa_ws.transports.run import Endpoint

from .peer import LIMIT

ROUNDS = 4

PACKAGES = ("mesa_ws.", "picows.", "aiofastnet.")

CLOSE = frame(b"\x03\xe8", opcode=8)


@pytest.fixture(params=["memory", "redis"])
def server(request: pytest.FixtureRequest, namespace: str) -> Server:
    """Return a server with every feature that keeps something for a connection."""
    place = [request.getfixturevalue("redis_url")] if request.param == "redis" else []
    server = Server(*place, namespace=namespace, sync=True, limits={"max_queued": 2}, presence={"grace": 0})

    @server.authenticator
    async def authenticate(data: Any, _: Connection) -> User:
        return User(data["id"])

    @server.on_message
    async def answer(message: Message, connection: Connection) -> Message:
        connection.send(Message(0, connection.state.__dict__, "SENT"))
        await asyncio.sleep(0)
        return Message(0, message.data, "PONG")

    @server.on_message("ASK_ME")
    async def ask(message: Message, connection: Connection) -> None:
        with suppress(Unanswered):
            await server.request("7", Message(0, None, "QUESTION"))

    @server.on_disconnection
    async def end(connection: Connection, code: int, reason: str) -> None:
        connection.disconnect()

    return server


def receive_until(client: socket.socket, text: bytes) -> None:
    received = b""
    while text not in received:
        more = client.recv(65_536)
        assert more
        received += more


def receive_all(client: socket.socket) -> None:
    with suppress(OSError):
        while client.recv(65_536):
            pass


def log_in(client: socket.socket) -> None:
    """Log in on wire 2 and use the connection: messages, requests, Pings, a full queue."""
    client.sendall(frame(b'{"op":2,"d":{"id":"7"},"x":{"v":2}}'))
    receive_until(client, b'"op":22')
    client.sendall(frame(b'{"op":0,"d":1,"t":"T"}') * 20 + frame(b"ping", opcode=9))
    client.sendall(frame(b'{"op":0,"d":2,"t":"T","x":{"r":"1"}}'))
    receive_until(client, b'"PONG"')
    client.sendall(frame(b'{"op":0,"d":2,"t":"ASK_ME"}'))
    receive_until(client, b'"QUESTION"')


def log_in_on_wire_1(client: socket.socket) -> None:
    client.sendall(authentication("8"))
    receive_until(client, b'"op":22')


def stay_a_guest(client: socket.socket) -> None:
    client.sendall(frame(b"", opcode=9))
    receive_until(client, b"\x8a")


def close(client: socket.socket) -> None:
    client.sendall(CLOSE)
    receive_all(client)


def be_closed(client: socket.socket) -> None:
    client.sendall(frame(b"no frame"))
    receive_until(client, b"\x88")
    client.sendall(CLOSE)
    receive_all(client)


def reset(client: socket.socket) -> None:
    """Leave at once: the caller resets the connection."""


def ask_nothing(endpoint: Endpoint) -> None:
    socket.create_connection((endpoint.host, endpoint.port)).close()


def ask_something_else(endpoint: Endpoint) -> None:
    with socket.create_connection((endpoint.host, endpoint.port)) as client, suppress(OSError):
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\n\r\n")
        receive_all(client)


def visit(endpoint: Endpoint, *, tls: bool) -> None:
    """Be every kind of client, one after another."""
    for begin in (log_in, log_in_on_wire_1, stay_a_guest):
        for end in (close, be_closed, reset):
            with connected(endpoint.port, tls=tls) as client:
                begin(client)
                end(client)
    ask_nothing(endpoint)
    ask_something_else(endpoint)


COUNTED = "mesa_ws.concurrency.limited_log._Counted"
"""A line of the log, which may be the first of its kind at any moment; it is no part of a connection."""


def alive() -> Counter[str]:
    """Count the objects of our classes, and of those below them, garbage included."""
    names = (f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())
    return Counter(name for name in names if name.startswith(PACKAGES) and name != COUNTED)


@contextmanager
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_nothing_of_a_connection_waits_for_the_collector(
    server: Server, certificate: Path, *, tls: bool
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    ended: list[weakref.ref[Connection]] = []

    @server.on_connection
    async def remember(connection: Connection) -> None:
        ended.append(weakref.ref(connection))

    async with serve(server, ssl=context if tls else None) as endpoint, asyncio.timeout(LIMIT):
        await asyncio.to_thread(visit, endpoint, tls=tls)  # what is made once is made now
        while server.connections:
            await asyncio.sleep(0.01)
        with without_collector():
            before = alive()
            ended.clear()
            for _ in range(ROUNDS):
                await asyncio.to_thread(visit, endpoint, tls=tls)
            with suppress(TimeoutError):
                async with asyncio.timeout(LIMIT / 3):
                    while [each for each in ended if each() is not None] or alive() - before:
                        await asyncio.sleep(0.05)
            assert len(ended) == ROUNDS * 9
            assert [each() for each in ended if each() is not None] == []
            assert alive() - before == Counter()
