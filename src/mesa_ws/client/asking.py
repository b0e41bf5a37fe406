"""What a client asked on one connection, and was not told yet."""

import asyncio
from collections.abc import Callable

from ..errors import MesaError, TooManyRequests
from ..failure import Failure
from ..message import Message


class Asking:
    """Requests on one connection. Nothing is left of one whose call has ended.

    Args:
        most: requests at a time.
        changed: called when an answer begins, or ceases, to be waited for.
    """

    def __init__(self, most: int, changed: Callable[[], None]) -> None:
        self._most = most
        self._changed = changed
        self._number = 0
        self._open: dict[str, asyncio.Future[Message | Failure]] = {}

    def __len__(self) -> int:
        return len(self._open)

    async def ask(self, write: Callable[[str], None]) -> Message:
        """Ask, and wait for the reply however long it takes.

        Args:
            write: sends the request under the id that it is given.

        Raises:
            TooManyRequests: as many wait as may.
            MesaError: what the reply says, what `close` was given, or what `write` raises.
        """
        if len(self._open) >= self._most:
            raise TooManyRequests(
                f"request: expected up to {self._most} that wait for answers at a time, got one more; "
                "wait for some first, or give the client larger limits.max_requests"
            )
        self._number += 1
        request = str(self._number)
        reply: asyncio.Future[Message | Failure] = asyncio.get_running_loop().create_future()
        self._open[request] = reply
        try:
            write(request)
            self._changed()
            answer = await reply
        finally:
            del self._open[request]
            self._changed()
        if isinstance(answer, Failure):
            raise answer.error()
        return answer

    def replied(self, request: str, reply: Message | Failure) -> None:
        """The server said something to a request; what was not asked is ignored."""
        waiting = self._open.get(request)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)

    def close(self, ending: Callable[[], MesaError]) -> None:
        """The connection has ended; every call raises what `ending` makes."""
        for waiting in self._open.values():
            if not waiting.done():
                waiting.set_exception(ending())
                waiting.exception()  # the call may have been given up, and nobody looks
