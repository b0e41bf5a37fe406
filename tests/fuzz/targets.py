"""Everything that reads bytes of strangers: each target takes any bytes and raises nothing.

A target calls the code as the product does, with the exceptions that this code documents. Whatever else
comes out is a fault: it would end a task or fill a log. `SEEDS` are valid inputs to begin from.
"""

import asyncio
import json
import logging
import math
import struct
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
from multidict import CIMultiDict

from mesa_ws.backend.mesa1 import payloads
from mesa_ws.backend.mesa1.outbox import ListedMessage, WaitingList
from mesa_ws.backend.redis.channel import Channel
from mesa_ws.backend.redis.node_commands import InvalidEntry, RawEntry
from mesa_ws.concurrency.limited_log import LimitedLog
from mesa_ws.errors import MesaError
from mesa_ws.http_server.keys import ApiKeys
from mesa_ws.http_server.routes import application
from mesa_ws.messages.frames import InvalidFrame, decode_frame, encode_frame
from mesa_ws.messages.message_log import named
from mesa_ws.messages.recipients import User
from mesa_ws.messages.request import Failure, Question, Reply, read_answer
from mesa_ws.protocol.client import ClientProtocol
from mesa_ws.protocol.events import Authenticate, Close, QueuedEvent, SendText, ServerEvent, Waiting
from mesa_ws.protocol.fragments import DataFrame, Fragments, Violation
from mesa_ws.protocol.positions import Positions
from mesa_ws.protocol.server import ServerProtocol, Terms
from mesa_ws.server.origins import Origins
from mesa_ws.settings import Keepalive, ProxyHeader, ServerSettings
from mesa_ws.transports.frame_feed import FRAMES_AT_ONCE
from mesa_ws.transports.proxies import TrustedProxies
from mesa_ws.transports.server_socket import decoded, refusal
from tests.http_site import KEY, Site
from tests.unit.transports.test_frame_feed import Client

VECTORS = Path(__file__).parents[2] / "spec/vectors"

DEEP = 100_000
"""Levels of the deepest input."""

MAX_BODY = 1024 * 1024


class Target(NamedTuple):
    """Code that reads bytes of strangers, with inputs to begin from."""

    read: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


class Escape(AssertionError):
    """The code broke a rule of its own."""


def frames(data: bytes) -> None:
    """Decode one message of a client or of a server, and write it again."""
    try:
        frame = decode_frame(data)
    except InvalidFrame:
        return
    message = frame.message()
    again = decode_frame(encode_frame(message.opcode, message.data, message.type))
    if not _same(again.d, frame.d):
        raise Escape(f"{frame} became {again}")


def server_protocol(data: bytes) -> None:
    """Feed the lines of the input to the server's end, and accept or refuse each attempt in turn."""
    terms = Terms(ServerSettings.of({"sync": True}), has_authenticator=True)
    protocol = ServerProtocol(terms, 0.0)
    for number, line in enumerate(data.split(b"\n")):
        event: ServerEvent | QueuedEvent | None = protocol.receive(line, float(number))
        if isinstance(event, Waiting):
            frame = event.frame
            event = protocol.read(event)
            if not isinstance(event, Close) and not _same(decode_frame(frame.body()).d, frame.data()):
                raise Escape(f"{line!r} became {frame.body()!r}")
        if isinstance(event, Authenticate):
            _ = protocol.accept(User("7")) if number % 3 else protocol.refuse()
        if isinstance(event, SendText):
            decode_frame(event.payload)
        protocol.ponged(line[:125], float(number))
        protocol.poll(float(number))
        due = protocol.deadline
        if due is not None and math.isnan(due):
            raise Escape("the deadline is no number")
        if isinstance(event, Close):
            return


def client_protocol(data: bytes) -> None:
    """Feed the lines of the input to the client's end."""
    protocol = ClientProtocol(Keepalive(), 0.0)
    for number, line in enumerate(data.split(b"\n")):
        for event in protocol.receive(line, float(number)):
            if isinstance(event, SendText):
                decode_frame(event.payload)
        protocol.poll(float(number))
        if protocol.deadline is not None and math.isnan(protocol.deadline):
            raise Escape("the deadline is no number")
        protocol.authenticate({}, resume=protocol.positions)


