"""What clients do, on its way from nodes to portals: values, and the ports of both ends.

The inbox has `PARTITIONS` queues. All that happens to one connection goes to one of them, in its
order, and stays there until a portal has dealt with it. A queue is dealt with by the one portal
that owns it; whoever lost it meanwhile, for example because its process was paused, is turned away.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Literal, NamedTuple, Protocol
from zlib import crc32

from ..messages.envelope import Envelope

PARTITIONS = 16
"""Queues of one namespace, and so the most portals that have something to do."""

ALWAYS = 64
"""Letters that a queue has room for whatever their size."""

MOST_OF_ONE = 2000
"""What may wait of one connection, as `weight_of` counts: so nobody fills a queue alone, and a portal,
which reads ahead twice as far, finds others behind it. A burst has room while no portal is there."""

WEIGHED = 1024
"""Bytes that count as one letter more."""

MAX_READ = 128
"""Letters that are read at once."""

MAX_DEAD = 10_000
"""Dead letters that are kept; beyond, the oldest are dropped."""

MAX_KEPT = 64 * 1024 * 1024
"""Bytes of dead letters, and of what is kept for observers; beyond, the same."""

LetterKind = Literal["connection", "authentication", "message", "disconnection"]

Action = Literal["begin", "done", "reject", "die"]

_ANSWERS = "?"
"""Ends the name of who gets answers; no connection is called so."""

Answer = Literal["taken", "full", "unknown", "gone"]
"""What became of a letter. `full`: nothing, there are too many; try later. `unknown`: nothing, for
the connection counts as ended: begin it anew with a letter of kind `connection`. `gone`: the same of
its last letter, which may be what ended it, if it came before."""


class Letter(NamedTuple):
    """Something that happened to a connection.

    Attributes:
        connection_id: names the connection.
        partition: the queue of that connection.
        sequence: counts the letters of one connection; one that did not come from its node has none.
        kind: what happened.
        id: who the client was then, or None.
        node: the node of the connection.
        data: the encoded frame of a message; that of a request names it, and the portal sends a `Reply`
            of that name to `answers_of` the connection. Code and reason of a disconnection, as JSON.
    """

    connection_id: str
    partition: int
    sequence: str
    kind: LetterKind
    id: str | None
    node: str
    data: bytes = b""

    @property
    def key(self) -> str:
        """Names this letter among all."""
        return f"{self.connection_id}:{self.sequence}"


class Room(NamedTuple):
    """What a queue has room for.

    Attributes:
        letters: so many; twice as many where they say that a connection begins or ends. `MOST_OF_ONE`
            of one connection, which begins and ends all the same.
        bytes: so many of all letters that wait, as far as the backend can tell. The first
            `ALWAYS` letters fit whatever their size.
    """

    letters: int
    bytes: int


class Waiting(NamedTuple):
    """A letter that nobody has dealt with.

    Attributes:
        place: where it stands in its queue.
        at: when it came, in seconds of Unix time.
        letter: what it says.
    """

    place: str
    at: float
    letter: Letter


class DeadLetter(NamedTuple):
    """A letter that was given up.

    Attributes:
        place: names it among the dead letters.
        died: when it was given up, in seconds of Unix time.
        deliveries: how often it was handed to handlers.
        reason: why.
        at: when it came.
        letter: what it says.
    """

    place: str
    died: float
    deliveries: int
    reason: str
    at: float
    letter: Letter


class QueueBacklog(NamedTuple):
    """What waits in one queue.

    Attributes:
        partition: which.
        owner: the portal that deals with it, or None.
        waiting: letters that nobody has dealt with.
        oldest: when the first of them came, in seconds of Unix time; None where there is none.
    """

    partition: int
    owner: str | None
    waiting: int
    oldest: float | None


class Backlog(NamedTuple):
    """What waits for portals.

    Attributes:
        portals: those that live.
        queues: all of them, in their order.
        dead: how many dead letters there are.
        rejected: how many letters handlers have rejected; it begins again a month after the last one.
    """

    portals: tuple[str, ...]
    queues: tuple[QueueBacklog, ...]
    dead: int
    rejected: int

    @property
    def waiting(self) -> int:
        """Letters in all queues."""
        return sum(queue.waiting for queue in self.queues)

    @property
    def oldest(self) -> float | None:
        """When the first of them came, in seconds of Unix time."""
        return min((queue.oldest for queue in self.queues if queue.oldest is not None), default=None)


class Step(NamedTuple):
    """Something a portal does about a waiting letter of a queue that it owns.

    Attributes:
        partition: the queue.
        token: by which the portal owns it.
        action: `begin` counts a delivery, `done` takes the letter out, `reject` does so and
            counts it among the rejected, `die` puts it among the dead.
        place: which letter.
        connection_id: whose it is.
        weight: what it weighs.
        attempt: numbers the deliveries that this portal begins, from 1 on; 0 for other actions.
        reason: why it dies.
        message_ids: what was sent on account of it, which need not be remembered for long any more.
    """

    partition: int
    token: int
    action: Action
    place: str
    connection_id: str
    weight: int
    attempt: int = 0
    reason: str = ""
    message_ids: tuple[str, ...] = ()


class Steps(NamedTuple):
    """Steps of one queue that are carried out together.

    Attributes:
        partition: the queue.
        token: by which the portal owns it.
        attempt: the last one that begins here. The same again means that the portal has not heard
            what came of these very steps.
        steps: all of them, in their order.
    """

    partition: int
    token: int
    attempt: int
    steps: Sequence[Step]


def steps_of_queues(steps: Sequence[Step]) -> Iterator[Steps]:
    """Steps of one queue that follow each other, together."""
    for (partition, token), same in groupby(steps, key=lambda step: (step.partition, step.token)):
        together = list(same)
        yield Steps(partition, token, max(step.attempt for step in together), together)


class Ownership(NamedTuple):
    """Who takes part, and what the asking portal owns.

    Attributes:
        portals: all that live.
        tokens: partition -> the token by which the portal owns it.
    """

    portals: tuple[str, ...]
    tokens: Mapping[int, int]


def most_of_each(queues: int) -> int:
    """How many letters of each of so many queues are read at once."""
    return min(MAX_READ // 4, MAX_READ // queues)


def partition_of(connection_id: str) -> int:
    """The queue of a connection."""
    return crc32(connection_id.encode()) % PARTITIONS


def weight_of(data: bytes) -> int:
    """What a letter counts for among those of its connection."""
    return 1 + len(data) // WEIGHED


def answers_of(connection_id: str) -> str:
    """The recipient of answers to requests of a connection: one that older nodes do not know, and ignore."""
    return f"{connection_id}{_ANSWERS}"


def asker_of(recipient: str) -> str | None:
    """The connection whose request is answered; None if it is no answer that comes."""
    return recipient.removesuffix(_ANSWERS) if recipient.endswith(_ANSWERS) else None


class Inbox(Protocol):
    """A node's end."""

    @property
    def joins(self) -> int:
        """How often this node had to begin: what it appended before may be forgotten, or was ended."""
        ...

    async def append(self, letter: Letter, room: Room) -> Answer:
        """Put a letter at the end of its queue, if there is room.

        A letter of the same sequence, once more, changes nothing. If the node dies, its connections
        end: each one that began gets its last letter.

        Raises:
            BackendError: the backend did not take it, or did not answer.
        """
        ...


