"""A client of a server that speaks TLS."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesa_ws.client import Client
from mesa_ws.errors import ConnectFailed
from mesa_ws.transports.run import Endpoint, Server, serve
from tests.certificates import server_side

from .scripted import message


@pytest.fixture
async def secure(server: Server, certificate: Path) -> AsyncIterator[Endpoint]:
    """Where the server listens with TLS."""
    async with serve(server, ssl=server_side(certificate)) as endpoint:
        yield endpoint


@pytest.fixture
def trust(certificate: Path) -> ssl.SSLContext:
    """Trusts that certificate."""
    return ssl.create_default_context(cafile=str(certificate))


async def test_messages_go_both_ways(secure: Endpoint, trust: ssl.SSLContext) -> None:
    async with Client(secure.url, ssl=trust) as client:
        assert await client.authenticate({"id": "1"})
        await client.send(message("ECHO", "x" * 100_000))
        assert (await anext(client)).data == "x" * 100_000


async def test_a_certificate_that_nobody_vouches_for_is_refused(secure: Endpoint) -> None:
    with pytest.raises(ConnectFailed, match="its certificate cannot be trusted: self-signed certificate"):
        await Client(secure.url).connect()


async def test_a_client_certificate_that_is_demanded_is_said(
    server: Server, certificate: Path, trust: ssl.SSLContext
) -> None:
    context = server_side(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    async with serve(server, ssl=context) as endpoint:
        with pytest.raises(ConnectFailed, match=r"it (demands|may demand) a client certificate"):
            await Client(endpoint.url, ssl=trust).connect()


async def test_a_server_without_tls_is_refused(trust: ssl.SSLContext) -> None:
    async def speak_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(speak_http, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectFailed, match="TLS failed: WRONG_VERSION_NUMBER"):
            await Client(f"wss://127.0.0.1:{port}", ssl=trust).connect()


async def test_a_server_that_hangs_up_in_the_handshake_is_told_as_such(
    trust: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectFailed, match="the server hung up during the handshake"):
            await Client(f"wss://127.0.0.1:{port}", ssl=trust).connect()
    assert not caplog.records


async def test_a_silent_server_is_given_up_in_the_handshake(trust: ssl.SSLContext) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10_000)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectFailed, match="no answer within"):
            await Client(f"wss://127.0.0.1:{port}", ssl=trust, limits={"connect_timeout": 0.1}).connect()
