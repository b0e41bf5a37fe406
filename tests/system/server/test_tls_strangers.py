"""Connections to a TLS port that are no clients: none of them is an error of the server."""

import asyncio
import logging
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import aiofastnet
import pytest

from mesa_ws.transports import server_socket
from mesa_ws.transports.run import Endpoint, serve

from .conftest import Joining, Serving, accepting
from .peer import LIMIT, Peer

pytestmark = pytest.mark.native("TLS")

REFUSED = "one of the clients failed in the handshake"
RESET = struct.pack("ii", 1, 0)
"""For SO_LINGER: closing sends a RST."""

Stranger = Callable[[Endpoint], Awaitable[None]]


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
async def secure(serving: Serving, tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture) -> Endpoint:
    caplog.set_level(logging.DEBUG)
    return await serving(accepting(), ssl=tls)


def hello() -> bytes:
    """How a TLS client begins."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


async def say(endpoint: Endpoint, words: bytes, *, reset: bool = False) -> None:
    """Say something to the port and leave."""
    loop = asyncio.get_running_loop()
    with socket.socket() as stranger:
        stranger.setblocking(False)
        await loop.sock_connect(stranger, ("127.0.0.1", endpoint.port))
        await loop.sock_sendall(stranger, words)
        if reset:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


async def half_a_greeting(endpoint: Endpoint) -> None:
    await say(endpoint, hello()[:40])


async def half_a_handshake(endpoint: Endpoint) -> None:
    await say(endpoint, hello())


async def a_reset(endpoint: Endpoint) -> None:
    await say(endpoint, hello(), reset=True)


async def nothing(endpoint: Endpoint) -> None:
    await say(endpoint, b"")


async def plain_http(endpoint: Endpoint) -> None:
    await say(endpoint, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")


async def distrust(endpoint: Endpoint) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection("127.0.0.1", endpoint.port, ssl=ssl.create_default_context())


@pytest.mark.parametrize(
    "stranger", [half_a_greeting, half_a_handshake, a_reset, nothing, plain_http, distrust]
)
async def test_a_stranger_is_one_line_of_debug_and_the_next_client_is_served(
    secure: Endpoint,
    certificate: Path,
    join: Joining,
    caplog: pytest.LogCaptureFixture,
    stranger: Stranger,
) -> None:
    await stranger(secure)
    await until_logged(caplog, REFUSED)
    await join(secure, "1", ssl=ssl.create_default_context(cafile=str(certificate)))
    told = [record for record in caplog.records if record.name.startswith(("mesa_ws", "asyncio"))]
    assert [record.levelname for record in told if REFUSED in record.message] == ["DEBUG"]
    assert [record.message for record in told if record.levelno > logging.INFO or record.exc_info] == []


async def test_a_stranger_who_stays_silent_is_cut(
    secure: Endpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_socket, "HANDSHAKE_TIMEOUT", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", secure.port)
    writer.write(hello()[:40])
    async with asyncio.timeout(LIMIT):
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    await until_logged(caplog, REFUSED)
    assert [record.message for record in caplog.records if record.levelno > logging.INFO] == []


async def test_tls_and_http_have_one_deadline_together(
    secure: Endpoint, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After TLS no new time begins: the constant is very long by then, and the client is cut all the same."""
    connect = aiofastnet.connect_accepted_socket

    async def handshake_of_tls(*arguments: Any, **options: Any) -> Any:
        done = await connect(*arguments, **options)
        monkeypatch.setattr(server_socket, "HANDSHAKE_TIMEOUT", 3600.0)
        return done

    monkeypatch.setattr(server_socket, "HANDSHAKE_TIMEOUT", 1.0)
    monkeypatch.setattr(aiofastnet, "connect_accepted_socket", handshake_of_tls)
    trust = ssl.create_default_context(cafile=str(certificate))
    reader, writer = await asyncio.open_connection("127.0.0.1", secure.port, ssl=trust)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
    async with asyncio.timeout(LIMIT):
        assert await reader.read() == b""
    assert server_socket.HANDSHAKE_TIMEOUT == 3600
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("is_upgraded", [True, False])
async def test_a_reset_after_the_handshake_is_no_error_either(
    secure: Endpoint, certificate: Path, caplog: pytest.LogCaptureFixture, is_upgraded: bool
) -> None:
    trust = ssl.create_default_context(cafile=str(certificate))
    if is_upgraded:
        async with Peer.connect(secure.url, ssl=trust) as peer:
            await peer.receive()
            cut(peer.socket.transport)
    else:
        _, writer = await asyncio.open_connection("127.0.0.1", secure.port, ssl=trust)
        await until_logged(caplog, "New connection accepted")
        cut(writer.transport)
    await until_logged(caplog, "Disconnected")
    told = [record for record in caplog.records if record.name.startswith(("mesa_ws", "asyncio"))]
    assert [record.message for record in told if record.levelno > logging.INFO or record.exc_info] == []


def cut(transport: Any) -> None:
    """End a connection by a RST."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    transport.abort()


async def test_a_server_stops_while_a_stranger_hangs_in_the_handshake(tls: ssl.SSLContext) -> None:
    async with AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(serve(accepting(), ssl=tls))
        reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
        writer.write(hello()[:40])
        await writer.drain()
    with suppress(ConnectionResetError):
        async with asyncio.timeout(LIMIT):
            assert await reader.read() == b""
    writer.close()
    with suppress(ConnectionResetError):
        await writer.wait_closed()


async def until_logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    async with asyncio.timeout(LIMIT):
        while not any(text in record.getMessage() for record in caplog.records):
            await asyncio.sleep(0.005)
