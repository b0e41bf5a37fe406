"""What a client sends reaches picows whole and in order, a bounded number of frames in a turn."""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Self

import pytest
from picows import WSAutoPingStrategy, WSFrame, WSListener, WSMsgType, WSTransport
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # its stubs leave it out

from mesa_ws.protocol.fragments import DataFrame, Fragments
from mesa_ws.transports.frame_feed import FRAMES_AT_ONCE, MAX_HEAD, PART, READ_AT_ONCE, FrameFeed
from mesa_ws.transports.server_socket import accept

MAX_FRAME = 200_000
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


_sockets: list[socket.socket] = []


@pytest.fixture(autouse=True)
def closing_sockets() -> Iterator[None]:
    yield
    while _sockets:
        _sockets.pop().close()


class Socket(asyncio.Transport):
    """A transport that the test feeds, and that notes whether it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.is_read = True
        self.is_open = True
        self.written: list[bytes] = []
        self.file = socket.socket()  # picows sets options of it
        _sockets.append(self.file)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.file if name == "socket" else default

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    def is_closing(self) -> bool:
        return not self.is_open

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def abort(self) -> None:
        self.is_open = False

    def close(self) -> None:
        self.is_open = False

    def get_write_buffer_size(self) -> int:
        return 0


def _keep(transport: asyncio.Transport, data: bytes) -> bool:
    """Hand no connection over."""
    return False


class Client(WSListener):
    """A client's end of the test: what arrived of it, message by message."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, bytes]] = []
        self.frames = 0
        self.on_message: Callable[[], None] = lambda: None
        self.socket = Socket()
        self._fragments = Fragments(MAX_FRAME, 1000)
        self._kind = 0
        self.feed = FrameFeed(
            lambda _: self._protocol(), memoryview(bytearray(READ_AT_ONCE)), MAX_FRAME, _keep
        )
        self.feed.connection_made(self.socket)

    @classmethod
    def connected(cls) -> Self:
        client = cls()
        client.read(REQUEST)
        return client

    def read(self, data: bytes) -> None:
        """Let the socket read bytes."""
        self.feed.get_buffer(-1)[: len(data)] = data
        self.feed.buffer_updated(len(data))

    def end(self) -> None:
        """End the connection, and free its socket."""
        self.feed.connection_lost(None)
        _sockets.remove(self.socket.file)
        self.socket.file.close()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        if frame.msg_type in (WSMsgType.PING, WSMsgType.PONG, WSMsgType.CLOSE):
            self.frames += 1
            self.messages.append((frame.msg_type.value, payload))
            return
        is_continuation = frame.msg_type == WSMsgType.CONTINUATION
        if not is_continuation:
            self._kind = frame.msg_type.value
        self.frames += len(payload) < PART
        assert len(payload) <= PART
        whole = self._fragments.add(DataFrame(is_continuation, bool(frame.fin), payload))
        if whole is not None:
            self.messages.append((self._kind, whole))
            self.on_message()

    @property
    def buffer(self) -> int:
        """Bytes of picows' buffer that are free; all of them between two frames."""
        return len(self.feed.protocol.get_buffer(-1))

    def _protocol(self) -> WSProtocol:
        return WSProtocol(
            host_port=None,
            ws_path=None,
            is_client_side=False,
            ws_listener_factory=lambda request: accept(request, self),
            logger=logging.getLogger("test"),
            disconnect_on_exception=True,
            websocket_handshake_timeout=5,
            enable_auto_ping=False,
            auto_ping_idle_timeout=0,
            auto_ping_reply_timeout=0,
            auto_ping_strategy=WSAutoPingStrategy.PING_WHEN_IDLE,
            enable_auto_pong=False,
            max_frame_size=MAX_FRAME,
            extra_headers=None,
            read_buffer_init_size=2048,
        )


def framed(opcode: int, payload: bytes, mask: bytes = b"\1\2\3\4", *, fin: bool = True) -> bytes:
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65536:
        length = b"\xfe" + size.to_bytes(2)
    else:
        length = b"\xff" + size.to_bytes(8)
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes([fin << 7 | opcode]) + length + mask + masked


async def turns(count: int = 1) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


SIZES = (0, 1, 5, 125, 126, 1000, PART - 1, PART, PART + 1, 9000, 65535, 65536)


