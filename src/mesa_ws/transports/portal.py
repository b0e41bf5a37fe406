"""Running a portal as a process of its own."""

import logging
import threading
from collections.abc import Callable

from ..errors import MesaError
from ..portal.worker import Worker
from .announce import announce
from .signals import run_until_signal

LIMIT = 20.0
"""Seconds that `run` gives a portal to stop, handlers included, before it is left behind."""

log = logging.getLogger("mesa_ws.portal")

_NOT_MAIN_THREAD = (
    "portal.run: expected the main thread, which signals go to, got another one; "
    "use async with portal in an event loop of that thread"
)


class Portal(Worker):
    """Handles what clients do, in a process apart from the servers.

    Servers with `Server(portals=True)` keep what happens to their connections until a portal has
    handled it. Any number of portals share that: each works on its part of the connections, and
    takes over from those that leave or die. Events of one connection are handled one after another,
    in order, those of different connections at the same time; each at least once, unless its
    handlers raised five times.

    Register handlers with its decorators, then `run` it, or enter it with `async with` in a loop of
    your own.

    Args:
        url: a Redis URI, a mapping of redis-py options or a redis-py client; or the `MemoryHub` or
            the `MemoryBackend` of servers in this process.
        namespace: that of the servers.
        wire: how the servers talk through Redis: `"native"`; or `"mesa1"` as @cryb/mesa 1.x does, with
            servers and portals of npm in the same cluster, and each event at most once.
        report_all_events: see what all portals see, each event once at most, and take no work from
            others; with wire `"mesa1"` it also gets its own part, as in 1.x.
        concurrency: events that are handled at the same time.
        handler_threads: plain `def` handlers that run at the same time.
        lease: seconds without a sign of life after which others take over from this portal.
        timeout: seconds for one call of the backend, connecting included.
        durability: what it has to reach that an event begins, before handlers are called:
            `"memory"`, `"fsync"` or `"replicated"`, as for messages.

    Raises:
        InvalidSettings: an argument is wrong.
        Unsupported: portals cannot work over HTTP, and this wire or this backend has no such durability.
    """

    def run(self, on_start: Callable[[], None] | None = None) -> None:
        """Work until SIGINT, SIGTERM or SIGQUIT, on uvloop where it exists; then hand over cleanly.

        Handlers get ten seconds to finish. What does not end although it is cancelled is named in
        the log and left behind, so that this returns within 30 seconds. A signal that comes while
        the portal starts ends the start at once, and a second signal does not wait.

        Args:
            on_start: called when the portal takes part. Without it, the log says so at INFO, or stderr where
                no logging is set up.

        Raises:
            BackendUnavailable: the backend cannot be reached.
            BackendRefused: the backend says no.
            MesaError: it runs already, or this is not the main thread, which signals go to.
        """
        if threading.current_thread() is not threading.main_thread():
            raise MesaError(_NOT_MAIN_THREAD)
        run_until_signal(self, lambda _: on_start() if on_start else self._announce(), LIMIT)

    def _announce(self) -> None:
        announce(log, f"portal {self.portal_id} takes part")
