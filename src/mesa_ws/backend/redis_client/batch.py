"""State of one batch of commands: written, answered, or to be repeated."""

import asyncio
import math
from collections.abc import Sequence
from copy import copy
from typing import Any

from redis.exceptions import NoScriptError, ReadOnlyError, RedisError

from ...errors import BackendError, BackendUnavailable
from .command import Command
from .connection import failed_reply, is_of_no_master, is_partial
from .durability import Proof


class Batch:
    """Commands and their replies, independent of the runner that sends them.

    A runner calls `on_write`, writes `unsent`, passes the replies to `on_replies`, and starts again
    while something is `missing`: Redis did not run a script that it did not know, so only that one is
    sent twice. A repeatable batch may also be sent again from the start after its connection broke.

    Args:
        commands: the commands, in order.
        is_repeatable: whether a second run changes nothing.
        known_for: seconds for which that holds. The batch is repeated only in the first half of this
            time, since written bytes may take a while to arrive.
        proof: the durability to ask for afterwards, on the same connection.

    Attributes:
        commands: the commands, in order.
        replies: the replies, including errors of Redis.
        missing: positions of commands that Redis has not run yet.
    """

    __slots__ = (
        "_has_errors",
        "_is_doubtful",
        "_is_written",
        "_known_for",
        "_written_at",
        "commands",
        "is_repeatable",
        "missing",
        "proof",
        "replies",
    )

    def __init__(
        self,
        commands: Sequence[Command],
        *,
        is_repeatable: bool = False,
        known_for: float = math.inf,
        proof: Proof | None = None,
    ) -> None:
        self.commands = commands
        self.is_repeatable = is_repeatable
        self._known_for = known_for
        self._written_at: float | None = None
        self.proof = proof
        self.replies: list[Any] = [None] * len(commands)
        self.missing = list(range(len(commands)))
        self._is_written = False
        self._is_doubtful = False
        self._has_errors = False

    @property
    def is_written(self) -> bool:
        """Whether Redis may have run any of the commands."""
        return self._is_written or self._is_doubtful

    @property
    def is_doubtful(self) -> bool:
        """Whether the batch is being repeated because the outcome of its first run is unknown."""
        return self._is_doubtful

    def first_limit(self, now: float, deadline: float) -> float:
        """Return until when to wait on a connection that may be dead, which leaves time for another one."""
        return now + min((deadline - now) / 2, self._known_for / 4) if self.is_repeatable else deadline

    @property
    def unsent(self) -> list[Command]:
        """The commands to write."""
        return [self.commands[at] for at in self.missing]

    @property
    def is_read_only(self) -> bool:
        """Whether this Redis is a replica, so that another one has to run the commands."""
        return self._has_errors and any(isinstance(reply, ReadOnlyError) for reply in self.replies)

    @property
    def is_misled(self) -> bool:
        """Whether the replies suggest that this Redis is not the master."""
        return self._has_errors and any(map(is_of_no_master, self.replies))

    def on_write(self, now: float) -> None:
        """Note that the commands are about to be written: from now on Redis may run them."""
        self._is_written = True
        if self._written_at is None:
            self._written_at = now

    def repeat(self, now: float) -> bool:
        """Reset the batch for another connection; return whether a repeat is safe."""
        if not (self.is_repeatable and self.is_written) or self._written_at is None:
            return False
        if now - self._written_at > self._known_for / 2:
            return False
        self._is_doubtful, self._is_written = True, False
        self.replies = [None] * len(self.commands)
        self.missing = list(range(len(self.commands)))
        return True

    def on_replies(self, replies: Sequence[Any]) -> None:
        """Store the replies to `unsent`."""
        asked, self.missing = self.missing, []
        for at, reply in zip(asked, replies, strict=True):
            self.replies[at] = reply
            if isinstance(reply, RedisError):
                self._has_errors = True
                if isinstance(reply, NoScriptError):
                    self.missing.append(at)
        self._is_written = len(self.missing) < len(self.commands)

    def doubting(self, error: BackendError) -> BackendError:
        """Return a copy of the error that stopped a run, noting whether an earlier run may have succeeded."""
        if self._is_doubtful and not isinstance(error, BackendUnavailable):
            return BackendUnavailable(str(error), maybe_sent=True)
        mine = copy(error)
        mine.maybe_sent |= self._is_doubtful
        return mine

    def failure(self, where: str) -> BackendError | None:
        """Return the first error among the replies as a `BackendError` with its cause; None without."""
        if not self._has_errors:
            return None
        failed = [reply for reply in self.replies if isinstance(reply, RedisError)]
        if not failed:
            return None
        error = failed_reply(where, failed[0])
        is_part_done = len(failed) < len(self.replies) or any(map(is_partial, failed))
        error.maybe_sent = self._is_doubtful or is_part_done
        error.__cause__ = failed[0]
        return error


class QueuedBatch:
    """A batch in the queue of one event loop, with the future of its replies.

    Args:
        batch: the commands.
        future: receives the replies, or a `BackendError`.
        deadline: by the clock of the event loop.
    """

    __slots__ = ("batch", "deadline", "future")

    def __init__(self, batch: Batch, future: asyncio.Future[list[Any]], deadline: float) -> None:
        self.batch = batch
        self.future = future
        self.deadline = deadline

    def succeed(self) -> None:
        """Resolve the future with the replies."""
        if not self.future.done():
            self.future.set_result(self.batch.replies)

    def fail(self, error: Exception, cause: BaseException | None) -> None:
        """Fail the future."""
        if not self.future.done():
            error.__cause__ = cause
            self.future.set_exception(error)
