"""The probes of clients that cannot send Pings: answered by the server, and shown to nothing else."""

import asyncio
from contextlib import suppress
from typing import Any

from mesa_ws.messages.message import Message
from mesa_ws.messages.recipients import User
from mesa_ws.server.connection import Connection
from mesa_ws.transports.run import Server

from .conftest import Joining, Serving, accepting
from .peer import LIMIT, Peer, RawPeer

SIGN_OF_LIFE = {"op": 11, "d": {}, "x": {"a": "7"}}


async def probe(peer: Peer) -> None:
    await peer.raw('{"op":1,"d":{},"x":{"r":"7"}}')
    assert await peer.until(op=11) == SIGN_OF_LIFE


async def test_a_probe_is_answered_before_the_client_is_accepted(serving: Serving, join: Joining) -> None:
    await probe(await join(await serving(accepting())))


async def test_a_probe_passes_by_what_waits_for_handlers(serving: Serving, join: Joining) -> None:
    server = accepting()
    gate = asyncio.Event()

    @server.on_message("SLOW")
    async def slowly(message: Message, connection: Connection) -> None:
        await gate.wait()
        connection.send(Message(0, None, "HANDLED"))

    peer = await join(await serving(server), "1")
    await peer.send("SLOW")
    await peer.send("SLOW")
    await probe(peer)
    assert not [frame for frame in peer.frames if frame.get("t") == "HANDLED"]
    gate.set()
    await peer.messages(2)


async def test_a_probe_is_answered_while_an_attempt_to_authenticate_waits(
    serving: Serving, join: Joining
) -> None:
    server = Server()
    gate = asyncio.Event()

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        await gate.wait()
        return User("1")

    peer = await join(await serving(server))
    await peer.send(op=2)
    await probe(peer)
    gate.set()
    await peer.until(op=22)


class Watching:
    """A middleware that notes what passes."""

    def __init__(self) -> None:
        self.seen: list[Message] = []

    async def before_message(self, message: Message, connection: Connection) -> Message:
        self.seen.append(message)
        return message

    def before_send(self, message: Message, connection: Connection) -> Message:
        self.seen.append(message)
        return message

    async def on_message_received(self, message: Message, connection: Connection) -> None:
        self.seen.append(message)


async def test_no_application_sees_a_probe(serving: Serving, join: Joining) -> None:
    server = accepting(rules={"store_messages": True}, portals=True)
    watching = Watching()
    server.use(watching)
    handled: list[Message] = []
    server.on_message(lambda message, connection: handled.append(message))
    endpoint = await serving(server)
    peer = await join(endpoint, "1")
    await probe(peer)
    (connection,) = server.connections
    assert connection.messages is not None
    assert not [*connection.messages.received, *connection.messages.sent]
    assert not watching.seen
    await peer.send("AFTER")
    async with asyncio.timeout(LIMIT):
        while not handled:
            await asyncio.sleep(0)
    assert [message.type for message in handled] == ["AFTER"]


async def test_a_heartbeat_of_a_client_is_a_message_all_the_same(serving: Serving, join: Joining) -> None:
    server = accepting()

    @server.on_message
    async def tell(message: Message, connection: Connection) -> None:
        connection.send(Message(0, message.opcode, "SEEN"))

    peer = await join(await serving(server), "1")
    await peer.raw('{"op":1,"d":{}}')
    assert (await peer.until(t="SEEN"))["d"] == 1


async def test_a_flood_of_probes_that_is_never_read_is_bounded(serving: Serving) -> None:
    server = accepting(limits={"max_buffered": 10_000}, authentication={"timeout": None}, keepalive=False)
    endpoint = await serving(server)
    probe = b'{"op":1,"x":{"r":"' + b"7" * 64 + b'"}}'
    frames = (bytes([0x81, 0x80 | len(probe)]) + bytes(4) + probe) * 100
    async with RawPeer.connect(endpoint.host, endpoint.port, limit=1024) as peer:
        await peer.upgrade()
        async with asyncio.timeout(LIMIT):
            with suppress(ConnectionError):
                while server.connections:
                    peer.writer.write(frames)
                    await peer.writer.drain()
        assert not server.connections
