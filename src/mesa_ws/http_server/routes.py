"""What the HTTP API answers: dispatches, questions and the health of the server, as an ASGI application."""

import asyncio
import logging
from collections.abc import Callable, Container, Coroutine
from functools import partial
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..backend.base import AsyncBus
from ..backend.http.auth import is_authorized
from ..backend.http.dispatch_schema import (
    INTERNAL_ERROR,
    PATH,
    Problem,
    decode_request,
    encode_problem,
    encode_receipts,
    problem_of,
    shortened,
)
from ..backend.http.query_schema import (
    OUTBOXES,
    PRESENCE,
    PRESENCE_CONNECTIONS,
    PRESENCE_IDS,
    PURGE,
    REQUEST,
    SHOW,
    STATUS,
    decode_connections_question,
    decode_cursor,
    decode_ids,
    decode_outbox_question,
    decode_receipt,
    decode_request_question,
    encode_answer,
    encode_connections,
    encode_count,
    encode_heads,
    encode_online,
    encode_page,
    encode_purged,
    encode_status,
    encode_stored,
)
from ..concurrency.tasks import start
from ..errors import BackendUnavailable, InvalidInput, MesaError
from ..messages.json_keys import check_members
from ..messages.message_log import log_dispatches
from ..messages.receipt import judge, stored_positions

log = logging.getLogger("mesa_ws.server")

LIVE = "/health/live"
READY = "/health/ready"

Work = Callable[[bytes], Coroutine[Any, Any, bytes]]
"""Turns the body of a request into that of its answer."""


class Dispatching(Protocol):
    """What the API needs of a server."""

    @property
    def bus(self) -> AsyncBus:
        """Where dispatches and questions go."""
        ...

    @property
    def is_ready(self) -> bool:
        """Whether the server runs and its backend answers."""
        ...

    @property
    def namespace(self) -> str | None:
        """The namespace that it serves."""
        ...

    @property
    def reserved(self) -> Container[int]:
        """Opcodes that no application message may be sent with on its wire."""
        ...


def application(server: Dispatching, key: str, max_body: int) -> Starlette:
    """The API of `server` as an ASGI application.

    Args:
        server: where dispatches go, and whose health is told.
        key: what a dispatcher has to show.
        max_body: bytes of the largest request.
    """
    gate, asked = _Gate(key, max_body), _Asked(server)
    health = _Health(server)
    works = asked.works
    app = Starlette(
        routes=[
            *(Route(path, partial(gate.answer, work), methods=["POST"]) for path, work in works.items()),
            Route(REQUEST, partial(gate.answer_while_heard, asked.request), methods=["POST"]),
            Route(LIVE, health.live),
            Route(READY, health.ready),
        ],
        exception_handlers={HTTPException: _no_such_route},
    )
    app.router.redirect_slashes = False
    return app


