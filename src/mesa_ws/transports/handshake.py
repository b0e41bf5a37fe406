"""The HTTP request that becomes a WebSocket (RFC 6455 section 4.2): what picows leaves to its user."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Self

from picows import WSListener, WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # its stubs leave it out

_ECHOED = ("Sec-WebSocket-Version", "Sec-WebSocket-Protocol")
"""Header fields that answers repeat, which picows cannot write if they are not ASCII."""

Answer = WSUpgradeResponseWithListener


def refusal(request: WSUpgradeRequest, path: str | None) -> Answer | None:
    """Return the answer to a request that cannot be upgraded; None for one that can.

    Args:
        request: the client's request.
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
    """Decode the values of header fields as Latin-1, like the path: each byte is one character.

    picows decodes bytes above 127 as lone surrogates, which neither JSON nor a log can hold.
    """
    if all(value.isascii() for value in headers.values()):
        return headers
    return type(headers)(
        (name, value.encode("ascii", "surrogateescape").decode("latin-1")) for name, value in headers.items()
    )


def _accept_connection_list(request: WSUpgradeRequest) -> None:
    """Accept `Connection: keep-alive, Upgrade`, as Firefox sends it (RFC 6455 section 4.2.1)."""
    options: list[str] = request.headers.get("connection", "").lower().split(",")
    if "upgrade" in (option.strip() for option in options):
        request.headers["Connection"] = "upgrade"


def without_body(answer: Answer) -> Answer:
    """Return the answer to a HEAD, for the answer to a GET."""
    response: Any = answer.response
    if response.body:
        response.headers["Content-Length"] = str(len(response.body))
        response.body = None
    return answer


def refuse(status: HTTPStatus, headers: dict[str, str] | None = None) -> Answer:
    """Return an answer without a WebSocket."""
    response: Any = WSUpgradeResponse.create_error_response(status, status.phrase.encode(), headers)
    return Answer(response, None)


_HEAD, _GET = b"HEAD ", b"GET "


class RequestMethod(asyncio.BufferedProtocol):
    """Reads the method of a request before a `WSProtocol` gets it.

    A HEAD is passed on as the GET whose fields it asks for. From then on the transport talks to the
    `WSProtocol` itself, so that this class costs an open connection nothing.

    Args:
        make: makes the `WSProtocol`.

    Attributes:
        protocol: the `WSProtocol`.
        is_head: whether the answer must have no body.
    """

    __slots__ = ("_room", "_size", "_transport", "is_head", "protocol")

    def __init__(self, make: Callable[[Self], WSProtocol]) -> None:
        self.is_head = False
        self.protocol = make(self)
        self._transport: asyncio.Transport
        self._room = memoryview(b"")
        self._size = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the `WSProtocol`, with its time limits."""
        self._transport = transport
        self.protocol.connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer of the `WSProtocol`, after the bytes that have arrived."""
        self._room = self.protocol.get_buffer(sizehint)
        return self._room[self._size :]

    def buffer_updated(self, nbytes: int) -> None:
        """Give the transport to the `WSProtocol` as soon as the method is known."""
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
        """The client has finished before it sent a request."""
        return bool(self.protocol.eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is lost before the client sent a request."""
        self.protocol.connection_lost(exc)
