"""What both ends of a WebSocket do with picows: close frames, fragments, and a quiet log.

picows reports every connection at INFO and every broken frame of a peer at ERROR. Neither is an error
of this process; server and client log what matters themselves.
"""

import asyncio
import logging
from collections.abc import MutableMapping
from typing import Any, NamedTuple

from picows import WSFrame, WSMsgType, WSTransport

from ..close import CloseCode, is_sendable
from ..protocol.fragments import DataFrame, Violation


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


def implied_end(transport: WSTransport) -> ConnectionEnd:
    """Return how a connection ended whose peer sent no close frame: as this end closed it, or by a cut.

    picows itself sends a close frame after a frame that is broken.
    """
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


class _OfThoseWhoHaveGone(logging.Filter):
    """Drops the lines that aiofastnet logs of each write to a peer that has gone; its end is noticed soon."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        return not text.endswith(("called after connection lost.", "SSL connection is closed"))


_GONE = _OfThoseWhoHaveGone()


def quiet(end: str) -> logging.LoggerAdapter[logging.Logger]:
    """Return a logger for the `server` or the `client` end of picows."""
    logging.getLogger("aiofastnet").addFilter(_GONE)
    return _Quiet(logging.getLogger(f"mesa_ws.{end}.websocket"))


class QuietLoop:
    """The event loop for TLS transports, which reports no fault of a peer as an error of this process.

    aiofastnet reports an unfinished handshake to the loop, as if that were a bug.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Report errors other than those of the network; aiofastnet also passes exception classes."""
        error = context.get("exception")
        kind = error if isinstance(error, type) else type(error)
        if not issubclass(kind, OSError):
            self._loop.call_exception_handler(context)