class _Rejected(Exception):
    """A request that is turned away before it becomes a dispatch."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.answer = _told(status, Problem(code, shortened(message)), headers)


class _Health:
    def __init__(self, server: Dispatching) -> None:
        self._server = server

    async def live(self, request: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def ready(self, request: Request) -> Response:
        if self._server.is_ready:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "unavailable", "why": "the backend is away"}, 503)


class _Asked:
    """What is asked of a server, once the request has passed the gate."""

    def __init__(self, server: Dispatching) -> None:
        self._server = server

    @property
    def works(self) -> dict[str, Work]:
        """What is done at once, by path."""
        return {
            PATH: self.dispatch,
            PRESENCE: self.presence,
            PRESENCE_IDS: self.ids,
            PRESENCE_CONNECTIONS: self.connections,
            OUTBOXES: self.outboxes,
            SHOW: self.show,
            PURGE: self.purge,
            STATUS: self.status,
        }

    async def dispatch(self, body: bytes) -> bytes:
        asked = decode_request(body)
        self._check_namespace(asked.namespace)
        envelopes = asked.envelopes(self._server.reserved)
        receipts = await self._server.bus.dispatch(envelopes)
        if log.isEnabledFor(logging.DEBUG):
            log_dispatches(log, envelopes, receipts)
        return encode_receipts(receipts)

    async def presence(self, body: bytes) -> bytes:
        asked = decode_ids(body)
        self._check_namespace(asked.namespace)
        if asked.is_about_all:
            return encode_count(await self._server.bus.count())
        return encode_online(await self._server.bus.online(asked.checked()))

    async def ids(self, body: bytes) -> bytes:
        asked = decode_cursor(body)
        self._check_namespace(asked.namespace)
        return encode_page(await self._server.bus.some_ids(asked.cursor))

    async def connections(self, body: bytes) -> bytes:
        asked = decode_connections_question(body)
        self._check_namespace(asked.namespace)
        return encode_connections(await self._server.bus.connections())

    async def outboxes(self, body: bytes) -> bytes:
        asked = decode_ids(body)
        self._check_namespace(asked.namespace)
        return encode_heads(await self._server.bus.heads(asked.checked()))

    async def show(self, body: bytes) -> bytes:
        asked = decode_outbox_question(body)
        self._check_namespace(asked.namespace)
        return encode_stored(await self._server.bus.peek(asked.id, asked.limit))

    async def purge(self, body: bytes) -> bytes:
        asked = decode_outbox_question(body)
        self._check_namespace(asked.namespace)
        return encode_purged(await self._server.bus.purge(asked.id))

    async def status(self, body: bytes) -> bytes:
        receipt, namespace = decode_receipt(body)
        self._check_namespace(namespace)
        heads = await self._server.bus.heads(stored_positions(receipt))
        return encode_status(judge(receipt, heads))

    async def request(self, body: bytes) -> bytes:
        asked = decode_request_question(body)
        self._check_namespace(asked.namespace)
        return encode_answer(await self._server.bus.request(*asked.prepared()))

    def _check_namespace(self, meant: str | None) -> None:
        served = self._server.namespace
        if meant is not None and meant != served:
            raise _Rejected(
                400,
                "wrong_namespace",
                f"namespace: expected {_named(served)}, which this server serves, got {_named(meant)}",
            )


class _Gate:
    """Lets in who has the key and sends what can be read; whatever happens, there is an answer."""

    def __init__(self, key: str, max_body: int) -> None:
        self._key = key
        self._max_body = max_body

    async def answer(self, work: Work, request: Request) -> Response:
        try:
            self._check_key(request)
            _check_content_type(request)
            body = await self._body(request)
            _check_names(body)
            answer = await work(body)
        except _Rejected as rejected:
            return rejected.answer
        except asyncio.CancelledError:
            return _failed(BackendUnavailable("the server is stopping", maybe_sent=True))
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            return _failed(error)
        return Response(answer, media_type="application/json")

    async def answer_while_heard(self, work: Work, request: Request) -> Response:
        """Answer what may take long, but give it up when nobody is there any more to hear the answer."""

        async def heard(body: bytes) -> bytes:
            working = start(work(body))
            leaving = start(_left(request))
            leaving.add_done_callback(lambda _: working.cancel())
            try:
                return await working
            finally:
                leaving.cancel()

        return await self.answer(heard, request)

    def _check_key(self, request: Request) -> None:
        shown = request.headers.get("authorization")
        if shown is None or not is_authorized(shown, self._key):
            got = "no such header" if shown is None else "another key"
            message = (
                f"expected the header 'Authorization: Bearer KEY' with the key of this server, got {got}"
            )
            raise _Rejected(401, "unauthorized", message, {"WWW-Authenticate": 'Bearer realm="mesa"'})

    async def _body(self, request: Request) -> bytes:
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > self._max_body:
                    raise _Rejected(
                        413,
                        "too_large",
                        f"body: expected at most {self._max_body} bytes, got more; send fewer at once",
                    )
        except ClientDisconnect:
            raise _Rejected(400, "invalid_request", "body: expected all of it, got a part") from None
        return bytes(body)


def _check_content_type(request: Request) -> None:
    given = request.headers.get("content-type")
    if given is None:
        return
    media_type = given.partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise _Rejected(
            415,
            "unsupported_media_type",
            f"expected the header 'Content-Type: application/json', got {given!r}; curl sets it with -H",
        )


def _check_names(body: bytes) -> None:
    try:
        check_members(body)
    except InvalidInput as error:
        raise InvalidInput(f"body: {error}") from None


async def _left(request: Request) -> None:
    """Wait until who asks has closed the connection; the body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _no_such_route(request: Request, error: Exception) -> Response:
    got = f"got {request.method} {request.url.path}"
    if isinstance(error, HTTPException) and error.status_code == 405:
        headers = dict(error.headers or {})
        message = f"expected {headers.get('Allow', 'another method')}, {got}"
        return _Rejected(405, "method_not_allowed", message, headers).answer
    return _Rejected(
        404,
        "not_found",
        f"expected POST {PATH} or another path of the API, GET {LIVE} or {READY}, {got}",
    ).answer


def _failed(error: Exception) -> Response:
    told = problem_of(error) if isinstance(error, MesaError) else None
    if told is not None:
        return _told(*told)
    log.error("the dispatch API failed", exc_info=error)
    return _told(500, Problem(INTERNAL_ERROR, "the server failed; its log says why", maybe_sent=True))


def _told(status: int, problem: Problem, headers: dict[str, str] | None = None) -> Response:
    return Response(encode_problem(problem), status, headers, media_type="application/json")


def _named(namespace: str | None) -> str:
    return "none" if namespace is None else repr(namespace)