def fragments(data: bytes) -> None:
    """Join fragments: each begins with a byte that says whether it continues, and whether it is the last."""
    joiner = Fragments(1024, 64)
    for part in data.split(b"\n"):
        head = part[:1] or b"\0"
        try:
            message = joiner.add(DataFrame(bool(head[0] & 1), bool(head[0] & 2), part[1:]))
        except Violation:
            return
        if message is not None:
            if len(message) > 1024:
                raise Escape("a message over the limit")
            joiner = Fragments(1024, 64)


def node_channel(data: bytes) -> None:
    """Read what any process may publish on a node's channel."""
    Channel(lambda envelope: None, frozenset(), lambda ids: None, *[lambda: None] * 3).on_frame(data)


def mesa1_payloads(data: bytes) -> None:
    """Read what any process may publish on the channels of 1.x."""
    for read in (payloads.read_payload, payloads.read_event, payloads.read_notice, payloads.read_reply):
        try:
            read(data)
        except payloads.InvalidPayload:
            continue


def requests(data: bytes) -> None:
    """Read questions and replies of other nodes, and the answers in them."""
    Question.read(data)
    reply = Reply.read(data)
    for body in (data, reply.body if reply else None):
        if body is not None:
            try:
                read_answer(body)
            except MesaError:
                continue
    if reply is not None and reply.body is None:
        Failure(reply.code, reply.text).error()


def outbox_entries(data: bytes) -> None:
    """Read an entry of an outbox."""
    try:
        entry = RawEntry.of(data)
        entry.for_everybody  # noqa: B018  # it is read
    except InvalidEntry:
        return


def lists_of_mesa1(data: bytes) -> None:
    """Read the list of messages that 1.x keeps for an id; each is sent to a client as UTF-8."""
    for message in WaitingList.of(data).messages:
        message.frame.decode()
        message.says_what(ListedMessage(b"{}", b"{}"))


def positions(data: bytes) -> None:
    """Read saved positions, and the type of a message for the log."""
    Positions.decode(data)
    named(data)


class _Api:
    """The HTTP API in memory, called as a server of HTTP would."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        site = Site()
        self.loop.run_until_complete(site.open())
        self._app = application(site.server, ApiKeys(KEY), MAX_BODY, MAX_BODY)

    def status(self, path: str, headers: list[tuple[bytes, bytes]], body: bytes) -> int:
        """Return the status of a POST."""
        statuses: list[int] = []
        arriving: list[dict[str, Any]] = [{"type": "http.disconnect"}, {"type": "http.request", "body": body}]

        async def receive() -> MutableMapping[str, Any]:
            return arriving.pop()

        async def send(event: MutableMapping[str, Any]) -> None:
            if event["type"] == "http.response.start":
                statuses.append(event["status"])

        scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
        self.loop.run_until_complete(self._app(scope, receive, send))
        return statuses[0]


_api = cache(_Api)
PATHS = (
    "dispatch", "dispatch/status", "presence", "presence/ids", "presence/connections",
    "outboxes/heads", "outboxes/show", "outboxes/purge", "request",
)  # fmt: skip


def http_bodies(data: bytes) -> None:
    """Post a body to one of the routes; the first byte chooses it."""
    path = f"/v1/{PATHS[data[0] % len(PATHS)]}" if data else "/v1/dispatch"
    status = _api().status(path, [(b"authorization", b"Bearer " + KEY.encode())], data[1:])
    if status >= 500:
        raise Escape(f"{path} answered {status}")


def http_heads(data: bytes) -> None:
    """Post with header fields of the input: name and value on a line of its own, path first."""
    path, *lines = data.decode("latin-1").split("\n")
    pairs = [line.partition(":") for line in lines]
    headers = [(name.strip().lower().encode("latin-1"), value.encode("latin-1")) for name, _, value in pairs]
    status = _api().status("/" + path, headers, b"{}")
    if status >= 500:
        raise Escape(f"/{path} answered {status}")


class _Handshakes:
    """What reads the heads of handshakes, in each of its settings."""

    def __init__(self) -> None:
        log = LimitedLog(logging.getLogger("mesa_ws.fuzz"))
        self.origins = [Origins(allowed, log) for allowed in (None, ["https://*.example.com"])]
        headers: tuple[ProxyHeader, ...] = ("forwarded", "x-forwarded-for")
        self.proxies = [TrustedProxies(["127.0.0.0/8", "::1/128"], header) for header in headers]


_handshakes = cache(_Handshakes)
_loop = cache(asyncio.new_event_loop)


def handshakes(data: bytes) -> None:
    """Judge a handshake: the path first, then a header field on each line, decoded as picows decodes them."""
    path, *lines = data.split(b"\n")
    pairs = [line.decode("ascii", "surrogateescape").partition(":") for line in lines]
    headers = CIMultiDict([(name.strip(), value.strip()) for name, _, value in pairs])
    request: Any = SimpleNamespace(path=path, headers=headers)
    refusal(request, None)
    for origins in _handshakes().origins:
        origins.refuse(headers)
    for proxies in _handshakes().proxies:
        found = proxies.client_of(("127.0.0.1", 1), headers)
        if found is not None:
            ip_address(found[0])
    json.dumps(dict(decoded(headers))).encode()


def frame_feed(data: bytes) -> None:
    """Let a client's socket read the input in pieces, whose size is the first byte."""
    _loop().run_until_complete(_feed(data[1:], 1 + (data[0] if data else 0)))


