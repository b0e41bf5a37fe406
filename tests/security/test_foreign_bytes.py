"""Bytes of strangers on the channels of Redis are counted and dropped, and stop no reader."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest
import redis.asyncio

from mesa_ws import AsyncDispatcher, Connection, Message, Portal, PortalEvent, Server, User, serve
from tests.system.server.peer import Peer

DEEP = 100_000

HEAD = b"\x01\xa6marker\xa1i\x90\x90\x90"
"""Head of a frame on a node's channel, without the first byte, which says how many members it has."""

GARBAGE = {
    "nothing": b"",
    "text": b"no frame",
    "a long head": b"\xff\xff\xff\xff\x91",
    "no UTF-8": b'{"message":{"op":0,"t":"\xff\xfe"},"recipients":["*"]}',
    "text that is no UTF-8": b"\x94\xa2\xff\xfe\xc4\x00\xa0\xa0",
    "deep JSON": b'{"message":{"op":0,"d":' + b"[" * DEEP,
    "deep JSON of a member": b'{"id":"p","clientId":"7","more":' + b"[" * DEEP,
    "deep MessagePack": b"\x91" * DEEP,
    "deep MessagePack behind a head": (1 + len(HEAD) + DEEP).to_bytes(4) + b"\x97" + HEAD + b"\x91" * DEEP,
    "a head that is no UTF-8": (1 + len(HEAD)).to_bytes(4) + b"\x96" + HEAD.replace(b"i", b"\xff"),
    "deep MessagePack in a reply": b"\x95\xa1r\xc4\x00\xa0\xa0" + b"\x91" * DEEP,
    "huge numbers": b'{"message":{"op":%b,"d":1e999},"recipients":[%b]}' % (b"9" * 5000, b"9" * 5000),
    "a huge counter": (11).to_bytes(4) + b"\x95\xcf" + b"\xff" * 8 + b"\xa0",
    "another kind": json.dumps([1, None, {"op": -1}]).encode(),
}


class Cluster:
    """A server, a portal, a dispatcher, a client, and a stranger at the same Redis."""

    def __init__(self, stack: AsyncExitStack, url: str, namespace: str, wire: Any) -> None:
        self._stack = stack
        self._url = url
        self._namespace = namespace
        place: Any = {"namespace": namespace, "wire": wire}
        self.server = Server(url, portals=True, **place)
        self.portal = Portal(url, **place)
        self.dispatcher = AsyncDispatcher(url, **place)
        self.has_requests = wire == "native"
        self.client: Peer
        self.stranger: redis.asyncio.Redis

    async def start(self) -> None:
        self.server.authenticator(self._authenticate)
        self.portal.on_message(self._reply)
        endpoint = await self._stack.enter_async_context(serve(self.server))
        await self._stack.enter_async_context(self.portal)
        await self._stack.enter_async_context(self.dispatcher)
        self.client = await self._stack.enter_async_context(Peer.connect(endpoint.url))
        await self.client.log_in("7", wire=2)
        self.stranger = await self._stack.enter_async_context(redis.asyncio.from_url(self._url))

    async def publish(self, payload: bytes) -> int:
        """Publish on all channels of the namespace; return their number."""
        names = await self.stranger.pubsub_channels(f"*{self._namespace}*")
        for name in names:
            assert await self.stranger.publish(name, payload)
        return len(names)

    async def check(self, number: int) -> None:
        """See that messages, events for portals and their replies, and requests arrive."""
        await self.dispatcher.dispatch(Message(0, number, "T"), ["7"])
        assert (await self.client.until(t="T"))["d"] == number
        await self.client.send("EVENT", number)
        assert (await self.client.until(t="REPLY"))["d"] == number
        if self.has_requests:
            await self._request(number)

    async def _request(self, number: int) -> None:
        async def answer() -> None:
            asked = await self.client.until(t="QUESTION")
            await self.client.raw(json.dumps({"op": 0, "d": number, "x": {"a": asked["x"]["r"]}}))

        reply, _ = await asyncio.gather(self.dispatcher.request("7", Message(0, None, "QUESTION")), answer())
        assert reply.data == number

    async def _authenticate(self, data: Any, _: Connection) -> User:
        return User(data["id"])

    async def _reply(self, event: PortalEvent) -> None:
        assert event.message is not None
        await event.reply(Message(0, event.message.data, "REPLY"))


@pytest.mark.parametrize(("wire", "readers"), [("native", 2), ("mesa1", 4)])
async def test_no_bytes_on_a_channel_stop_its_reader(
    redis_url: str, namespace: str, wire: Any, readers: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncExitStack() as stack:
        cluster = Cluster(stack, redis_url, namespace, wire)
        await cluster.start()
        await cluster.check(0)  # a dispatcher listens from its first request on
        for number, payload in enumerate(GARBAGE.values(), 1):
            assert await cluster.publish(payload) >= readers
            await cluster.check(number)
        warned = {
            record.getMessage().partition(" bytes ")[2]
            for record in caplog.records
            if " bytes on " in record.msg
        }
    assert len({text.partition(":")[0].partition(",")[0] for text in warned}) == readers
    assert not [record for record in caplog.records if record.exc_info]
