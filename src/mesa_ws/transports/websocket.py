"""What picows leaves to its user at both ends of a WebSocket.

The HTTP request that becomes one (RFC 6455 section 4.2), the size of reads, close frames (5.5.1), and
the log: picows reports every connection at INFO and every broken frame of a peer at ERROR. Neither is
an error of this process; server and client log what matters themselves.
"""

import asyncio
import logging
from collections.abc import Callable, MutableMapping
from http import HTTPStatus
from typing import Any, NamedTuple, Self

from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # its stubs leave it out

from ..close import CloseCode, is_sendable
from ..protocol.fragments import DataFrame, Violation

_ECHOED = ("Sec-WebSocket-Version", "Sec-WebSocket-Protocol")
"""Header fields that answers repeat, which picows cannot write if they are not ASCII."""

Answer = WSUpgradeResponseWithListener


def refusal(request: WSUpgradeRequest, path: str | None) -> Answer | None:
    """Return the answer to a request that cannot be upgraded; None for one that can, on `path` if given."""
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


class ConnectionEnd(NamedTuple):
    """How a connection ended.

    Attributes:
        code: the code of the first close frame, of either side; 1006 if there was none.
        reason: its reason.
    """

    code: int
    reason: str


def send_close(transport: WSTransport, code: int, reason: str = "") -> None:
    """Send a close frame; 1005 sends an empty one."""
    if code == CloseCode.NO_STATUS:
        transport.send(WSMsgType.CLOSE, b"")
    else:
        # Its annotation names an enumeration, but it accepts any close code.
        transport.send_close(code, reason.encode() if reason else None)  # type: ignore[arg-type]


def received_close(frame: WSFrame) -> ConnectionEnd:
    """Read the close frame of the peer; raise `Violation` if RFC 6455 does not allow its code."""
    payload = frame.get_payload_as_bytes()
    if not payload:
        return ConnectionEnd(CloseCode.NO_STATUS.value, "")
    code = int.from_bytes(payload[:2])
    if not is_sendable(code):
        raise Violation(CloseCode.PROTOCOL_ERROR, f"a close frame with the code {code}")
    return ConnectionEnd(code, payload[2:].decode())


def verdict(transport: WSTransport) -> ConnectionEnd:
    """Return how a connection ended that its user did not close: by a broken frame, or by a cut."""
    handshake: Any = transport.close_handshake
    if handshake is None or handshake.sent is None:
        return ConnectionEnd(CloseCode.ABNORMAL.value, "")
    return ConnectionEnd(int(handshake.sent.code), handshake.sent.reason or "")


def data_frame(frame: WSFrame) -> DataFrame:
    """Return a part of a message, to be joined."""
    is_continuation = frame.msg_type == WSMsgType.CONTINUATION
    return DataFrame(is_continuation, bool(frame.fin), frame.get_payload_as_bytes())


class _Quiet(logging.LoggerAdapter[logging.Logger]):
    """Logs everything at DEBUG. An adapter also saves the logger that picows makes for each connection."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the name is logging's
        """Never enable levels below DEBUG, at which picows logs whole handshakes, with tokens."""
        return level >= logging.DEBUG and super().isEnabledFor(level)

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        super().log(min(level, logging.DEBUG), msg, *args, **kwargs)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, kwargs


def quiet(end: str) -> logging.LoggerAdapter[logging.Logger]:
    """Return a logger for the `server` or the `client` end of picows."""
    return _Quiet(logging.getLogger(f"mesa_ws.{end}.websocket"))
