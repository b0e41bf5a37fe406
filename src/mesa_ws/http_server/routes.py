"""The HTTP API of a server as an ASGI application: dispatches, requests, queries and health."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as HttpRoute

from ..backend.http.dispatch_schema import DispatchRequest
from ..backend.http.problems import (
    INTERNAL_ERROR,
    OVERLOADED,
    RETRY_AFTER,
    Problem,
    encode_problem,
    problem_of,
    shortened,
)
from ..backend.http.routes import (
    DISCONNECT,
    DISPATCH,
    PURGE,
    QUERIES,
    REQUEST,
    REVOKE,
    STATUS,
    OrderBody,
    OutboxBody,
    QueryRoute,
    RequestBody,
    Route,
    StatusBody,
)
from ..backend.orders import give
from ..backend.queries import CarriedOut, Heads
from ..concurrency.limited_log import LimitedLog
from ..concurrency.tasks import start
from ..errors import BackendUnavailable, InvalidInput, MesaError
from ..messages.json_keys import check_members
from ..messages.message_log import log_dispatches
from ..messages.receipt import judge, stored_positions
from ..transports.run import Server
from .counts import ApiCounts
from .keys import ApiKey, ApiKeys, Right
from .metrics import LIVE, METRICS, READY, Exposition, Health
from .slices import CallersInOrder, dispatch_sliced, encode_sliced, prepare_sliced

log = logging.getLogger("mesa_ws.server")

RIGHTS: Mapping[str, Right] = {
    DISPATCH.path: "dispatch",
    REQUEST.path: "dispatch",
    DISCONNECT.path: "dispatch",
    REVOKE.path: "admin",
    PURGE.path: "admin",
    **dict.fromkeys((METRICS, STATUS.path, *(route.path for route in QUERIES.values())), "read"),
    QUERIES[CarriedOut].path: "dispatch",  # who may disconnect may ask what has become of it
}
"""The right that each path needs."""

LARGE = 256 * 1024
"""Bytes of a body from which others have their turn between two looks at all of it: 10 ms a MiB."""

Caller = tuple[str, str | None]
"""Who sends a request: the name of the key, and the address."""

Work = Callable[[Any, Caller], Coroutine[Any, Any, bytes]]
"""Carries out a request that was found to be in order; takes its body, and returns that of the answer."""


def application(
    server: Server, keys: ApiKeys, max_body: int, max_bodies: int, counts: ApiCounts | None = None
) -> Starlette:
    """Return the API of `server` as an ASGI application.

    Args:
        server: carries out dispatches and reports its health.
        keys: the keys that dispatchers may send.
        max_body: bytes of the largest request.
        max_bodies: bytes of all requests in memory at once; `max_body` if that is more.
        counts: counts what is asked, and what is refused.
    """
    api = _Api(server, keys, max_body, max(max_bodies, max_body), counts or ApiCounts())
    app = Starlette(
        routes=[*api.routes(), *Health(server).routes()],
        exception_handlers={HTTPException: api.no_such_route},
    )
    app.router.redirect_slashes = False
    return app


class _RequestRefused(Exception):
    """A request that the API refuses before the server sees it."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.answer = _problem(status, Problem(code, shortened(message)), headers)


