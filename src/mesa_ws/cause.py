"""What a handler of a portal works on, so that what it sends has a name that stays the same.

An event may be handled more than once. What its handler sends each time is named after the event
and the place of the call among the calls of that handler: the second time it is a repetition.
"""

from contextvars import ContextVar


class Cause:
    """One handling of one event. Used from one thread at a time.

    Tasks that the handler leaves behind are no part of the handling: the same names made in two
    handlings would stand for different things, and one of them would count as a repetition.

    Args:
        key: names the event, however often it is handled.

    Attributes:
        message_ids: what was sent under names made here.
        is_over: whether the handling has ended, so that no names are made any more.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._count = 0
        self.message_ids: list[str] = []
        self.is_over = False

    def next_key(self) -> str:
        """The idempotency key of the next thing that is sent."""
        self._count += 1
        return f"{self._key}/{self._count}"


current_cause: ContextVar[Cause | None] = ContextVar("mesa_current_cause", default=None)
"""What the running code was called for, if a portal called it."""
