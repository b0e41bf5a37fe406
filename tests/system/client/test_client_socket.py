"""The client's side of RFC 6455: frames, and the closing handshake."""

import asyncio
from typing import NamedTuple

import pytest
from websockets.exceptions import ConnectionClosed as PeerClosed

from mesa_ws.client import Client, ClientLimits
from mesa_ws.errors import ConnectionClosed
from mesa_ws.transports.client_socket import ClientSocket, ServerAddress, connect

from .conftest import meet
from .scripted import BINARY, CLOSE, CONTINUATION, LIMIT, PING, TEXT, ScriptedServer, frame

SMALL = ClientLimits(max_message=100, max_fragments=3, close_timeout=0.2)


class Broken(NamedTuple):
    """Bytes that break a rule, and the code with which the client has to leave."""

    data: bytes
    code: int


BROKEN = {
    "reserved bit": Broken(frame(TEXT, b"{}", reserved=4), 1002),
    "reserved opcode": Broken(frame(3, b""), 1002),
    "masked": Broken(frame(TEXT, b"{}", mask=b"\0\0\0\0"), 1002),
    "fragmented control": Broken(frame(PING, b"", fin=False), 1002),
    "long control": Broken(frame(PING, b"x" * 126), 1002),
    "continuation of nothing": Broken(frame(CONTINUATION, b"{}"), 1002),
    "message inside a message": Broken(frame(TEXT, b"{", fin=False) + frame(TEXT, b"{}"), 1002),
    "too long": Broken(frame(TEXT, b"x" * 101), 1009),
    "too long in fragments": Broken(frame(TEXT, b"x" * 60, fin=False) + frame(CONTINUATION, b"x" * 60), 1009),
    "too many fragments": Broken(frame(TEXT, b"", fin=False) + 2 * frame(CONTINUATION, b"", fin=False), 1009),
    "reserved close code": Broken(frame(CLOSE, (1006).to_bytes(2)), 1002),
    "close code 0": Broken(frame(CLOSE, bytes(2)), 1002),
    "close code that has no use": Broken(frame(CLOSE, (5000).to_bytes(2)), 1002),
    "close frame of one byte": Broken(frame(CLOSE, b"x"), 1002),
    "close reason that is no text": Broken(frame(CLOSE, (1000).to_bytes(2) + b"\xff"), 1007),
}


async def ended(client: Client) -> tuple[int, str]:
    """How a client that does not come back has ended."""
    async with asyncio.timeout(LIMIT):
        with pytest.raises(ConnectionClosed) as raised:
            await client.wait_closed()
        await client.aclose()
    return raised.value.code, raised.value.reason


@pytest.mark.parametrize("first", [TEXT, BINARY])
async def test_fragments_are_joined_around_a_ping(scripted: ScriptedServer, first: int) -> None:
    client = scripted.client()
    guest = await meet(scripted, client)
    guest.write(frame(first, b'{"op":', fin=False))
    guest.write(frame(PING, b"between"))
    guest.write(frame(CONTINUATION, b'0,"t"', fin=False))
    guest.write(frame(CONTINUATION, b':"JOINED"}'))
    assert (await anext(client)).type == "JOINED"


async def test_binary_frames_are_read_as_text(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client)
    guest.write(frame(BINARY, b'{"op":0,"t":"BINARY"}'))
    assert (await anext(client)).type == "BINARY"


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
async def test_a_broken_rule_ends_the_connection_with_its_code(
    scripted: ScriptedServer, broken: Broken, caplog: pytest.LogCaptureFixture
) -> None:
    client = scripted.client(SMALL)
    guest = await meet(scripted, client)
    guest.write(broken.data)
    assert (await guest.closed())[0] == broken.code
    assert (await ended(client))[0] == broken.code
    assert {record.levelname for record in caplog.records} == {"WARNING"}


