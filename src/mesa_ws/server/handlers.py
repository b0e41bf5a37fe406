"""The application's handlers, and how they are run.

Handlers are `async def`, which run in the event loop, or `def`, which run in a bounded pool of
threads. Those of one connection run one after another.
"""

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..errors import ConnectionClosed
from ..message import Message
from ..user import User
from .forwarding import Forwarder, Sender

log = logging.getLogger("mesa_ws.server")

Handler = Callable[..., Any]


class Handlers:
    """What the application wants to be called for; connections are only passed on.

    Args:
        threads: plain `def` handlers that run at the same time.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self.authenticator: Handler | None = None
        self.connection: list[Handler] = []
        self.authentication: list[Handler] = []
        self.message: list[tuple[str | None, Handler]] = []
        self.disconnection: list[Handler] = []
        self.online: list[Handler] = []
        self.offline: list[Handler] = []
        self.lost: list[Handler] = []
        self.error: list[Handler] = []
        self.forwarder: Forwarder | None = None

    @property
    def wants_connections(self) -> bool:
        """Whether anybody is to be told of new connections."""
        return bool(self.connection) or self.forwarder is not None

    @property
    def wants_disconnections(self) -> bool:
        """Whether anybody is to be told of connections that have ended."""
        return bool(self.disconnection) or self.forwarder is not None

    async def authenticate(self, data: Any, connection: object, timeout: float | None) -> User | None:
        """Ask the authenticator; errors, also a wrong result, are its caller's to handle."""
        assert self.authenticator is not None  # noqa: S101 - sessions ask only where there is one
        async with asyncio.timeout(timeout):
            user = await self._call(self.authenticator, data, connection)
        if user is None or isinstance(user, User):
            return user
        raise TypeError(f"authenticator: expected User(id, data) or None, got {type(user).__name__}")

    async def connected(self, connection: Sender) -> None:
        """Tell of a new connection."""
        if self.forwarder is not None:
            await self.forwarder.connected(connection)
        await self._run(self.connection, connection, connection)

    async def authenticated(self, connection: Sender) -> None:
        """Tell that a connection belongs to somebody now."""
        await self.renamed(connection)
        await self._run(self.authentication, connection, connection)

    async def renamed(self, connection: Sender) -> None:
        """Tell portals alone that a connection belongs to somebody else."""
        if self.forwarder is not None:
            await self.forwarder.authenticated(connection)

    async def received(self, message: Message, connection: Sender) -> None:
        """Hand over a message."""
        if self.forwarder is not None:
            await self.forwarder.received(message, connection)
        handlers = [handler for type, handler in self.message if type is None or type == message.type]
        await self._run(handlers, connection, message, connection)

    async def disconnected(self, connection: Sender, code: int, reason: str) -> None:
        """Tell that a connection has ended."""
        if self.forwarder is not None:
            await self.forwarder.disconnected(connection, code, reason)
        await self._run(self.disconnection, connection, connection, code, reason)

    async def came_online(self, id: str) -> None:
        """Tell that an id has its first connection."""
        await self._run(self.online, None, id)

    async def went_offline(self, id: str) -> None:
        """Tell that an id has none any more."""
        await self._run(self.offline, None, id)

    async def lost_messages(self, id: str, count: int) -> None:
        """Tell that messages were lost on the way to a client of 1.x."""
        await self._run(self.lost, None, id, count)

    async def failed(self, error: BaseException, connection: object) -> None:
        """Report what a handler raised; a reporter that raises is only logged.

        Args:
            error: what it raised.
            connection: whose handler it was; None for what concerns an id.
        """
        for handler in self.error:
            try:
                await self._call(handler, error, connection)
            except Exception:
                log.exception("on_error handler %s raised", name_of(handler))

    def shutdown(self) -> None:
        """Let go of the threads; those still busy are not waited for."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    async def _run(self, handlers: list[Handler], connection: object, *args: Any) -> None:
        for handler in handlers:
            try:
                await self._call(handler, *args)
            except ConnectionClosed:
                log.debug("handler %s: %r has ended meanwhile", name_of(handler), connection)
            except Exception as error:
                log.exception("handler %s raised", name_of(handler))
                await self.failed(error, connection)

    async def _call(self, handler: Handler, *args: Any) -> Any:
        try:
            result = handler(*args) if _is_async(handler) else await self._in_thread(handler, *args)
            return await result if isinstance(result, Awaitable) else result
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            # What the handler waited for was cancelled, not the handler: it failed like any other.
            raise RuntimeError(f"{name_of(handler)} waited for something that was cancelled") from error

    async def _in_thread(self, handler: Handler, *args: Any) -> Any:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="mesa-handler")
        run = contextvars.copy_context().run
        return await asyncio.get_running_loop().run_in_executor(self._pool, run, _called, handler, *args)


def _called(handler: Handler, *args: Any) -> Any:
    """Call in a thread. A future cannot hold StopIteration, which coroutines do not let out either."""
    try:
        return handler(*args)
    except StopIteration as error:
        raise RuntimeError(f"{name_of(handler)} raised StopIteration") from error


def _is_cancelled() -> bool:
    """Whether the task that runs a handler is itself meant to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _is_async(handler: Handler) -> bool:
    call = getattr(handler, "__call__", None)  # noqa: B004 - an object's own __call__ may be async
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call)


def name_of(handler: Handler) -> str:
    """What to call a handler in logs."""
    return getattr(handler, "__qualname__", repr(handler))
