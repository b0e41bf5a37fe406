"""What one client was asked and has not answered yet."""

from collections.abc import Callable

from ..failure import BUSY, GONE, Failure
from ..message import Message

TakeReply = Callable[[Message | Failure], None]


class Asked:
    """Requests to one client, each until it is answered, withdrawn, or the client has left.

    An answer is handed over at once: it waits behind nothing that the client sent before.

    Args:
        most: requests at a time.
        changed: called when the client begins, or ceases, to owe an answer.
    """

    __slots__ = ("_changed", "_most", "_open")

    def __init__(self, most: int, changed: Callable[[], None]) -> None:
        self._most = most
        self._changed = changed
        self._open: dict[str, TakeReply] | None = None

    def __len__(self) -> int:
        return len(self._open) if self._open else 0

    def add(self, request: str, take: TakeReply) -> Failure | None:
        """Let `take` be called with the reply to a request that is about to be sent.

        Returns:
            Why it must not be sent; then `take` is not called.
        """
        if len(self) >= self._most:
            return BUSY
        if self._open is None:
            self._open = {}
        self._open[request] = take
        if len(self) == 1:
            self._changed()
        return None

    def replied(self, request: str, reply: Message | Failure) -> None:
        """Hand over what the client said; what was not asked is ignored."""
        take = self._open.pop(request, None) if self._open else None
        if take is not None:
            if not self._open:
                self._changed()
            take(reply)

    def withdraw(self, request: str) -> None:
        """Wait for the answer to a request no more."""
        if self._open and self._open.pop(request, None) is not None and not self._open:
            self._changed()

    def close(self) -> None:
        """The client has left, and answers nothing."""
        asked, self._open = self._open or {}, None
        for take in asked.values():
            take(GONE)
