"""What a checker found."""

from typing import Literal, NamedTuple

Fault = Literal[
    "lost",
    "untold",
    "out of order",
    "doubled",
    "doubled untold",
    "strange",
    "false offline",
    "cut",
    "events lost",
    "events doubled",
    "events out of order",
    "false disconnection",
]


class Finding(NamedTuple):
    """One fault.

    Attributes:
        fault: which.
        time: when it happened, in seconds of Unix time; of what is lost, when it was sent.
        what: in words.
    """

    fault: Fault
    time: float
    what: str