@pytest.mark.parametrize("seed", range(15))
async def test_every_message_arrives_whole_and_in_order_however_it_was_cut(seed: int) -> None:
    random = Random(seed)
    sent: list[tuple[int, bytes]] = []
    stream = b""
    for _ in range(random.randint(1, 150)):
        if random.random() < 0.2:
            opcode, payload = random.choice((0x9, 0xA)), random.randbytes(random.randint(0, 125))
        else:
            opcode, payload = (
                random.choice((1, 2)),
                random.randbytes(random.choice(SIZES[: random.randint(1, 12)])),
            )
        mask = random.randbytes(4)
        cut = random.randint(0, len(payload))
        if opcode < 8 and random.random() < 0.2:
            stream += framed(opcode, payload[:cut], mask, fin=False) + framed(0, payload[cut:], mask)
        else:
            stream += framed(opcode, payload, mask)
        sent.append((opcode, payload))
    client = Client()
    stream = REQUEST + stream
    while stream or not client.socket.is_read:
        if client.socket.is_read:
            size = random.choice((1, 2, 3, 7, 100, 5000, READ_AT_ONCE))
            client.read(stream[:size])
            stream = stream[size:]
        if random.random() < 0.1:
            client.feed.hold()
            await turns()
            client.feed.release()
        await turns()
    assert client.messages == sent
    assert client.buffer < 2 * PART


async def test_in_one_turn_a_bounded_number_of_frames_is_handled_and_then_the_others_have_theirs() -> None:
    flood, quiet = Client.connected(), Client.connected()
    flood.read(framed(1, b"{}") * 1000)
    assert flood.frames == FRAMES_AT_ONCE
    assert not flood.socket.is_read
    quiet.read(framed(1, b"hello"))
    assert quiet.messages == [(1, b"hello")]
    for turn in range(2, 1000 // FRAMES_AT_ONCE + 1):
        await turns()
        assert flood.frames == turn * FRAMES_AT_ONCE
    await turns()
    assert (flood.frames, flood.socket.is_read) == (1000, True)


async def test_what_was_read_waits_while_reading_is_paused() -> None:
    client = Client.connected()
    client.on_message = client.feed.hold
    client.read(framed(1, b"{}") * 1000)
    await turns(5)
    assert client.frames == FRAMES_AT_ONCE
    client.on_message = lambda: None
    client.feed.release()
    assert client.frames == FRAMES_AT_ONCE
    await turns(1000 // FRAMES_AT_ONCE + 1)
    assert (client.frames, client.socket.is_read) == (1000, True)


async def test_a_turn_that_was_planned_is_left_out_while_reading_is_paused() -> None:
    client = Client.connected()
    client.read(framed(1, b"{}") * 1000)
    client.feed.hold()
    await turns(5)
    assert client.frames == FRAMES_AT_ONCE


async def test_the_rest_of_a_head_that_looks_like_a_short_frame_is_none() -> None:
    client = Client.connected()
    frame = framed(1, b"hello", mask=bytes([0x80 | 4, 0, 0, 0]))
    client.read(frame[:1])
    client.read(frame[1:])
    assert client.messages == [(1, b"hello")]


async def test_bytes_that_the_transport_had_read_before_it_paused_wait_in_order() -> None:
    client = Client.connected()
    client.feed.hold()
    client.read(framed(1, b"first"))
    client.read(framed(1, b"second"))
    await turns(3)
    assert client.messages == []
    client.feed.release()
    await turns(3)
    client.read(framed(1, b"third"))
    assert [payload for _, payload in client.messages] == [b"first", b"second", b"third"]


async def test_the_buffer_stays_small_after_large_messages_and_floods() -> None:
    client = Client.connected()
    large = bytes(150_000)
    for data in (framed(1, large), framed(1, b"{}") * 5000, framed(2, large)):
        for at in range(0, len(data), READ_AT_ONCE):
            client.read(data[at : at + READ_AT_ONCE])
            await turns(200)
    assert len(client.messages) == 5002
    assert client.buffer < 2 * PART


async def test_a_frame_over_the_limit_is_refused_by_its_head_alone() -> None:
    client = Client.connected()
    client.read(framed(1, bytes(MAX_FRAME + 1))[:14])
    assert client.messages == []
    assert client.socket.written[-1][:1] == b"\x88"
    assert int.from_bytes(client.socket.written[-1][2:4]) == 1009


@pytest.mark.parametrize("size", [1, 3, 5, 200])
async def test_a_head_request_is_passed_on_as_the_get_of_which_it_asks_the_fields(size: int) -> None:
    client = Client()
    request = REQUEST.replace(b"GET ", b"HEAD ")
    for at in range(0, len(request), size):
        assert not client.feed.is_head
        client.read(request[at : at + size])
    assert client.feed.is_head
    assert client.socket.written[0].startswith(b"HTTP/1.1 101 ")


async def test_a_client_whose_head_does_not_end_is_cut_at_the_limit() -> None:
    client = Client()
    head = REQUEST[:-2] + b"X: " + b"x" * MAX_HEAD
    client.read(head[: MAX_HEAD - 1])
    assert client.socket.is_open
    client.read(head[MAX_HEAD - 1 :])
    assert not client.socket.is_open


async def test_nothing_is_passed_on_after_the_connection_was_closed() -> None:
    client = Client.connected()
    client.on_message = client.socket.close
    client.read(framed(1, bytes(1000)) * 60)
    await turns(30)
    assert len(client.messages) <= 2
