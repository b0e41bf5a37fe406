"""What the demo dispatches, and who has to receive it."""

from typing import Any, NamedTuple

CLIENTS = ("0", "1", "2")
"""The ids that are connected."""

END = "DEMO_END"
"""Type of the last message, to everybody: after it nothing is on its way any more."""


class Scene(NamedTuple):
    """One dispatch.

    Attributes:
        type: of the message.
        data: of the message.
        to: how to tell people whom it is for.
        options: how to tell `mesa dispatch` the same.
        receivers: the ids that have to receive it, and nobody else.
    """

    type: str
    data: dict[str, Any]
    to: str
    options: tuple[str, ...]
    receivers: frozenset[str]


SCENES = (
    Scene("STATUS_UPDATE", {"status": "online"}, '["0", "1"]', ("--to", "0,1"), frozenset({"0", "1"})),
    Scene(
        "NEW_MESSAGE",
        {"content": "hi"},
        "everybody but 1",
        ("--all", "--excluding", "1"),
        frozenset({"0", "2"}),
    ),
    Scene("GLOBAL_ALERT", {"alert": True}, '["*"]', ("--to", "*"), frozenset(CLIENTS)),
)

CURTAIN = Scene(END, {}, "everybody", ("--all",), frozenset(CLIENTS))
