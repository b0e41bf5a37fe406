"""What a node has read of the list of one id, numbered for its connections. Without any I/O.

Numbers belong to an epoch, which is new whenever a node begins to hold an id. The first messages of
a stream may be proven and still stand in the list, until Redis has agreed to forget them.
"""

import os
from collections.abc import Sequence

from ..outbox import Entry, Page, PageStatus
from .waiting import Waiting, passed


class Stream:
    """Messages of one id, in the order of its list.

    Attributes:
        epoch: random, so that no position of another stream fits.
        proven: the sequence up to which somebody has proven to have them.
    """

    def __init__(self) -> None:
        self.epoch = os.urandom(8).hex()
        self.proven = 0
        self._gone = 0
        self._messages: list[Waiting] = []

    @property
    def top(self) -> int:
        """The sequence of the last message."""
        return self._gone + len(self._messages)

    @property
    def is_owed(self) -> bool:
        """Whether the list still holds what is proven."""
        return self._gone < self.proven

    @property
    def owed(self) -> Sequence[Waiting]:
        """What is proven and may still be in the list."""
        return self._messages[: self.proven - self._gone]

    def merge(self, there: Sequence[Waiting]) -> list[Entry]:
        """Take what the list holds now; return the messages that are new."""
        gone = passed(self._messages, there)
        self._gone += gone
        del self._messages[:gone]
        self.proven = max(self.proven, self._gone)
        before = self.top
        self._messages.extend(there[len(self._messages) :])
        return self._entries(before)

    def prove(self, sequence: int) -> bool:
        """Note that somebody has the messages up to `sequence`; return whether that is news."""
        if not self.proven < sequence <= self.top:
            return False
        self.proven = sequence
        return True

    def settle(self, sequence: int) -> None:
        """The list holds the messages up to `sequence` no more."""
        count = max(0, sequence - self._gone)
        self._gone += count
        del self._messages[:count]
        self.proven = max(self.proven, self._gone)

    def page(self, status: PageStatus, after: int) -> Page:
        """Everything after a sequence; what is proven is left out."""
        start = min(max(after, self.proven), self.top)
        return Page(status, self.epoch, start, self.top, 0, tuple(self._entries(start)))

    def _entries(self, after: int) -> list[Entry]:
        fresh = self._messages[after - self._gone :]
        return [Entry(number, "", each.frame) for number, each in enumerate(fresh, after + 1)]
