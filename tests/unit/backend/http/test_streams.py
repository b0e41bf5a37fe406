"""Connections of the HTTP bus for asyncio."""

import asyncio
import ssl

import httpcore
import pytest

from mesa_ws.backend.http.streams import AsyncioBackend


class Peer(asyncio.Protocol):
    """Accepts connections, and notes when they end."""

    def __init__(self, ended: asyncio.Event) -> None:
        self._ended = ended

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended.set()


@pytest.mark.parametrize(
    ("error", "raised"), [(asyncio.CancelledError, asyncio.CancelledError), (OSError, httpcore.ConnectError)]
)
async def test_a_handshake_that_ends_without_tls_closes_its_connection_at_once(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException], raised: type[BaseException]
) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    server = await loop.create_server(lambda: Peer(ended), "127.0.0.1", 0)
    async with server:
        stream = await AsyncioBackend().connect_tcp(*server.sockets[0].getsockname())

        async def start_tls(*_: object, **__: object) -> None:
            raise error  # and closes nothing, as where the handshake has just been done

        monkeypatch.setattr(loop, "start_tls", start_tls)
        with pytest.raises(raised):
            await stream.start_tls(ssl.create_default_context())
        async with asyncio.timeout(10):
            await ended.wait()
