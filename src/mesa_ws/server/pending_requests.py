"""Requests of one connection that wait for their answers: those to its client, or its own to portals."""

from collections.abc import Callable
from typing import Generic, TypeVar

from ..messages.request import BUSY, GONE, Failure

T = TypeVar("T")


class PendingRequests(Generic[T]):
    """Requests of one connection, each until it is answered, withdrawn, or the connection has ended.

    An answer is handed over at once: it waits behind nothing that arrived before it.

    Args:
        most: requests at a time.
        changed: called when the first request is added, and when the last is done.
    """

    __slots__ = ("_changed", "_most", "_open")

    def __init__(self, most: int, changed: Callable[[], None] | None = None) -> None:
        self._changed = changed
        self._most = most
        self._open: dict[str, Callable[[T | Failure], None]] | None = None

    def __len__(self) -> int:
        return len(self._open) if self._open else 0

    def add(self, request: str, on_answer: Callable[[T | Failure], None]) -> Failure | None:
        """Call `on_answer` with the answer to a request that is about to be sent.

        Returns:
            Why the request must not be sent; then `on_answer` is not called.
        """
        if len(self) >= self._most:
            return BUSY
        if self._open is None:
            self._open = {}
        self._open[request] = on_answer
        if len(self) == 1 and self._changed is not None:
            self._changed()
        return None

    def answered(self, request: str, answer: T | Failure) -> None:
        """Hand over an answer; one to no pending request is ignored."""
        on_answer = self.withdraw(request)
        if on_answer is not None:
            on_answer(answer)

    def withdraw(self, request: str) -> Callable[[T | Failure], None] | None:
        """Stop waiting for the answer to a request; return what it would have been handed to."""
        on_answer = self._open.pop(request, None) if self._open else None
        if on_answer is not None and not self._open and self._changed is not None:
            self._changed()
        return on_answer

    def close(self) -> None:
        """Fail every request, because the connection has ended."""
        pending, self._open = self._open or {}, None
        self._changed = None  # a method of the connection would keep it in a cycle
        for on_answer in pending.values():
            on_answer(GONE)
