"""uvicorn in the event loop of a server: an ASGI application on listening sockets of our own."""

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, NamedTuple

import h11
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from ..backend.http.problems import OVERLOADED, RETRY_AFTER, TOO_SLOW, Problem, encode_problem
from ..concurrency.limited_log import LimitedLog
from ..concurrency.tasks import start
from ..server.request import Answers, TakeBack
from ..transports.asgi import Scope
from ..transports.asgi_socket import Receive, Send
from ..transports.listening import Acceptor
from .strangers import Strangers

log = logging.getLogger("mesa_ws.server")

RESERVE = 8
"""File descriptors that these connections leave to the rest of the process; fewer than clients leave."""


REFUSALS = 64
"""Connections beyond the limit that are answered at once; more are closed without an answer."""

REFUSAL = 1.0
"""Seconds that a connection beyond the limit has to ask, and to read the answer."""


class HttpLimits(NamedTuple):
    """What the connections of a service may cost.

    Attributes:
        connections: connections that are open at once; the service answers 503 to more.
        head: seconds for the head of a request, from the connection or from its first byte.
        body: seconds for the body of a request, and for the peer to read an answer.
    """

    connections: int = 1000
    head: float = 10.0
    body: float = 30.0


DEFAULT_LIMITS = HttpLimits()


class HttpLogs:
    """What the peers of a service cause in the log, which they cannot flood.

    Attributes:
        name: name of the service.
        own: gets our own lines.
        uvicorn: gets those of uvicorn.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.own = LimitedLog(log)
        self.uvicorn = _UvicornLog(logging.getLogger("uvicorn.error"))

    def close(self) -> None:
        """Log what was counted."""
        self.own.close()
        self.uvicorn.close()


class _UvicornLog(LimitedLog):
    """uvicorn's logger, which it also asks for its level."""

    @property
    def level(self) -> int:
        return self.logger.level


class HttpService:
    """Serves an application from `start` to `aclose`.

    The signal handlers and the logging of the process stay unchanged.

    Args:
        app: answers the requests.
        listeners: listening sockets; `aclose` closes them.
        name: name of the service in the log.
        who: name of its peers in the log.
        keep_alive: seconds for which an idle connection is kept.
        grace: seconds in which requests in progress may finish.
        limits: what connections may cost.
        refused: counts what a limit refused: `max_connections`, `head_timeout` or `body_timeout`.
    """

    def __init__(
        self,
        app: Starlette,
        listeners: list[socket.socket],
        *,
        name: str,
        who: str,
        keep_alive: int,
        grace: int,
        limits: HttpLimits = DEFAULT_LIMITS,
        refused: Counter[str] | None = None,
    ) -> None:
        self._name = name
        config = uvicorn.Config(
            app,
            http=_HttpConnection,
            ws="none",
            lifespan="off",
            log_config=None,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=keep_alive,
            timeout_graceful_shutdown=grace,
        )
        refused = Counter() if refused is None else refused
        self._server = _UvicornServer(config, listeners, HttpLogs(name), who, limits, refused)
        self._task: asyncio.Task[None] | None = None

    def connections(self) -> int:
        """Return the number of open connections."""
        return len(self._server.server_state.connections)

    def start(self) -> None:
        """Start to accept connections."""
        self._task = start(self._server.serve(), name=f"mesa {self._name}")

    def protocol(
        self, transport: asyncio.Transport, answers: Answers, take_back: TakeBack, strangers: Strangers
    ) -> asyncio.Protocol | None:
        """Return the protocol of a connection that another listener has accepted.

        Args:
            transport: of the connection.
            answers: whether requests for a path are for this service.
            take_back: called with a request that is not, or has to become a WebSocket.
            strangers: tells whose connections are not kept, and counts them.

        Returns:
            None if there are too many connections; this one is answered, and closes.
        """
        return self._server.adopt(transport, _Lent(answers, take_back, strangers))

    async def aclose(self) -> None:
        """Stop listening, and let requests in progress finish."""
        if self._task is not None:
            self._server.should_exit = True
            await self._task


