"""Which threads run a plain `def` handler, where nothing would await a coroutine."""

import threading
from collections.abc import Callable
from typing import Any

_here = threading.local()


def run_plain(handler: Callable[..., Any], *args: Any) -> Any:
    """Call a plain handler; this thread runs one until it returns."""
    _here.runs_handler = True
    try:
        return handler(*args)
    finally:
        _here.runs_handler = False


def is_in_plain_handler() -> bool:
    """Whether this thread runs a plain handler."""
    return getattr(_here, "runs_handler", False)
