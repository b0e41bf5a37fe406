"""The HTTP API of a server as an ASGI application: dispatches, requests, queries and health."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Container, Coroutine
from functools import partial
from typing import Any, Protocol, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as HttpRoute

from ..backend.base import AsyncBus
from ..backend.http.auth import is_authorized
from ..backend.http.dispatch_schema import DispatchRequest
from ..backend.http.problems import INTERNAL_ERROR, Problem, encode_problem, problem_of, shortened
from ..backend.http.routes import (
    DISPATCH,
    PURGE,
    QUERIES,
    REQUEST,
    STATUS,
    Body,
    OutboxBody,
    QueryBody,
    RequestBody,
    Route,
    StatusBody,
)
from ..backend.queries import Heads
from ..concurrency.tasks import start
from ..errors import BackendUnavailable, InvalidInput, MesaError
from ..messages.json_keys import check_members
from ..messages.message_log import log_dispatches
from ..messages.receipt import judge, stored_positions

log = logging.getLogger("mesa_ws.server")

LIVE = "/health/live"
READY = "/health/ready"

BodyHandler = Callable[[bytes], Coroutine[Any, Any, bytes]]
"""Turns the body of a request into the body of its answer."""

B = TypeVar("B", bound=Body)


class Dispatching(Protocol):
    """The parts of a server that the API needs."""

    @property
    def bus(self) -> AsyncBus:
        """Carries out dispatches and answers queries."""
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
        """Opcodes that application messages must not have on its wire."""
        ...


def application(server: Dispatching, key: str, max_body: int) -> Starlette:
    """Return the API of `server` as an ASGI application.

    Args:
        server: carries out dispatches and reports its health.
        key: the key that a dispatcher has to send.
        max_body: bytes of the largest request.
    """
    gate, api, health = _Gate(key, max_body), _ApiCalls(server), _Health(server)
    answers = {path: partial(gate.answer, work) for path, work in api.works().items()}
    answers[REQUEST.path] = partial(gate.answer_while_connected, api.work(REQUEST, api.request))
    app = Starlette(
        routes=[
            *(HttpRoute(path, answer, methods=["POST"]) for path, answer in answers.items()),
            HttpRoute(LIVE, health.live),
            HttpRoute(READY, health.ready),
        ],
        exception_handlers={HTTPException: _no_such_route},
    )
    app.router.redirect_slashes = False
    return app


class _RequestRefused(Exception):
    """A request that the API refuses before the server sees it."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.answer = _problem(status, Problem(code, shortened(message)), headers)


class _Health:
    def __init__(self, server: Dispatching) -> None:
        self._server = server

    async def live(self, request: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def ready(self, request: Request) -> Response:
        if self._server.is_ready:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "unavailable", "why": "the backend is away"}, 503)


class _ApiCalls:
    """Carries out requests that have passed the gate, one method a route."""

    def __init__(self, server: Dispatching) -> None:
        self._server = server

    def works(self) -> dict[str, BodyHandler]:
        """Return the paths of the routes that are answered at once, each with its work."""
        return {
            DISPATCH.path: self.work(DISPATCH, self.dispatch),
            STATUS.path: self.work(STATUS, self.status),
            PURGE.path: self.work(PURGE, self.purge),
            **{route.path: self.work(route, self.query) for route in QUERIES.values()},
        }

    def work(self, route: Route[B, Any], answer: Callable[[B], Awaitable[bytes]]) -> BodyHandler:
        """Return the work of a route: decode the body, check the namespace, and answer."""

        async def work(encoded: bytes) -> bytes:
            body = route.decode_body(encoded)
            self._check_namespace(body.namespace)
            return await answer(body)

        return work

    async def dispatch(self, body: DispatchRequest) -> bytes:
        envelopes = body.envelopes(self._server.reserved)
        receipts = await self._server.bus.dispatch(envelopes)
        log_dispatches(log, envelopes, receipts)
        return DISPATCH.encode_answer(receipts)

    async def request(self, body: RequestBody) -> bytes:
        return REQUEST.encode_answer(await self._server.bus.request(*body.prepared()))

    async def status(self, body: StatusBody) -> bytes:
        receipt = body.receipt.receipt()
        heads = await self._server.bus.query(Heads(stored_positions(receipt)))
        return STATUS.encode_answer(judge(receipt, heads))

    async def query(self, body: QueryBody) -> bytes:
        query = body.query()
        return QUERIES[type(query)].encode_answer(await self._server.bus.query(query))

    async def purge(self, body: OutboxBody) -> bytes:
        return PURGE.encode_answer(await self._server.bus.purge(body.id))

    def _check_namespace(self, meant: str | None) -> None:
        served = self._server.namespace
        if meant is not None and meant != served:
            raise _RequestRefused(
                400,
                "wrong_namespace",
                f"namespace: expected {_named(served)}, which this server serves, got {_named(meant)}",
            )


