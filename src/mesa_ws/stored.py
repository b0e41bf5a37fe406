"""A message in an outbox, as it is shown to people."""

from typing import NamedTuple


class Stored(NamedTuple):
    """A message that waits in an outbox.

    Attributes:
        sequence: its number.
        message_id: names its dispatch.
        at: when it was stored, in seconds of Unix time.
        expires: when it will be dropped, in seconds of Unix time.
        body: the encoded frame.
    """

    sequence: int
    message_id: str
    at: float
    expires: float
    body: bytes
