"""Warn of blocking calls on the thread of a running event loop."""

import asyncio
import inspect
import threading
import warnings

_PACKAGE = __name__.partition(".")[0]

_HAS_WARNED = threading.Event()


def warn_in_event_loop() -> None:
    """Warn, once in a process, if the caller blocks a running event loop.

    The warning names the line of the application, however deep in Mesa the call is found out.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    if not _HAS_WARNED.is_set():
        _HAS_WARNED.set()
        warnings.warn(
            "Dispatcher blocks this event loop until Redis or the server has answered; "
            "use AsyncDispatcher in asyncio, or call it in a thread",
            RuntimeWarning,
            stacklevel=_depth_of_application(),
        )


def _depth_of_application() -> int:
    """Count the frames from the caller of this up to the first that is not Mesa's."""
    depth, frame = 0, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        depth, frame = depth + 1, frame.f_back
    return depth