class _Lent(NamedTuple):
    """A connection that another listener has accepted; see `HttpService.protocol`."""

    answers: Answers
    take_back: TakeBack
    strangers: Strangers


class _UvicornServer(uvicorn.Server):
    """uvicorn's server for connections that our own `Acceptor` accepts."""

    def __init__(
        self,
        config: uvicorn.Config,
        listeners: list[socket.socket],
        logs: HttpLogs,
        who: str,
        limits: HttpLimits,
        refused: Counter[str],
    ) -> None:
        super().__init__(config)
        self._limits = limits
        self._logs = logs
        self._refused = refused
        self._acceptor = Acceptor(listeners, self._arrive, who=who, reserve=RESERVE)
        self._refusing = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        self._acceptor.start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._acceptor.close()
        await self._acceptor.wait_closed()
        await super().shutdown()
        self._logs.close()

    async def _arrive(self, connection: socket.socket) -> None:
        # uvicorn's limit_concurrency counts a connection only after a whole head, and keeps it open.
        connections = self.server_state.connections
        if len(connections) >= self._limits.connections:
            await self._refuse(connection)
            return
        protocol = self._protocol()
        connections.add(protocol)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, connection)
        except BaseException:
            connections.discard(protocol)
            raise

    def adopt(self, transport: asyncio.Transport, lent: _Lent) -> "_HttpConnection | None":
        if len(self.server_state.connections) < self._limits.connections:
            return self._protocol(lent)
        self._warn_of_limit()
        transport.write(_refusal(self._limits.connections))
        transport.close()
        return None

    def _warn_of_limit(self) -> None:
        self._refused["max_connections"] += 1
        self._logs.own.warning(
            "%s refused a connection: %d are open, which is the limit",
            self._logs.name,
            self._limits.connections,
        )

    async def _refuse(self, connection: socket.socket) -> None:
        """Answer 503 to the first bytes of a connection, and close it."""
        self._warn_of_limit()
        if self._refusing >= REFUSALS:
            connection.close()
            return
        loop = asyncio.get_running_loop()
        self._refusing += 1
        try:
            async with asyncio.timeout(REFUSAL):
                await loop.sock_recv(connection, 65_536)  # closing before that would reset the connection
                await loop.sock_sendall(connection, _refusal(self._limits.connections))
        except TimeoutError:
            pass
        finally:
            self._refusing -= 1
            connection.close()

    def _protocol(self, lent: _Lent | None = None) -> "_HttpConnection":
        more: dict[str, Any] = {"config": self.config, "server_state": self.server_state, "app_state": {}}
        return _HttpConnection(self._logs, self._limits, self._refused, lent, **more)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _HttpConnection(H11Protocol):
    """uvicorn's connection with deadlines for its peer, and without an access log.

    uvicorn's own deadline is for a connection without a request, and ends with the first byte; its setting
    for the access log would disable that log in the whole process.
    """

    def __init__(
        self,
        logs: HttpLogs,
        limits: HttpLimits,
        refused: Counter[str],
        lent: _Lent | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._lent = lent
        self._is_given_back = False
        self.access_log = False
        self._refused = refused
        self._logs = logs
        self.logger: Any = logs.uvicorn
        self._limits = limits
        self._awaited: tuple[object, object] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._abortion: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._abort_later()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            _cancel(self._abortion)
            self._abortion = None

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._lent is not None:
            self._lent.strangers.left(self)
        self._unset_keepalive_if_required()
        _cancel(self._deadline)
        _cancel(self._abortion)

    def _watch(self) -> None:
        """Start the deadline of the head or body that is awaited now, unless it runs already."""
        if self._is_given_back:
            return
        if self.transport.is_closing():
            _cancel(self._deadline)
            self._abort_later()
            return
        state = self.conn.their_state
        is_idle = self.timeout_keep_alive_task is not None and not self.conn.trailing_data[0]
        awaited = (
            (state, self.cycle) if state is h11.SEND_BODY or (state is h11.IDLE and not is_idle) else None
        )
        if awaited == self._awaited:
            return
        _cancel(self._deadline)
        self._awaited = awaited
        if awaited is not None:
            seconds = self._limits.body if state is h11.SEND_BODY else self._limits.head
            self._deadline = self.loop.call_later(seconds, self._give_up, seconds)

    def _give_up(self, seconds: float) -> None:
        """Answer 408 to a request of which too little has come, and close the connection."""
        is_body = self.conn.their_state is h11.SEND_BODY
        begun = is_body or self.conn.trailing_data[0]
        is_answered = self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE)
        self._refused["body_timeout" if is_body else "head_timeout"] += not is_answered
        if begun and not is_answered:
            text = f"{'body' if is_body else 'head'}: expected all of it within {seconds:g} s, got a part"
            for event in _closing_answer(408, Problem(TOO_SLOW, text)):
                self.transport.write(self.conn.send(event) or b"")
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()
        self._watch()

    def _abort_later(self) -> None:
        """Give the peer a time to read what was written; the transport would wait for ever."""
        if self._abortion is None:
            self._abortion = self.loop.call_later(self._limits.body, self.transport.abort)

    def _should_upgrade_to_ws(self) -> bool:
        return self._lent is not None

    def _should_upgrade(self) -> bool:
        if self._lent is not None and not self._lent.answers(self.scope["raw_path"]):
            return True
        if super()._should_upgrade():
            return True
        if self._lent is not None:
            self.app = self._app_for(self._lent.strangers)
        return False

    def _app_for(self, strangers: Strangers) -> Any:
        """Return what answers the request whose head has come; it may be the last one of the connection."""
        if not strangers.have_sent(self.headers):
            return self.config.loaded_app
        is_admitted = strangers.admit(self, self.client, self.headers)
        self.headers.append(CLOSE_HEADER)  # which uvicorn's answer has then, too
        return self._answer_stranger if is_admitted else _REFUSED_STRANGER

    async def _answer_stranger(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer when the body has come, without keeping it: closing before that could lose the answer."""
        while (await receive()).get("more_body"):
            pass
        self.flow.resume_reading()  # a large body has paused it, and TLS has to read the peer's farewell
        await self.config.loaded_app(scope, receive, send)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Give the connection back: proxies send all kinds of requests over one, and WebSockets, too."""
        if self._lent is None:
            return
        self._is_given_back = True
        self.connections.discard(self)
        self._unset_keepalive_if_required()
        _cancel(self._deadline)
        _cancel(self._abortion)
        head = [b"%b %b HTTP/1.1\r\n" % (event.method, event.target)]
        head += [b"%b: %b\r\n" % (name, value) for name, value in self.headers]
        self._lent.take_back(self.transport, b"".join([*head, b"\r\n"]))

    def _unsupported_upgrade_warning(self) -> None:
        self._logs.own.warning(
            "%s got a WebSocket request; clients have to connect to the server's own port", self._logs.name
        )


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _closing_answer(
    status: int, problem: Problem, **headers: str
) -> tuple[h11.Response, h11.Data, h11.EndOfMessage]:
    body = encode_problem(problem)
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
    response = h11.Response(
        status_code=status,
        headers=[*fields.items(), *headers.items()],
        reason=HTTPStatus(status).phrase.encode(),
    )
    return response, h11.Data(data=body), h11.EndOfMessage()


def _refusal(most: int) -> bytes:
    """Return a whole response to whatever was asked."""
    text = f"expected at most {most} connections, got one more; try again later, or use fewer"
    answer = h11.Connection(h11.SERVER)
    events = _closing_answer(503, Problem(OVERLOADED, text), **{"Retry-After": str(RETRY_AFTER)})
    return b"".join(answer.send(event) or b"" for event in events)


_REFUSED_STRANGER = Response(
    encode_problem(
        Problem(
            OVERLOADED,
            "expected fewer connections from one address without a valid key, got one more; try again later",
        )
    ),
    503,
    {"Retry-After": str(RETRY_AFTER)},
    "application/json",
)