class Attendance(Protocol):
    """A portal's end; for one event loop."""

    @property
    def portal_id(self) -> str:
        """Random name of this portal."""
        ...

    async def tend(self, wanted: Collection[int], *, stays: bool = True) -> Ownership:
        """Show that this portal lives, own what is wanted and free, and let go of all else.

        Has to be repeated within the lease. Also ends the connections of nodes that died.

        Raises:
            BackendError: the backend did not answer; what is owned is lost when the lease is over.
        """
        ...

    async def read(self, after: Mapping[int, str]) -> list[Waiting]:
        """Wait a moment for letters of these partitions behind these places, '' for all of them.

        Anybody may read; only owners can take `Step`s.

        Raises:
            BackendError: the backend did not answer.
        """
        ...

    async def settle(self, steps: Sequence[Step]) -> list[int]:
        """Carry out steps, in their order.

        Returns:
            For each: how often the letter was delivered by now for `begin`; 0 for the others; -1
            where this portal does not own the queue.

        Raises:
            BackendError: the backend did not answer. They may be carried out once more, which changes
                nothing as long as no others were meanwhile.
        """
        ...

    async def overhear(self, after: str) -> tuple[str, list[Waiting]]:
        """Wait a moment for whatever is appended to any queue behind a place; '' begins now.

        Takes nothing away from anybody. Who does not come back within the lease, and who is ten
        thousand letters or `MAX_KEPT` bytes behind, misses some.

        Returns:
            The place to go on from, and the letters.

        Raises:
            BackendError: the backend did not answer.
        """
        ...

    async def reply(self, envelope: Envelope, node: str) -> bool:
        """Hand a message to one connection of one node; tell whether that node lives.

        Raises:
            BackendError: the backend did not answer.
        """
        ...

    async def backlog(self) -> Backlog:
        """What waits now, and who deals with it.

        Raises:
            BackendError: the backend did not answer.
        """
        ...

    async def dead_letters(self, limit: int) -> list[DeadLetter]:
        """The oldest dead letters.

        Raises:
            BackendError: the backend did not answer.
        """
        ...

    async def revive(self, places: Sequence[str]) -> int:
        """Put dead letters at the end of their queues, as if they had never been delivered; count them.

        Raises:
            BackendError: the backend did not answer.
        """
        ...

    async def drop(self, places: Sequence[str]) -> int:
        """Forget dead letters; count them.

        Raises:
            BackendError: the backend did not answer.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections; what is owned is let go of with `tend` before."""
        ...
