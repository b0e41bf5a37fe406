"""Lower bound of a server over picows: the same bytes on the wire, with no other work.

With a Redis, it also delivers what is published there.
"""

import asyncio
import json
import sys
from typing import Any

import hiredis
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from .. import wire
from ..bare_redis import CHANNEL, address
from .orders import obey_orders, run

READ_BUFFER = 2048
BACKLOG = 4096

clients: dict[str, WSTransport] = {}


class Listener(WSListener):
    """Greets a client and remembers it by its id."""

    __slots__ = ("_id",)

    def on_ws_connected(self, transport: WSTransport) -> None:
        transport.send(WSMsgType.TEXT, wire.HELLO)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self._id = json.loads(frame.get_payload_as_bytes())["d"]["id"]
        clients[self._id] = transport
        transport.send(WSMsgType.TEXT, wire.acknowledgement(self._id))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        clients.pop(self._id, None)


class Subscriber(asyncio.Protocol):
    """Sends what Redis publishes to the recipient."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.write(f"SUBSCRIBE {CHANNEL}\r\n".encode())

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if reply[0] == b"message":
                id, _, body = reply[2].partition(b" ")
                clients[id.decode()].send(WSMsgType.TEXT, body)


async def everybody(messages: int, each: int = 1, **_: Any) -> None:
    for _turn in range(messages // each):
        if each == 1:
            body = wire.body()
            for transport in clients.values():
                transport.send(WSMsgType.TEXT, body)
        else:
            frames = b"".join(_frame(wire.body()) for _ in range(each))
            for transport in clients.values():
                transport.underlying_transport.write(frames)
        await asyncio.sleep(0)


async def single(messages: int, connections: int, **_: Any) -> None:
    for number in range(messages):
        clients[str(number % connections)].send(WSMsgType.TEXT, wire.body())
        await asyncio.sleep(0)


def _frame(body: bytes) -> bytes:
    return bytes([0x81, len(body)]) + body


def _listener(request: WSUpgradeRequest) -> Listener:
    return Listener()


async def main() -> None:
    if len(sys.argv) > 1:
        await asyncio.get_running_loop().create_connection(Subscriber, *address(sys.argv[1]))
    server = await ws_create_server(
        _listener, "127.0.0.1", 0, backlog=BACKLOG, read_buffer_init_size=READ_BUFFER
    )
    await obey_orders(server.sockets[0].getsockname()[1], {"everybody": everybody, "single": single})


run(main)
