"""A server node: everything a server does, without sockets."""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Unpack

from ..backend.base import AsyncBus, Backend, WhoIsOnline
from ..backend.memory import MemoryBackend
from ..backend.redis import RedisBackend
from ..close import CloseCode
from ..envelope import Envelope, Receipt, prepare
from ..errors import BackendError, InvalidSettings, MesaError, Unsupported
from ..message import DispatchEvent, Message
from ..recipients import EVERYBODY, Recipients
from ..session import Terms
from ..settings import ServerOptions, ServerSettings
from ..user import User
from . import admission
from .connection import Connection, Transport
from .handlers import Handlers
from .hooks import Hooks
from .registry import Registry
from .request import Request

log = logging.getLogger("mesa_ws.server")

_ANOTHER_LOOP = (
    "server.send: expected the event loop of the server, got another one; "
    "make the handler `async def`, or use a Dispatcher in threads"
)
_NOT_RUNNING = "the server is not running; use server.run(...) or async with serve(server, ...)"

GRACE = 5.0
"""Seconds that handlers get to finish when the node stops."""

CANCEL_GRACE = 1.0
"""Seconds that they get after they were cancelled."""


class Node(Hooks):
    """Knows its connections, runs the application's handlers, and delivers what the bus brings.

    Args:
        backend: what this node shares with others: None for one process alone, a Redis URI, or a
            `Backend`.
        options: the fields of `ServerSettings`, features in any of their forms.

    Raises:
        InvalidSettings: an option is unknown or wrong.
        Unsupported: an option asks for what this version does not have.
    """

    def __init__(self, backend: Backend | str | None = None, **options: Unpack[ServerOptions]) -> None:
        self.settings = ServerSettings.of(options)
        if not self.settings.authentication.store_connected_users:
            raise Unsupported(
                "authentication.store_connected_users: expected True, got False; "
                "messages find an id by what nodes declare, so without it none would arrive"
            )
        self.handlers = Handlers(self.settings.limits.handler_threads)
        super().__init__(self.handlers)
        self.registry: Registry[Connection] = Registry()
        self._backend = _backend(backend, self.settings)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._is_stopping = False
        self._terms: Terms | None = None

    @property
    def namespace(self) -> str | None:
        """The namespace this node lives in."""
        return self.settings.namespace

    @property
    def bus(self) -> AsyncBus:
        """The way to every node of the cluster, this one included."""
        return self._backend

    @property
    def presence(self) -> WhoIsOnline:
        """Which ids have connections, anywhere in the cluster."""
        return self._backend

    @property
    def is_running(self) -> bool:
        """Whether connections may come."""
        return self._loop is not None and not self._is_stopping

    @property
    def is_ready(self) -> bool:
        """Whether the node runs and hears the rest of its cluster."""
        return self.is_running and self._backend.is_ready

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The connections that are open on this node."""
        return tuple(self.registry)

    @property
    def terms(self) -> Terms:
        """What this node offers to its connections.

        Raises:
            MesaError: the node is not running.
        """
        if self._terms is None:
            raise MesaError(_NOT_RUNNING)
        return self._terms

    async def send(
        self,
        message: Message | DispatchEvent,
        recipients: Iterable[str] = EVERYBODY,
        excluding: Iterable[str] = (),
    ) -> Receipt:
        """Send to every connection of the recipients, wherever in the cluster they are.

        Args:
            message: what to send.
            recipients: ids, or `"*"` for every connection.
            excluding: ids that shall not receive, also with `"*"`.

        Raises:
            InvalidMessage: the message cannot go on the wire.
            InvalidRecipients: recipients or exclusions are not ids.
            BackendError: the backend did not take it.
            MesaError: the server is not running, or in another event loop.
        """
        envelope = prepare(message, recipients, excluding)
        if self._running() is not asyncio.get_running_loop():
            raise MesaError(_ANOTHER_LOOP)
        [receipt] = await self._backend.dispatch([envelope])
        return receipt

    async def start(self) -> None:
        """Join the cluster; connections may come from now on.

        Raises:
            BackendUnavailable: the backend cannot be reached.
            BackendRefused: it says no.
            MesaError: the server is running already.
        """
        if self._loop is not None:
            raise MesaError("the server is running already; make another Server to listen once more")
        self._loop = asyncio.get_running_loop()
        self._is_stopping = False
        self._thread = threading.get_ident()
        self._terms = Terms(self.settings, has_authenticator=self.handlers.authenticator is not None)
        try:
            await self._backend.open(self.deliver)
        except BaseException:
            self._loop = None
            raise
        log.info("node %s is up", self._backend.node_id)

    async def stop(self) -> None:
        """Close every connection with 1001, let handlers finish, and leave the cluster.

        Handlers that do not finish are cancelled; those that go on all the same are left behind.
        """
        self._is_stopping = True
        for connection in self.registry:
            connection.disconnect(CloseCode.GOING_AWAY)
        try:
            await self._finish_tasks()
        finally:
            await self._backend.aclose()
            self.handlers.shutdown()
            self._loop = None
        log.info("node %s is down", self._backend.node_id)

    def deliver(self, envelope: Envelope) -> None:
        """Hand what the bus brought to the connections it is for. Never waits."""
        found = self._found(envelope.recipients)
        if envelope.kind == "disconnect":
            for connection in found:
                connection.disconnect(CloseCode.NORMAL)
            return
        body = envelope.body
        for connection in found:
            connection.write(body)

    # What connections and transports call.

    def connect(self, transport: Transport, request: Request) -> Connection:
        """Take in a client whose handshake is done."""
        connection = Connection(self, transport, request)
        self.registry.add(connection)
        connection.open()
        return connection

    async def admit(self, connection: Connection, data: object) -> None:
        """Answer op 2 of a connection."""
        await admission.admit(self, connection, data)

    def rename(self, connection: Connection, user: User) -> None:
        """Take note that a connection belongs to another user now."""
        previous = self.registry.identify(connection, user.id)
        self.spawn(admission.declare(self, connection, user.id, previous))

    def forget(self, connection: Connection) -> None:
        """Let go of a connection that has ended."""
        id = self.registry.discard(connection)
        if id is None:
            return
        if self.registry.count(id) == 0:
            self._backend.detach(id)
        else:
            self.spawn(self._redeclare(id))

    async def declare(self, id: str) -> None:
        """Tell the backend how many connections `id` has here, as of now.

        Whenever this runs it says what is true then, so the order of calls does not matter.
        """
        sockets = self.registry.count(id)
        if sockets:
            await self._backend.attach(id, sockets)
        else:
            self._backend.detach(id)

    def now(self) -> float:
        """The event loop's time, in seconds."""
        return self._running().time()

    def at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call back at `when`, in the time of `now`."""
        return self._running().call_at(when, callback)

    def in_loop(self, callback: Callable[..., None], *args: Any) -> None:
        """Call `callback` in the event loop: at once if we are in it, else as soon as possible."""
        loop = self._loop
        if threading.get_ident() == self._thread:
            callback(*args)
        elif loop is not None:  # without it every connection has ended, and there is nothing to do
            loop.call_soon_threadsafe(callback, *args)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` on its own; `stop` waits for it."""
        task = self._running().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _finish_tasks(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=GRACE)
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            _, stuck = await asyncio.wait(self._tasks, timeout=CANCEL_GRACE)
            if stuck:
                log.error("%d handlers go on although they were cancelled; left behind", len(stuck))

    async def _redeclare(self, id: str) -> None:
        try:
            await self.declare(id)
        except BackendError as error:
            log.warning("the backend does not know that a connection of %r has left: %s", id, error)

    def _found(self, recipients: Recipients) -> Sequence[Connection]:
        if recipients.everybody:
            anonymous = not self.settings.authentication.required
            return self.registry.everybody(recipients.excluding, anonymous=anonymous)
        return [connection for id in recipients.ids for connection in self.registry.of(id)]

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise MesaError(_NOT_RUNNING)
        return self._loop


def _backend(given: Backend | str | None, settings: ServerSettings) -> Backend:
    if given is None:
        return MemoryBackend(namespace=settings.namespace)
    if isinstance(given, str):
        return RedisBackend(given, namespace=settings.namespace)
    if not callable(getattr(given, "attach", None)):
        raise InvalidSettings("backend", "None, a Redis URI or a Backend", given)
    return given
