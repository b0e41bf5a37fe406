"""What aiofastnet's TLS needs around it."""

import asyncio
from typing import Any


class QuietLoop:
    """The event loop as a TLS transport gets it: peers' faults are not reported as errors of this process.

    aiofastnet reports a handshake that is left halfway to the loop, as if that were a bug.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Pass on what is no error of the network; aiofastnet also gives classes of exceptions."""
        error = context.get("exception")
        kind = error if isinstance(error, type) else type(error)
        if not issubclass(kind, OSError):
            self._loop.call_exception_handler(context)


def resume_reading(transport: Any) -> None:
    """Resume reading, beginning with what was received before the pause.

    On its own, aiofastnet reads the socket first, and when it finds that the peer has closed, it drops
    what it had not decrypted yet. To be called from the event loop alone, not while a frame is handled.
    """
    transport.resume_reading()
    read_received = getattr(transport, "_retry_ssl_read", None)
    if read_received is not None:
        read_received()