async def _feed(data: bytes, size: int) -> None:
    client = Client.connected()
    try:
        for start in range(0, len(data), size):
            if client.socket.is_open:
                before = client.frames
                client.read(data[start : start + size])
                if client.frames > before + FRAMES_AT_ONCE:
                    raise Escape(f"{client.frames - before} frames in a turn")
                await asyncio.sleep(0)
    finally:
        client.end()


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _vectors() -> Iterator[bytes]:
    """Yield the frames of the wire's vectors."""

    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            for each in value:
                yield from texts(each)
        elif isinstance(value, dict):
            if "op" in value:
                yield json.dumps(value)
            for each in value.values():
                yield from texts(each)

    for path in sorted(VECTORS.glob("*.json")):
        yield from (text.encode() for text in texts(json.loads(path.read_text())) if text.startswith("{"))


def _written(*values: Any) -> tuple[bytes, ...]:
    return tuple(msgspec.msgpack.encode(value) for value in values)


_FRAMES = (*dict.fromkeys(_vectors()), b"[" * DEEP, b'{"op":0,"d":' + b"[" * DEEP)
_HEAD = msgspec.msgpack.encode([7, "message", "a" * 32, ["7", "8"], [], ["e", 1, "e", 2]])
_EVERYBODY = msgspec.msgpack.encode([8, "message", "b" * 32, "*", ["7"], ["e", 3]])
_VOLATILE = msgspec.msgpack.encode([9, "message", "a" * 32, ["7"], [], [], "volatile"])
_LATEST = msgspec.msgpack.encode([10, "message", "a" * 32, "*", [], [], "latest:key"])
_BODY = b'{"op":0,"d":{},"t":"T"}'
_NESTED = (b"\x91" * DEEP, b"\x81\xa1a" * DEEP)


def _continued(array: bytes) -> bytes:
    """Return a short MessagePack array with one more member, as later versions may have: a deep one."""
    return bytes([array[0] + 1]) + array[1:] + _NESTED[0]


_MORE = '"more":' + "[" * DEEP

