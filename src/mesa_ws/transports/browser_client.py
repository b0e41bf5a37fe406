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


class FileAnswer(NamedTuple):
    """The answer to a GET for a file.

    Attributes:
        status: 200, or 304 if the browser has the file.
        fields: of the header.
        body: the file; None with 304.
    """

    status: HTTPStatus
    fields: dict[str, str]
    body: bytes | None


class BrowserClient:
    """Answers requests for the files of the client, as they were when the first server started."""

    def __init__(self) -> None:
        self._files = {path: _read(name) for path, name in FILES.items()}

    def find(self, path: bytes, known: str) -> FileAnswer | None:
        """Return the answer to a GET for one of the files; None for every other path.

        Args:
            path: without the query.
            known: the values of `If-None-Match`.
        """
        file = self._files.get(path)
        if file is None:
            return None
        if known.strip() == "*" or file.etag in _tags(known):
            fields = {name: value for name, value in _FIELDS.items() if name != "Content-Type"}
            return FileAnswer(HTTPStatus.NOT_MODIFIED, fields | {"ETag": file.etag}, None)
        return FileAnswer(HTTPStatus.OK, _FIELDS | {"ETag": file.etag}, file.body)

    def answer(self, request: WSUpgradeRequest) -> Answer | None:
        """Return the answer to a request for one of the files; None for every other request."""
        known = ",".join(request.headers.getall("if-none-match", []))
        found = self.find(request.path.partition(b"?")[0], known)
        if found is None:
            return None
        response: Any = WSUpgradeResponse.create_ok_response(found.body, found.fields)
        response.status = found.status
        if found.body is None:
            response.headers.pop("Content-Type", None)
        return Answer(response, None)


@cache
def _read(name: str) -> _File:
    body = files("mesa_ws").joinpath("browser", name).read_bytes()
    return _File(body, f'"{sha256(body).hexdigest()[:32]}"')
