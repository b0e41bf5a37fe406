"""Devices of an id, and their connections."""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from mesa_ws.messages.receipt import Position


class Began(NamedTuple):
    """To the device: messages follow from this position on (op 22 and op 9 of wire 2)."""

    status: str
    position: Position
    lost: int


class Sent(NamedTuple):
    """To the device: a message."""

    position: Position
    message_id: str


class Probe(NamedTuple):
    """To the device: answer when all earlier messages are handled (op 1 to a 1.x client)."""

    position: Position


Frame = Began | Sent | Probe


@dataclass(eq=False)
class Connection:
    """One login of a device, as its node knows it.

    Attributes:
        at: position up to which messages were sent; None while the attach is under way.
        proven: position that the device has acknowledged.
        is_reading: whether a page is under way.
        is_behind: whether the outbox may hold unsent messages.
        frames: frames under way to the device.
        answers: acknowledgements under way from the device.
    """

    device: "Device"
    id: str
    node: str
    at: Position | None = None
    proven: Position | None = None
    is_reading: bool = False
    is_behind: bool = False
    frames: deque[Frame] = field(default_factory=deque)
    answers: deque[Position] = field(default_factory=deque)

    @property
    def has(self) -> int:
        """The sequence up to which the device has acknowledged everything, in the epoch of `at`."""
        return self.proven.sequence if self.proven else 0


Kind = Literal["1.x", "wire 2", "wire 2, nothing stored"]


class Device:
    """A client program. It objects to holes, to disorder and, with wire 2, to repeated messages.

    Args:
        name: for error messages.
        id: its id.
        kind: its protocol.
        late: messages that may arrive after messages that were dispatched later.
    """

    def __init__(self, name: str, id: str, kind: Kind, late: set[str]) -> None:
        self.name = name
        self.id = id
        self.kind = kind
        self._late = late
        self._had: set[str] = set()
        self._latest = 0
        self.connection: Connection | None = None
        self.history: list[tuple[Position, str]] = []
        self.position: Position | None = None

    @property
    def is_wire2(self) -> bool:
        """Whether the device keeps a position."""
        return self.kind != "1.x"

    @property
    def skips_stored(self) -> bool:
        """Whether the device wants only future messages."""
        return self.kind == "wire 2, nothing stored"

    def begin(self, position: Position | None) -> None:
        """Log in with a position, from which the program continues."""
        if position is None or self.position is None or position.epoch != self.position.epoch:
            self.history = []
        else:
            self.history = [each for each in self.history if each[0].sequence <= position.sequence]
        self.position = position
        self._latest = max((number_of(each[1]) for each in self.history), default=0)

    def handle(self, frame: Frame, handled: set[str]) -> None:
        """Process one frame, as the program on the device does."""
        if isinstance(frame, Began):
            self._begin(frame)
        elif isinstance(frame, Probe):
            assert self.connection is not None
            self.connection.answers.append(frame.position)
        else:
            self._take(frame, handled)

    def _begin(self, frame: Began) -> None:
        wanted = frame.position.sequence - frame.lost
        if frame.status == "resumed":
            assert self.position is not None
            assert self.position == (frame.position.epoch, wanted), (
                f"{self.name}: {frame}, not {self.position}"
            )
        elif frame.status == "forked":
            # A rolled back message is gone; dispatched again, it is another message.
            self.history = [each for each in self.history if each[0].sequence <= wanted]
        elif frame.status == "reset":
            self.history, self._latest = [], 0
        self.position = frame.position

    def _take(self, frame: Sent, handled: set[str]) -> None:
        own = self.position
        assert own is not None, f"{self.name}: {frame} before the login was answered"
        follows = Position(own.epoch, own.sequence + 1)
        assert frame.position == follows, f"{self.name}: {frame}, not {follows}: a hole"
        if self.is_wire2:
            assert all(each[1] != frame.message_id for each in self.history), f"{self.name}: {frame} again"
        self.position = frame.position
        self.history.append((frame.position, frame.message_id))
        self._check_order(frame.message_id)
        handled.add(frame.message_id)

    def _check_order(self, message_id: str) -> None:
        """Compare with the order of dispatches, which holds in spite of rollbacks."""
        if message_id not in self._had | self._late:
            number = number_of(message_id)
            assert number > self._latest, f"{self.name}: {message_id} after m{self._latest}: out of order"
            self._latest = number
        self._had.add(message_id)


def number_of(message_id: str) -> int:
    """Return the order of a message of the dispatcher."""
    return int(message_id.removeprefix("m"))
