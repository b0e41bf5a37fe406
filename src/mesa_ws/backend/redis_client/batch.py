"""Batches of commands, with their replies, and counts of calls."""

import asyncio
import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, Generic, TypeVar

from redis.exceptions import NoPermissionError, NoScriptError, ReadOnlyError, RedisError

from ...errors import BackendError, BackendRefused, BackendUnavailable, MesaError
from .command import MAX_IDS, Command, JointCommand
from .durability import Proof
from .failures import failed_reply, is_of_no_master, is_partial
from .master import Master

T = TypeVar("T")


SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds of the classes that durations of calls are counted in."""


class CallMeter:
    """Counts calls, with how long they took until their replies were there, and those that failed.

    Attributes:
        counts: calls by the first of `SECONDS` that they did not exceed; the last ones took longer.
        seconds: the sum of their durations.
        refused: calls that Redis refused, wholly or in part.
        unavailable: calls that got no reply.
    """

    __slots__ = ("counts", "refused", "seconds", "unavailable")

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)
        self.seconds = 0.0
        self.refused = self.unavailable = 0

    def add(self, seconds: float, error: Exception | None) -> None:
        """Count a call that took some seconds, and ended with an error or without."""
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.seconds += seconds
        if error is not None:
            self.refused += isinstance(error, BackendRefused)
            self.unavailable += isinstance(error, BackendUnavailable)


_NO_STEPS = iter(range(0))


class Batch:
    """Commands that are written together, or in steps, and their replies.

    A runner writes what `begin` returns, passes each reply to `add`, and starts again while something is
    `missing`: the next step, or a script that Redis did not run, since it did not know it, or refused it
    together with others; so it is sent twice.
    A repeatable batch may also be sent again from the start after its connection broke.

    Args:
        commands: the commands, in order.
        is_repeatable: whether a second run changes nothing.
        known_for: seconds for which that holds. The batch is repeated only in the first half of this
            time, since written bytes may take a while to arrive.
        proof: the durability to ask for afterwards, on the same connection.
        steps: positions of commands that are written when all before them have been replied to, so that other
            clients of Redis have their turn in between. After an error no further step is written.

    Attributes:
        replies: the replies, including errors of Redis.
        missing: positions of the commands to write next.
        runs_again: whether these are missing because Redis did not run them.
        has_errors: whether Redis ever replied with an error.
        is_doubtful: whether the batch is being repeated because the outcome of its first run is unknown.
        future: of the result or a `BackendError`, once the batch is in the queue of a pipeline.
        began: when it came there, by the clock of its event loop.
        deadline: of that future, by that clock.
        meter: counts the batch when it is settled, if it is a call.
    """

    __slots__ = (
        "_again", "_count", "_end", "_is_written", "_known_for", "_later", "_written_at", "began",
        "commands", "deadline", "future", "has_errors", "is_doubtful", "is_repeatable", "meter",
        "missing", "proof", "replies", "runs_again", "steps",
    )  # fmt: skip

    future: asyncio.Future[Any]
    began: float
    deadline: float
    _count: int
    _again: Sequence[int]

    def __init__(
        self,
        commands: Sequence[Command],
        is_repeatable: bool = False,
        proof: Proof | None = None,
        known_for: float = math.inf,
        steps: Sequence[int] = (),
    ) -> None:
        self.commands = commands
        self.is_repeatable = is_repeatable
        self.proof = proof
        self.steps = steps
        self._reset()
        self.has_errors = self.is_doubtful = self._is_written = self.runs_again = False
        self.meter: CallMeter | None = None
        self._known_for = known_for
        self._written_at: float | None = None

    def _reset(self) -> None:
        """Begin with the first step."""
        self._end = count = len(self.commands)
        self.replies: list[Any] = [None] * count
        self._later = _NO_STEPS
        if self.steps:
            self._later = iter(self.steps)
            self._end = next(self._later)
        self.missing: Sequence[int] = range(self._end)

    @property
    def is_written(self) -> bool:
        """Whether Redis may have run any of the commands."""
        return self._is_written or self.is_doubtful

    @property
    def lacks_scripts(self) -> bool:
        """Whether Redis did not know a script."""
        return self.has_errors and any(type(reply) is NoScriptError for reply in self.replies)

    @property
    def is_read_only(self) -> bool:
        """Whether this Redis is a replica, so that another one has to run the commands."""
        return any(isinstance(reply, ReadOnlyError) for reply in self.replies)

    @property
    def is_misled(self) -> bool:
        """Whether the replies suggest that this Redis is not the master."""
        return any(map(is_of_no_master, self.replies))

    def first_limit(self, now: float, deadline: float) -> float:
        """Return until when to wait on a connection that may be dead, which leaves time for another one."""
        return now + min((deadline - now) / 2, self._known_for / 4) if self.is_repeatable else deadline

    def begin(self, now: float) -> Sequence[Command]:
        """Return the commands to write now: from here on Redis may run them."""
        self._is_written = True
        if self._written_at is None:
            self._written_at = now
        self._count, self._again = 0, ()
        if len(self.missing) == len(self.commands):
            return self.commands
        return [self.commands[at] for at in self.missing]

    def add(self, reply: Any) -> bool:
        """Store the next reply; return whether it was the last one to what `begin` returned."""
        missing, count = self.missing, self._count
        self.replies[missing[count]] = reply
        if isinstance(reply, RedisError):
            self.has_errors = True
            if isinstance(reply, NoScriptError):
                self._again = [*self._again, missing[count]]
        self._count = count = count + 1
        if count < len(missing):
            return False
        self.missing = again = self._again
        if again or self.runs_again:
            self.runs_again, self._is_written = bool(again), len(again) < self._end
        if not again and self._end < len(self.commands) and not self._has_failed:
            start, self._end = self._end, next(self._later, len(self.commands))
            self.missing = range(start, self._end)
        return True

    @property
    def _has_failed(self) -> bool:
        """Whether a command was refused, so that no later step may run: it may build on this one."""
        return self.has_errors and any(isinstance(reply, RedisError) for reply in self.replies)

    def repeat(self, now: float) -> bool:
        """Reset the batch for another connection; return whether a repeat is safe."""
        if not (self.is_repeatable and self.is_written) or self._written_at is None:
            return False
        if now - self._written_at > self._known_for / 2:
            return False
        self.is_doubtful, self._is_written = True, False
        self._reset()
        return True

    @property
    def is_part_done(self) -> bool:
        """Whether Redis may have run a command: it did not refuse all, or a run before had no outcome."""
        done = (not isinstance(reply, RedisError) or is_partial(reply) for reply in self.replies)
        return self.is_doubtful or (self._is_written and any(done))

    def doubting(self, error: MesaError) -> MesaError:
        """Return a copy of the error that stopped the batch, which says if a part may have been done."""
        if getattr(error, "maybe_sent", False) or not self.is_part_done:
            return copy(error)
        return BackendUnavailable(getattr(error, "problem", str(error)), maybe_sent=True)

    def failure(self, where: str) -> BackendError | None:
        """Return the first error among the replies as a `BackendError` with its cause; None without."""
        failed = [reply for reply in self.replies if isinstance(reply, RedisError)]
        if not failed:
            return None
        error = failed_reply(where, failed[0])
        error.maybe_sent = self.is_part_done
        error.__cause__ = failed[0]
        return error

    def settle(self, error: Exception | None = None) -> None:
        """Resolve the future with the result, or with an error that has its cause."""
        future = self.future
        if future.done():
            return
        if self.meter is not None:
            self.meter.add(future.get_loop().time() - self.began, error)
        if error is None:
            try:
                future.set_result(self.result())
            except Exception as raised:  # noqa: BLE001 - the caller gets it
                future.set_exception(raised)
        else:
            future.set_exception(error)

    def result(self) -> Any:
        """Return what the caller gets: the replies."""
        return self.replies

    def settle_answered(self, where: str) -> None:
        """Settle a batch that has its replies, unless it waits for a proof."""
        failure = self.failure(where) if self.has_errors else None
        if failure is not None or self.proof is None:
            self.settle(failure)


MAX_JOINT = 64 * 1024
"""Bytes of the bodies that one run of a script takes from several commands."""


class RefusedTogether(NoScriptError):
    """The reply to commands whose user may not do what one of them does: each runs again.

    What was written behind them in the same turn, and was not joined, then comes before them.
    """


def join(commands: Sequence[Command]) -> tuple[Sequence[Command], Sequence[int]]:
    """Join neighbours that can run together, in order, as many as have `MAX_IDS` keys and `MAX_JOINT`.

    Returns:
        The commands to write; and for each how many of `commands` its reply answers. See `split_reply`.
    """
    if len(commands) == 1:  # the usual case
        return commands, (1,)
    runs: list[list[Command]] = []
    shared: Command = ()
    keys = size = 0
    for command in commands:
        if not isinstance(command, JointCommand):
            shared = ()
            runs.append([command])
            continue
        own_keys = command[2] - 2
        body = len(command[9 + own_keys])
        keys, size = keys + own_keys, size + body
        if command.shared == shared and keys <= MAX_IDS and size <= MAX_JOINT:
            runs[-1].append(command)
        else:
            shared, keys, size = command.shared, own_keys, body
            runs.append([command])
    return [_joined(run) if len(run) > 1 else run[0] for run in runs], [len(run) for run in runs]


def _joined(run: Sequence[Any]) -> Command:
    keys = [key for command in run for key in command[5 : 3 + command[2]]]
    args = [arg for command in run for arg in command[6 + command[2] :]]
    script, sha, own, *shared_keys = run[0][:5]
    return (script, sha, 2 + len(keys), *shared_keys, *keys, *run[0][3 + own : 6 + own], *args)


def split_reply(reply: Any, count: int) -> Sequence[Any]:
    """Return the replies that a reply stands for, to so many commands."""
    if count == 1:
        return (reply,)
    if not isinstance(reply, RedisError):
        return reply  # type: ignore[no-any-return]  # a list
    is_about_one = isinstance(reply, NoPermissionError)  # others, such as READONLY, are about Redis
    return [RefusedTogether(str(reply)) if is_about_one else reply] * count


class Group:
    """Batches that are written together, or in parts. Their replies settle them one after another.

    A batch is not settled that is not done, that waits for a proof, or that is repeatable and was answered
    by a former master.

    Args:
        where: name of the Redis in errors.
        master: the master that the connection leads to.
        on_read: called when all replies are there, and no more will be written.

    Attributes:
        batches: those that were written.
        size: commands that were written.
    """

    __slots__ = ("_at", "_counts", "_is_whole", "_on_read", "_where", "batches", "master", "size")

    def __init__(self, where: str, master: Master, on_read: Callable[["Group"], None]) -> None:
        self.batches: list[Batch] = []
        self.size = 0
        self.master = master
        self._where = where
        self._on_read = on_read
        self._at = 0
        self._counts = deque[int]()  # of commands that the next replies answer
        self._is_whole = False

    def begin(self, batches: Sequence[Batch], now: float) -> Sequence[Command]:
        """Add batches; return the commands to write now."""
        self.batches += batches
        commands = [command for batch in batches for command in batch.begin(now)]
        self.size += len(commands)
        if batches[0].runs_again:  # each alone
            self._counts += [1] * len(commands)
            return commands
        joined, counts = join(commands)
        self._counts += counts
        return joined

    def close(self) -> None:
        """Note that no more will be written."""
        self._is_whole = True
        if self._at == len(self.batches):
            self._on_read(self)

    def add(self, reply: Any) -> None:
        """Store the next reply."""
        for each in split_reply(reply, self._counts.popleft()):
            self._add(each)

    def _add(self, reply: Any) -> None:
        batch = self.batches[self._at]
        if not batch.add(reply):
            return
        if not batch.missing and not (batch.is_repeatable and self.master.is_left):
            batch.settle_answered(self._where)
        self._at += 1
        if self._at == len(self.batches) and self._is_whole:
            self._on_read(self)


class Operation(Batch, Generic[T]):
    """A batch, and the function `read` that makes the result from its replies; it runs once.

    Without commands, no connection is used.
    """

    __slots__ = ("read",)

    def __init__(
        self,
        commands: Sequence[Command],
        read: Callable[[Sequence[Any]], T],
        is_repeatable: bool = True,
        proof: Proof | None = None,
        known_for: float = math.inf,
        steps: Sequence[int] = (),
    ) -> None:
        super().__init__(commands, is_repeatable, proof, known_for, steps)
        self.read = read

    def result(self) -> T:
        """Return what the caller gets: what `read` makes of the replies."""
        return self.read(self.replies)
