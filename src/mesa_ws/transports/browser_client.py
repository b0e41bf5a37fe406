"""The client for browsers, which the WebSocket port serves as files (spec section 2.1)."""

import re
from functools import cache
from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files
from typing import Any, NamedTuple

from picows import WSUpgradeRequest, WSUpgradeResponse
from picows import WSUpgradeResponseWithListener as Answer

FILES = {b"/mesa.js": "mesa.js", b"/mesa.mjs": "mesa.mjs"}
"""The paths, and nothing else: no part of a request ever becomes the name of a file."""

_FIELDS = {
    "Content-Type": "text/javascript; charset=utf-8",
    "Cache-Control": "no-cache",
    "Access-Control-Allow-Origin": "*",
    "X-Content-Type-Options": "nosniff",
}

_tags = re.compile(r'"[^"]*"').findall


class _File(NamedTuple):
    body: bytes
    etag: str


class BrowserClient:
    """Answers requests for the files of the client, as they were when the first server started."""

    def __init__(self) -> None:
        self._files = {path: _read(name) for path, name in FILES.items()}

    def answer(self, request: WSUpgradeRequest) -> Answer | None:
        """Return the answer to a request for one of the files; None for every other request."""
        file = self._files.get(request.path.partition(b"?")[0])
        if file is None:
            return None
        known = ",".join(request.headers.getall("if-none-match", []))
        if known.strip() == "*" or file.etag in _tags(known):
            return _respond(HTTPStatus.NOT_MODIFIED, file.etag)
        return _respond(HTTPStatus.OK, file.etag, file.body)


@cache
def _read(name: str) -> _File:
    body = files("mesa_ws").joinpath("browser", name).read_bytes()
    return _File(body, f'"{sha256(body).hexdigest()[:32]}"')


def _respond(status: HTTPStatus, etag: str, body: bytes | None = None) -> Answer:
    response: Any = WSUpgradeResponse.create_ok_response(body, _FIELDS | {"ETag": etag})
    response.status = status
    if body is None:
        del response.headers["Content-Type"]
    return Answer(response, None)
