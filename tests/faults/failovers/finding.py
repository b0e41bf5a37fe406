"""Findings of a checker."""

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
        fault: its kind.
        time: Unix time of the fault; of a lost message, the time when it was sent.
        what: description.
    """

    fault: Fault
    time: float
    what: str