class _Api:
    """Checks requests and carries them out; answers each one, whatever happens."""

    def __init__(
        self, server: Server, keys: ApiKeys, max_body: int, max_bodies: int, counts: ApiCounts
    ) -> None:
        self._server = server
        self._keys = keys
        self._max_body = max_body
        self._max_bodies = max_bodies
        self._counts = counts
        self._exposition = Exposition(server, counts)
        self._log = LimitedLog(log)
        self._callers = CallersInOrder()

    def routes(self) -> list[HttpRoute]:
        works: dict[Route[Any, Any], Work] = {
            DISPATCH: self._dispatch,
            REQUEST: self._request,
            STATUS: self._status,
            PURGE: self._purge,
            DISCONNECT: partial(self._order, DISCONNECT),
            REVOKE: partial(self._order, REVOKE),
            **{route: partial(self._query, route) for route in QUERIES.values()},
        }
        return [
            HttpRoute(METRICS, partial(self._counted, METRICS, self._metrics), methods=["GET"]),
            *(
                HttpRoute(
                    route.path,
                    partial(self._counted, route.path, partial(self._answer, route, work)),
                    methods=["POST"],
                )
                for route, work in works.items()
            ),
        ]

    async def no_such_route(self, request: Request, error: Exception) -> Response:
        response = await _no_such_route(request, error)
        self._counts.requests["other", response.status_code] += 1
        return response

    async def _counted(
        self, path: str, answer: Callable[[Request], Awaitable[Response]], request: Request
    ) -> Response:
        response = await answer(request)
        self._counts.requests[path, response.status_code] += 1
        return response

    async def _metrics(self, request: Request) -> Response:
        try:
            self._check_key(request, RIGHTS[METRICS])
            return await self._exposition.response()
        except _RequestRefused as refused:
            return refused.answer
        except Exception as error:  # noqa: BLE001 - whatever it is, there is an answer
            return self._failed(error)

    async def _answer(self, route: Route[Any, Any], work: Work, request: Request) -> Response:
        try:
            key = self._check_key(request, RIGHTS[route.path])
            _check_content_type(request)
            async with self._body(request) as encoded:
                _check_names(encoded)
                if len(encoded) >= LARGE:
                    await asyncio.sleep(0)
                body = route.decode_body(encoded)
                self._check_namespace(body.namespace)
                answering = work(body, (key.name, request.client.host if request.client else None))
                answer = await (_while_connected(request, answering) if route is REQUEST else answering)
        except _RequestRefused as refused:
            return refused.answer
        except ClientDisconnect:
            return _problem(400, Problem("invalid_request", "body: expected all of it, got a part"))
        except asyncio.CancelledError:
            return self._failed(BackendUnavailable("the server is stopping", maybe_sent=True))
        except Exception as error:  # noqa: BLE001 - whatever it is, the dispatcher gets an answer
            return self._failed(error)
        return Response(answer, media_type="application/json")

    def _failed(self, error: Exception) -> Response:
        found = problem_of(error) if isinstance(error, MesaError) else None
        if found is not None:
            return _problem(*found)
        self._log.error("the dispatch API failed", exc_info=error, kind=type(error))
        return _problem(500, Problem(INTERNAL_ERROR, "the server failed; see its log", maybe_sent=True))

    async def _dispatch(self, body: DispatchRequest, caller: Caller) -> bytes:
        async with self._callers.turn(caller, body):
            envelopes = await prepare_sliced(body, self._server.reserved)
            receipts = await dispatch_sliced(self._server.bus, envelopes)
        if log.isEnabledFor(logging.DEBUG):
            log_dispatches(log, envelopes, receipts)
        return await encode_sliced(receipts)

    async def _request(self, body: RequestBody, caller: Caller) -> bytes:
        return REQUEST.encode_answer(await self._server.bus.request(*body.prepared()))

    async def _status(self, body: StatusBody, caller: Caller) -> bytes:
        receipt = body.receipt.receipt()
        heads = await self._server.bus.query(Heads(stored_positions(receipt)))
        return STATUS.encode_answer(judge(receipt, heads))

    async def _query(self, route: QueryRoute[Any, Any], body: Any, caller: Caller) -> bytes:
        query = route.query(body)
        return QUERIES[type(query)].encode_answer(await self._server.bus.query(query))

    async def _order(self, route: Route[OrderBody, Any], body: OrderBody, caller: Caller) -> bytes:
        order = body.prepared(revokes=route is REVOKE)
        return route.encode_answer(await give(self._server.bus, order))

    async def _purge(self, body: OutboxBody, caller: Caller) -> bytes:
        return PURGE.encode_answer(await self._server.bus.purge(body.id))

    def _check_namespace(self, meant: str | None) -> None:
        served = self._server.namespace
        if meant is not None and meant != served:
            raise _RequestRefused(
                400,
                "wrong_namespace",
                f"namespace: expected {_named(served)}, which this server serves, got {_named(meant)}",
            )

    def _check_key(self, request: Request, right: Right) -> ApiKey:
        given = request.headers.get("authorization")
        key = None if given is None else self._keys.find(given)
        if key is None:
            got = "no such header" if given is None else "another key"
            message = (
                f"expected the header 'Authorization: Bearer KEY' with the key of this server, got {got}"
            )
            raise _RequestRefused(401, "unauthorized", message, {"WWW-Authenticate": 'Bearer realm="mesa"'})
        if not key.allows(right):
            needed = "'admin'" if right == "admin" else f"'{right}' or 'admin'"
            message = (
                f"expected a key with the right {needed}, got the key {key.name!r}, which has "
                f"{', '.join(map(repr, key.rights))}; use another key, or change its rights"
            )
            raise _RequestRefused(403, "forbidden", message)
        return key

    @asynccontextmanager
    async def _body(self, request: Request) -> AsyncIterator[bytes]:
        """Read a body; it counts among those in memory until the request is answered."""
        chunks: list[bytes] = []
        size = 0
        try:
            async for chunk in request.stream():
                size += len(chunk)
                self._counts.bodies += len(chunk)
                self._check_size(size)
                chunks.append(chunk)
            body = b"".join(chunks)
            del chunks
            yield body
        finally:
            self._counts.bodies -= size

    def _check_size(self, size: int) -> None:
        if size > self._max_body:
            self._counts.refused["max_body"] += 1
            message = f"body: expected at most {self._max_body} bytes, got more; send fewer at once"
            raise _RequestRefused(413, "too_large", message)
        if self._counts.bodies > self._max_bodies:
            self._counts.refused["max_bodies"] += 1
            message = (
                f"expected at most {self._max_bodies} bytes of requests at once, got more; try again later, "
                "or send smaller ones"
            )
            raise _RequestRefused(503, OVERLOADED, message, {"Retry-After": str(RETRY_AFTER)})


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


async def _while_connected(request: Request, work: Coroutine[Any, Any, bytes]) -> bytes:
    """Return the result of work that may take long; cancel it when the dispatcher disconnects."""
    working, leaving = start(work), start(_until_disconnected(request))
    leaving.add_done_callback(lambda _: working.cancel())
    try:
        return await working
    finally:
        leaving.cancel()


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
        f"expected POST {DISPATCH.path} or another path of the API, GET {METRICS}, {LIVE} or {READY}, {got}",
    ).answer


def _problem(status: int, problem: Problem, headers: dict[str, str] | None = None) -> Response:
    return Response(encode_problem(problem), status, headers, media_type="application/json")


def _named(namespace: str | None) -> str:
    return "none" if namespace is None else repr(namespace)
