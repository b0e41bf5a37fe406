"""The state of one request to Redis: what was asked, what was written, what was answered."""

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
    """Some commands and their replies, whichever runner carries them.

    A runner writes `unsent`, then reports `writing` and `took`, and starts again while something
    is `missing`: Redis has not run a script that it does not know, so that alone is sent twice.
    What is repeatable may also be sent again, from the start, after its connection broke.

    Args:
        commands: what is asked, in order.
        is_repeatable: whether carrying it out once more changes nothing.
        known_for: seconds for which that is so. It is repeated in the first half of them alone, for what is
            written may take its time to arrive.
        proof: what has to be asked for afterwards, on the same connection.

    Attributes:
        commands: what is asked, in order.
        replies: what came back, errors of Redis among them.
        missing: positions of commands that Redis has not carried out so far.
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
        """Whether Redis may have carried out any of the commands."""
        return self._is_written or self._is_doubtful

    @property
    def is_doubtful(self) -> bool:
        """Whether it is being repeated, because nobody knows what became of it."""
        return self._is_doubtful

    def first_limit(self, now: float, deadline: float) -> float:
        """Until when to wait for a reply on a connection that may be dead; another one needs time, too."""
        return now + min((deadline - now) / 2, self._known_for / 4) if self.is_repeatable else deadline

    @property
    def unsent(self) -> list[Command]:
        """What is to be written."""
        return [self.commands[at] for at in self.missing]

    @property
    def is_read_only(self) -> bool:
        """Whether this Redis is a replica, so that another one has to be asked."""
        return self._has_errors and any(isinstance(reply, ReadOnlyError) for reply in self.replies)

    @property
    def is_misled(self) -> bool:
        """Whether this Redis does not answer as the master does, so that another one may be that."""
        return self._has_errors and any(map(is_of_no_master, self.replies))

    def writing(self, now: float) -> None:
        """From now on Redis may carry it out."""
        self._is_written = True
        if self._written_at is None:
            self._written_at = now

    def repeat(self, now: float) -> bool:
        """Start anew on another connection; returns whether that is right to do."""
        if not (self.is_repeatable and self.is_written) or self._written_at is None:
            return False
        if now - self._written_at > self._known_for / 2:
            return False
        self._is_doubtful, self._is_written = True, False
        self.replies = [None] * len(self.commands)
        self.missing = list(range(len(self.commands)))
        return True

    def took(self, replies: Sequence[Any]) -> None:
        """Take the replies to `unsent`."""
        asked, self.missing = self.missing, []
        for at, reply in zip(asked, replies, strict=True):
            self.replies[at] = reply
            if isinstance(reply, RedisError):
                self._has_errors = True
                if isinstance(reply, NoScriptError):
                    self.missing.append(at)
        self._is_written = len(self.missing) < len(self.commands)

    def doubting(self, error: BackendError) -> BackendError:
        """A copy of what kept it from being carried out, which says if that was done before."""
        if self._is_doubtful and not isinstance(error, BackendUnavailable):
            return BackendUnavailable(str(error), maybe_sent=True)
        mine = copy(error)
        mine.maybe_sent |= self._is_doubtful
        return mine

    def failure(self, where: str) -> BackendError | None:
        """The first error among the replies as ours, its cause set; None if all is well."""
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
    """An batch in one event loop, and the future of its replies.

    Args:
        batch: what is asked.
        future: gets the replies, or an error of ours.
        deadline: by the clock of the event loop.
    """

    __slots__ = ("batch", "deadline", "future")

    def __init__(self, batch: Batch, future: asyncio.Future[list[Any]], deadline: float) -> None:
        self.batch = batch
        self.future = future
        self.deadline = deadline

    def succeed(self) -> None:
        """Hand out the replies."""
        if not self.future.done():
            self.future.set_result(self.batch.replies)

    def fail(self, error: Exception, cause: BaseException | None) -> None:
        """Hand out an error."""
        if not self.future.done():
            error.__cause__ = cause
            self.future.set_exception(error)
