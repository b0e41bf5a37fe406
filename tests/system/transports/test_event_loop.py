"""Event loops that look up names in threads of their own, on asyncio and on uvloop."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mesa_ws.transports.event_loop import PlainLoop, new_event_loop, own_event_loop
from tests.certificates import make_certificate, server_side

both = pytest.mark.parametrize("make", [PlainLoop, new_event_loop])


class Names:
    """A resolver in place of the system's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
        self.asked: list[str] = []
        self._addresses = addresses
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def _look_up(self, host: str, port: int, *_: object, **__: object) -> list[Any]:
        self.asked.append(host)
        kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*kind, (address, port)) for address in self._addresses]


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello\n")
    await writer.drain()
    writer.close()


@both
def test_the_addresses_of_a_name_are_tried_in_turn(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], PlainLoop]
) -> None:
    names = Names(monkeypatch, "127.0.0.2", "127.0.0.1")

    async def main() -> bytes:
        async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("somewhere.invalid", port)
            line = await reader.readline()
            writer.close()
            return line

    with own_event_loop(make) as loop:
        assert loop.run_until_complete(main()) == b"hello\n"
    assert "somewhere.invalid" in names.asked


@both
def test_a_name_is_checked_against_the_certificate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Callable[[], PlainLoop]
) -> None:
    Names(monkeypatch, "127.0.0.1")
    certificate = make_certificate(
        tmp_path / "server.pem"
    )  # the certificate is for the address, not for the name
    ours = ssl.create_default_context(cafile=certificate)

    async def reach(port: int, host: str) -> bytes:
        reader, writer = await asyncio.open_connection(host, port, ssl=ours)
        line = await reader.readline()
        writer.close()
        return line

    async def main() -> None:
        async with await asyncio.start_server(greet, "127.0.0.1", 0, ssl=server_side(certificate)) as server:
            port = server.sockets[0].getsockname()[1]
            assert await reach(port, "127.0.0.1") == b"hello\n"
            with pytest.raises(ssl.SSLCertVerificationError, match=r"not valid for 'somewhere\.invalid'"):
                await reach(port, "somewhere.invalid")

    with own_event_loop(make) as loop:
        loop.run_until_complete(main())


@both
def test_what_threads_have_begun_is_finished(make: Callable[[], PlainLoop]) -> None:
    is_over, done = threading.Event(), list[int]()

    def work() -> None:
        is_over.wait()
        done.append(1)

    async def main() -> None:
        asyncio.get_running_loop().run_in_executor(None, work)
        asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, is_over.set)

    with own_event_loop(make) as loop:
        loop.run_until_complete(main())
    assert done == [1]
