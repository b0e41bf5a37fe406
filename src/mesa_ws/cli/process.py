"""Commands as processes: they end cleanly after SIGINT, SIGTERM or SIGQUIT, and log to stderr."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from ..transports.event_loop import PlainLoop
from ..transports.run import run_interruptible
from .config import Log

LIMIT = 15.0
"""Seconds that a command gets to end after a signal."""

Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run `work` in an event loop of its own.

    Raises:
        Interrupted: a signal arrived, and the work did not end by itself.
    """
    return run_interruptible(work, _cancel, PlainLoop)


def _cancel(task: "asyncio.Task[Any]") -> float:
    task.cancel()
    return LIMIT


_TEXT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def start_logging(settings: Log) -> Callable[[], None]:
    """Log to stderr, unless an application has set up logging already.

    Until the server has started, only warnings and errors are logged, so that a server that cannot
    start reports it in one line; `debug` logs everything from the beginning.

    Returns:
        A function to call when the server has started.
    """
    root = logging.getLogger()
    if root.handlers:
        return lambda: None
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if settings.json else logging.Formatter(_TEXT))
    root.addHandler(handler)
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    for chatty in ("uvicorn", "asyncio"):
        logging.getLogger(chatty).setLevel(max(level, logging.WARNING))
    if settings.messages:
        logging.getLogger("mesa_ws.events").setLevel(logging.DEBUG)
    root.setLevel(level if level == logging.DEBUG else max(level, logging.WARNING))
    return lambda: root.setLevel(level)


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object: `time` (RFC 3339, UTC), `level`, `logger`, `message`, `error`.

    Records that have `fields`, such as those of `StructuredLogging`, keep them.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Write a record on one line."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if hasattr(record, "fields"):
            entry["fields"] = record.fields
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry, enc_hook=repr).decode()
