"""Where in an outbox something stands."""

from typing import NamedTuple


class Position(NamedTuple):
    """A place in the outbox of one id, or among the messages to everybody.

    Sequences of one epoch grow by one. When the backend restarts or fails over, an outbox goes on
    in a new epoch, because numbers that were given out may have been forgotten; so a position
    never stands for two messages.

    Attributes:
        epoch: name of a stretch in which numbers can be compared; no two outboxes share one.
        sequence: messages of the outbox up to and including this one; 0 before the first.
    """

    epoch: str
    sequence: int