async def test_what_follows_a_broken_rule_is_dropped(scripted: ScriptedServer) -> None:
    client = scripted.client(SMALL, reconnect=False)
    guest = await meet(scripted, client)
    guest.write(frame(TEXT, b'{"op":0}', reserved=4) + frame(TEXT, b'{"op":0,"t":"AFTER"}'))
    with pytest.raises(ConnectionClosed):
        await anext(client)


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1013, 3000, 4000, 4999])
async def test_the_code_and_the_reason_of_the_server_are_told(scripted: ScriptedServer, code: int) -> None:
    client = scripted.client(reconnect=False)
    guest = await meet(scripted, client)
    await guest.close(code, "because")
    assert guest.socket.close_code == code
    assert await ended(client) == (code, "because")


async def test_an_empty_close_frame_is_told_as_1005_and_answered_in_kind(scripted: ScriptedServer) -> None:
    client = scripted.client(reconnect=False)
    guest = await meet(scripted, client)
    guest.write(frame(CLOSE, b""))
    with pytest.raises(PeerClosed) as raised:
        await guest.socket.recv()
    assert raised.value.rcvd is not None
    assert raised.value.rcvd.code == 1005
    assert await ended(client) == (1005, "")


async def test_a_cut_is_told_as_1006(scripted: ScriptedServer) -> None:
    client = scripted.client(reconnect=False)
    guest = await meet(scripted, client)
    guest.cut()
    assert await ended(client) == (1006, "")


async def test_closing_says_goodbye(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client)
    closing = asyncio.create_task(client.aclose())
    assert await guest.closed() == (1000, "")
    await closing


async def test_a_server_that_keeps_the_socket_open_is_cut_off(scripted: ScriptedServer) -> None:
    client = scripted.client(ClientLimits(close_timeout=60), reconnect=False)
    guest = await meet(scripted, client)
    guest.socket.transport.pause_reading()  # so that it sees no answer, and waits for it
    guest.write(frame(CLOSE, (1000).to_bytes(2)))
    assert await ended(client) == (1000, "")


async def test_a_server_that_does_not_answer_the_goodbye_is_cut_off(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client)
    guest.socket.transport.pause_reading()
    async with asyncio.timeout(LIMIT):
        await client.aclose()
    assert not client.is_connected


async def test_cancelling_the_goodbye_cuts_the_connection(scripted: ScriptedServer) -> None:
    client = scripted.client(ClientLimits(close_timeout=60))
    guest = await meet(scripted, client)
    guest.socket.transport.pause_reading()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await client.aclose()
    async with asyncio.timeout(LIMIT):
        await client.aclose()
    guest.socket.transport.resume_reading()
    await guest.closed()


async def test_messages_after_the_goodbye_are_dropped(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client)
    closing = asyncio.create_task(client.aclose())
    await asyncio.sleep(0)
    guest.write(frame(TEXT, b'{"op":0,"t":"LATE"}'))
    await guest.closed()
    await closing
    with pytest.raises(StopAsyncIteration):
        await anext(client)


class Buggy:
    """Uses a connection, and fails at a message."""

    def opened(self, websocket: ClientSocket) -> None:
        """Expect it."""

    def heard(self) -> None:
        """Ignore it."""

    def message(self, payload: bytes) -> None:
        raise LookupError("a bug")


async def test_a_bug_of_ours_ends_the_connection_and_is_logged(
    scripted: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    connecting = asyncio.create_task(
        connect(ServerAddress.of(scripted.url, None, None), Buggy(), ClientLimits())
    )
    guest = await scripted.visitor()
    websocket = await connecting
    await guest.dispatch("MESSAGE")
    async with asyncio.timeout(LIMIT):
        assert (await websocket.ended).code == 1011
    assert "a bug in the client ended its connection" in caplog.text


async def test_nothing_can_be_written_after_the_goodbye(scripted: ScriptedServer) -> None:
    connecting = asyncio.create_task(
        connect(ServerAddress.of(scripted.url, None, None), Buggy(), ClientLimits())
    )
    guest = await scripted.visitor()
    websocket = await connecting
    websocket.close(4000, "")
    websocket.write(b"LATE")
    websocket.ping()
    websocket.pause_reading()
    websocket.close(4001, "")
    with pytest.raises(PeerClosed) as raised:
        await guest.socket.recv()
    assert raised.value.rcvd is not None
    assert raised.value.rcvd.code == 4000
    async with asyncio.timeout(LIMIT):
        assert await websocket.ended == (4000, "")
    websocket.resume_reading()
    websocket.abort()
