"""What the WebSocket library logs, turned down to what it means here.

It reports every connection at INFO and every broken frame of a peer at ERROR. Neither is an
error of ours; what matters is logged by the server and the client themselves.
"""

import logging
from collections.abc import MutableMapping
from typing import Any


class _Quiet(logging.LoggerAdapter[logging.Logger]):
    """Logs everything at DEBUG. An adapter also saves the logger picows makes per connection."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the name is logging's
        """Below DEBUG it would tell whole handshakes, tokens among them: that is never enabled."""
        return level >= logging.DEBUG and super().isEnabledFor(level)

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        super().log(min(level, logging.DEBUG), msg, *args, **kwargs)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, kwargs


def quiet(end: str) -> logging.LoggerAdapter[logging.Logger]:
    """A logger for the `server` or the `client` end of the WebSocket library."""
    return _Quiet(logging.getLogger(f"mesa_ws.{end}.websocket"))
