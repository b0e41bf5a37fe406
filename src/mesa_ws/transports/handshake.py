"""The HTTP request that becomes a WebSocket (RFC 6455 section 4.2): what picows leaves to its user."""

from http import HTTPStatus
from typing import Any

from picows import WSListener, WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener

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