class _Gate:
    """Checks the key and the form of requests; answers each one, whatever happens."""

    def __init__(self, key: str, max_body: int) -> None:
        self._key = key
        self._max_body = max_body

    async def answer(self, work: BodyHandler, request: Request) -> Response:
        try:
            self._check_key(request)
            _check_content_type(request)
            body = await self._body(request)
            _check_names(body)
            answer = await work(body)
        except _RequestRefused as refused:
            return refused.answer
        except asyncio.CancelledError:
            return _failed(BackendUnavailable("the server is stopping", maybe_sent=True))
        except Exception as error:  # noqa: BLE001 - whatever it is, the dispatcher gets an answer
            return _failed(error)
        return Response(answer, media_type="application/json")

    async def answer_while_connected(self, work: BodyHandler, request: Request) -> Response:
        """Answer a request that may take long; cancel its work when the dispatcher disconnects."""

        async def cancellable(body: bytes) -> bytes:
            working = start(work(body))
            leaving = start(_until_disconnected(request))
            leaving.add_done_callback(lambda _: working.cancel())
            try:
                return await working
            finally:
                leaving.cancel()

        return await self.answer(cancellable, request)

    def _check_key(self, request: Request) -> None:
        given = request.headers.get("authorization")
        if given is None or not is_authorized(given, self._key):
            got = "no such header" if given is None else "another key"
            message = (
                f"expected the header 'Authorization: Bearer KEY' with the key of this server, got {got}"
            )
            raise _RequestRefused(401, "unauthorized", message, {"WWW-Authenticate": 'Bearer realm="mesa"'})

    async def _body(self, request: Request) -> bytes:
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > self._max_body:
                    raise _RequestRefused(
                        413,
                        "too_large",
                        f"body: expected at most {self._max_body} bytes, got more; send fewer at once",
                    )
        except ClientDisconnect:
            raise _RequestRefused(400, "invalid_request", "body: expected all of it, got a part") from None
        return bytes(body)


def _check_content_type(request: Request) -> None:
    given = request.headers.get("content-type")
    if given is None:
        return
    media_type = given.partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise _RequestRefused(
            415,
            "unsupported_media_type",
            f"expected the header 'Content-Type: application/json', got {given!r}; curl sets it with -H",
        )


def _check_names(body: bytes) -> None:
    try:
        check_members(body)
    except InvalidInput as error:
        raise InvalidInput(f"body: {error}") from None


async def _until_disconnected(request: Request) -> None:
    """Wait until the dispatcher closes the connection; the body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _no_such_route(request: Request, error: Exception) -> Response:
    got = f"got {request.method} {request.url.path}"
    if isinstance(error, HTTPException) and error.status_code == 405:
        headers = dict(error.headers or {})
        message = f"expected {headers.get('Allow', 'another method')}, {got}"
        return _RequestRefused(405, "method_not_allowed", message, headers).answer
    return _RequestRefused(
        404,
        "not_found",
        f"expected POST {DISPATCH.path} or another path of the API, GET {LIVE} or {READY}, {got}",
    ).answer


def _failed(error: Exception) -> Response:
    found = problem_of(error) if isinstance(error, MesaError) else None
    if found is not None:
        return _problem(*found)
    log.error("the dispatch API failed", exc_info=error)
    return _problem(500, Problem(INTERNAL_ERROR, "the server failed; see its log", maybe_sent=True))


def _problem(status: int, problem: Problem, headers: dict[str, str] | None = None) -> Response:
    return Response(encode_problem(problem), status, headers, media_type="application/json")


def _named(namespace: str | None) -> str:
    return "none" if namespace is None else repr(namespace)