TARGETS: Mapping[str, Target] = {
    "frames": Target(frames, _FRAMES),
    "server protocol": Target(server_protocol, (*_FRAMES, b"\n".join(_FRAMES[:40]))),
    "client protocol": Target(client_protocol, (*_FRAMES, b"\n".join(_FRAMES[:40]))),
    "fragments": Target(fragments, (b"\0a\n\1b\n\3c", b"\2a", b"\0" + b"x" * 2000)),
    "node channel": Target(
        node_channel,
        tuple(
            len(head).to_bytes(4, "big") + head + _BODY
            for head in (
                _HEAD,
                _EVERYBODY,
                _VOLATILE,
                _LATEST,
                _continued(_HEAD),
                _continued(_VOLATILE),
                *_written([9, "marker", "", [], []], [1, "request", "c", ["7"], []]),
                *_NESTED,
            )
        ),
    ),
    "payloads of 1.x": Target(
        mesa1_payloads,
        (
            b'{"message":{"op":0,"d":1,"t":"T","o":{"sync":true}},"recipients":["*"],"excluding":["1"],"id":"x"}',
            b'{"message":{"op":5,"d":{},"t":"DISCONNECT_CLIENT"},"recipients":[1,"a"]}',
            b'{"type":"message","message":{"op":0,"d":{},"t":"T"},"clientId":"7","portalId":"p","x":[1]}',
            b'{"id":"p","ready":true}',
            b'{"to":"c","frame":{"op":0}}',
            b'{"message":' + b'{"d":' * DEEP,
            b'{"type":' + b"[" * DEEP,
            *(
                b"{%s" % text.encode()
                for text in (_MORE, '"message":{"op":0,' + _MORE, '"clientId":7,' + _MORE)
            ),
        ),
    ),
    "outbox entries": Target(
        outbox_entries,
        tuple(
            struct.pack(">dddB", 1e12, 2e12, 0.0, 1) + b"m" + body
            for body in (
                _BODY,
                *(len(ids).to_bytes(4, "big") + ids + _BODY for ids in (*_written(["7"]), *_NESTED)),
            )
        ),
    ),
    "lists of 1.x": Target(
        lists_of_mesa1,
        (
            b'[{"op":0,"d":{"a":[1.5,"x"]},"t":"T"},{"op":0}]',
            b'[{"op":0,"d":"\xff","t":"T"}]',
            b'{"op":0,"d":"\xff","t":"\xfe"}',
            b'{"op":0,"d":1e999}',
            b'[{"op":0,"d":' + b"[" * DEEP,
        ),
    ),
    "positions": Target(positions, (b'{"e":"a","s":5,"b":{"e":"b","s":1}}', *_FRAMES[-2:])),
    "requests": Target(
        requests,
        (
            Question("r", 1.0, _BODY).write(),
            Reply("r", _BODY).write(),
            Reply("r", None, "not_connected", "gone").write(),
            _continued(Question("r", 1.0, _BODY).write()),
            _continued(Reply("r", _BODY).write()),
            _BODY,
            *_NESTED,
        ),
    ),
    "handshakes": Target(
        handshakes,
        (
            b"/ws?a=1\nHost: a:80\nUpgrade: websocket\nSec-WebSocket-Version: 13\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nOrigin: https://b.example.com\nCookie: a=b",
            b'/\nForwarded: for=192.0.2.43;proto=https, for="[2001:db8::17]:4711";by=_a, for=127.0.0.1',
            b"/\nX-Forwarded-For: 192.0.2.43, ::ffff:127.0.0.1, [::1]:80\n"
            b"Host: [::1\nOrigin: null\nCookie: \xff",
        ),
    ),
    "frame feed": Target(
        frame_feed,
        (
            b"\xff" + b"\x81\x83\0\0\0\0abc" * 50,
            b"\x07\x01\x83\0\0\0\0abc\x89\x80\0\0\0\0\x80\xfe\x00\x7e\0\0\0\0" + b"x" * 126,
            b"\xff\x82\xfe\x20\x00\1\2\3\4" + b"x" * 0x2000,
            b"\xff\x82\xff" + b"\x80" + b"\0" * 7 + b"\1\2\3\4xyz",
        ),
    ),
    "http bodies": Target(
        http_bodies,
        (
            b'\0{"message":{"opcode":0,"data":{},"type":"T"},"recipients":["0"]}',
            b'\0{"dispatches":[{"message":{"opcode":0,"data":{}},"recipients":["*"],"excluding":["0"]}]}',
            b'\1{"receipt":{"message_id":"a","deliveries":{"0":{"online":true}},"nodes":1}}',
            b'\2{"ids":["0","1"]}',
            b'\3{"cursor":""}',
            b"\4{}",
            b'\5{"ids":["0"]}',
            b'\6{"id":"0","limit":5}',
            b'\7{"id":"0"}',
            b'\0{"message":' + b"[" * DEEP,
            b"\2{" + _MORE.encode(),
        ),
    ),
    "http heads": Target(
        http_heads,
        (
            b"v1/dispatch\nauthorization: Bearer x\ncontent-type: application/json",
            b"v1/dispatch\nauthorization: Basic \xff\xfe",
            b"health/ready\nhost: a",
        ),
    ),
}
"""The targets by name."""
