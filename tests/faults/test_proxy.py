"""The faults that the proxy claims to inject are injected."""

import asyncio
from collections.abc import AsyncIterator
from random import Random

import pytest

from .chaos.proxy import Proxy
from .chaos.run import until

LIMIT = 30.0

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def heard() -> list[bytes]:
    """Bytes that reached the server."""
    return []


@pytest.fixture
async def proxy(heard: list[bytes]) -> AsyncIterator[Proxy]:
    """A proxy to a server that echoes each piece, and answers an end with `end`."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1000):
                heard.append(data)
                writer.write(data)
            heard.append(b"end")
            writer.write(b"end")
        except OSError:
            heard.append(b"cut")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, Proxy(Random(0), server.sockets[0].getsockname()[1]).listening() as proxy:
        yield proxy


@pytest.fixture
async def stream(proxy: Proxy) -> AsyncIterator[Stream]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    assert await said(reader, writer, b"hello") == b"hello"
    yield reader, writer
    writer.transport.abort()


async def said(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bytes:
    """Return the reply to `data`."""
    writer.write(data)
    async with asyncio.timeout(LIMIT):
        return await reader.read(1000)


async def test_a_cut_ends_both_sides(proxy: Proxy, stream: Stream, heard: list[bytes]) -> None:
    proxy.cut()
    assert await stream[0].read() == b""
    assert await until(lambda: heard[-1] in {b"cut", b"end"}, LIMIT)


async def test_what_is_swallowed_was_carried_out(proxy: Proxy, stream: Stream, heard: list[bytes]) -> None:
    [passage] = proxy.passages
    passage.back.is_swallowing = True
    stream[1].write(b"do it")
    assert await until(lambda: heard[-1] == b"do it", LIMIT)
    proxy.heal()
    assert await stream[0].read() == b""


async def test_a_half_closed_way_still_leads_there(proxy: Proxy, stream: Stream, heard: list[bytes]) -> None:
    [passage] = proxy.passages
    passage.back.end()
    assert await stream[0].read() == b""
    stream[1].write(b"still there")
    assert await until(lambda: heard[-1] == b"still there", LIMIT)


async def test_a_stalled_reader_gets_everything_later(
    proxy: Proxy, stream: Stream, heard: list[bytes]
) -> None:
    [passage] = proxy.passages
    passage.back.flows.clear()
    stream[1].write(b"late")
    assert await until(lambda: heard[-1] == b"late", LIMIT)
    proxy.heal()
    async with asyncio.timeout(LIMIT):
        assert await stream[0].read(1000) == b"late"


async def test_an_end_is_passed_on(stream: Stream) -> None:
    stream[1].write_eof()
    async with asyncio.timeout(LIMIT):
        assert await stream[0].read() == b"end"


async def test_who_is_down_lets_nobody_through(proxy: Proxy, heard: list[bytes]) -> None:
    proxy.is_down = True
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    with pytest.raises(OSError, match="reset"):
        await said(reader, writer, b"hello")
    assert heard == []


async def test_who_is_barred_is_kept_out_and_others_are_not(proxy: Proxy, stream: Stream) -> None:
    streams = [
        await asyncio.open_connection("127.0.0.1", proxy.port, local_addr=("127.0.0.2", 0)) for _ in "ab"
    ]
    assert [await said(*each, b"hello") for each in streams] == [b"hello"] * 2
    proxy.bar("127.0.0.2")
    assert [await reader.read() for reader, _ in streams] == [b""] * 2
    streams.append(await asyncio.open_connection("127.0.0.1", proxy.port, local_addr=("127.0.0.2", 0)))
    with pytest.raises(OSError, match="reset"):
        await said(*streams[-1], b"hello")
    assert await said(*stream, b"still here") == b"still here"
    proxy.heal()
    streams.append(await asyncio.open_connection("127.0.0.1", proxy.port, local_addr=("127.0.0.2", 0)))
    assert await said(*streams[-1], b"hello") == b"hello"
    for _, writer in streams:
        writer.transport.abort()


async def test_of_several_targets_one_that_accepts_is_taken(proxy: Proxy) -> None:
    async with Proxy(Random(0), 1, proxy.port, 2).listening() as chooser:
        reader, writer = await asyncio.open_connection("127.0.0.1", chooser.port)
        assert await said(reader, writer, b"hello") == b"hello"
        writer.transport.abort()
