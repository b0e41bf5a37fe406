"""Dispatching through a server's HTTP API, without Redis: the bus alone, no presence.

`plan` says what goes over the wire and what comes back; `blocking` and `aio` are its two thin
runners. Proxy settings of the environment are not used: the API is reached directly, so that a
dispatch never leaves for a proxy that was meant for the outside world.
"""

from .aio import AsyncHttpBus
from .blocking import BlockingHttpBus

__all__ = ["AsyncHttpBus", "BlockingHttpBus"]
