"""The HTTP request that becomes a WebSocket (RFC 6455 section 4.2): what picows leaves to its user."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Self

from picows import WSListener, WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # its stubs leave it out

_ECHOED = ("Sec-WebSocket-Version", "Sec-WebSocket-Protocol")
"""Header fields that stand in answers, which picows cannot write if they are not ASCII."""

Answer = WSUpgradeResponseWithListener


def refusal(request: WSUpgradeRequest, path: str | None) -> Answer | None:
    """The answer to a request that cannot be upgraded; None for one that can.

    Args:
        request: what the client asks.
        path: the only path that is upgraded; None for all.
    """
    if path is not None and request.path.partition(b"?")[0].decode("latin-1") != path:
        return refuse(HTTPStatus.BAD_REQUEST)
    if "upgrade" not in request.headers:
        return refuse(HTTPStatus.UPGRADE_REQUIRED, {"Upgrade": "websocket"})
    if not all(request.headers.get(name, "").isascii() for name in _ECHOED):
        return refuse(HTTPStatus.BAD_REQUEST)
    return None


def accept(request: WSUpgradeRequest, listener: WSListener) -> Answer:
    """Upgrade to a WebSocket with the first subprotocol that the client offers."""
    _accept_connection_list(request)
    offered = request.headers.get("sec-websocket-protocol", "").split(",")[0].strip()
    extra = {"Sec-WebSocket-Protocol": offered} if offered else None
    return Answer(WSUpgradeResponse.create_101_response(extra), listener)


def decoded(headers: Any) -> Any:
    """Header fields with values decoded as Latin-1, as the path is: each byte is one character.

    picows makes lone surrogates of bytes above 127, which neither JSON nor a log can hold.
    """
    if all(value.isascii() for value in headers.values()):
        return headers
    return type(headers)(
        (name, value.encode("ascii", "surrogateescape").decode("latin-1")) for name, value in headers.items()
    )


def _accept_connection_list(request: WSUpgradeRequest) -> None:
    """Let through `Connection: keep-alive, Upgrade`, as Firefox says (RFC 6455 section 4.2.1)."""
    options: list[str] = request.headers.get("connection", "").lower().split(",")
    if "upgrade" in (option.strip() for option in options):
        request.headers["Connection"] = "upgrade"


def without_body(answer: Answer) -> Answer:
    """The answer to a HEAD, where GET would get this one."""
    response: Any = answer.response
    if response.body:
        response.headers["Content-Length"] = str(len(response.body))
        response.body = None
    return answer


def refuse(status: HTTPStatus, headers: dict[str, str] | None = None) -> Answer:
    """An answer without a WebSocket."""
    response: Any = WSUpgradeResponse.create_error_response(status, status.phrase.encode(), headers)
    return Answer(response, None)


READ_AT_ONCE = 64 * 1024
"""Bytes of one client that are read and handled at a time; in a turn of the event loop 256 KiB and this."""

_HEAD, _GET = b"HEAD ", b"GET "


class RequestMethod(asyncio.BufferedProtocol):
    """Stands before a `WSProtocol` until the first bytes of the request are there.

    A HEAD is handed on as the GET whose fields it asks for. From then on the transport talks to the
    protocol itself, so nothing here costs a connection that is open.

    Args:
        make: makes the protocol that follows.

    Attributes:
        protocol: the one that follows.
        is_head: whether the answer has to do without its body.
    """

    __slots__ = ("_room", "_size", "_transport", "is_head", "protocol")

    def __init__(self, make: Callable[[Self], WSProtocol]) -> None:
        self.is_head = False
        self.protocol = make(self)
        self._transport: asyncio.Transport
        self._room = memoryview(b"")
        self._size = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let the other protocol begin, with its time limits."""
        self._transport = transport
        self.protocol.connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the room of the other protocol, behind what came already."""
        self._room = self.protocol.get_buffer(sizehint)
        return self._room[self._size :]

    def buffer_updated(self, nbytes: int) -> None:
        """Step aside as soon as the method is known."""
        self._size += nbytes
        if self._size < len(_HEAD):
            return
        room, size, self._room = self._room, self._size, memoryview(b"")
        self._transport.set_protocol(self.protocol)
        if room[: len(_HEAD)] == _HEAD:
            self.is_head = True
            room[: size - 1] = _GET + bytes(room[len(_HEAD) : size])
            size -= 1
        self.protocol.buffer_updated(size)

    def eof_received(self) -> bool:
        """The client has finished before it said anything."""
        return bool(self.protocol.eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone before it said anything."""
        self.protocol.connection_lost(exc)


class SmallReads(WSProtocol):  # type: ignore[misc]  # its stubs leave it out
    """Reads one client in small parts.

    The buffer of picows doubles whenever a read fills it, without a bound. All that the system holds of a
    client that floods would be handled at once then, and the event loop stand still for seconds.
    """

    __slots__ = ()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to read to: no more than the part, so a flood does not fill the buffer."""
        room: memoryview = WSProtocol.get_buffer(self, sizehint)
        return room[:READ_AT_ONCE]
