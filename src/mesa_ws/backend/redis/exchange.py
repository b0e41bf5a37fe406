"""The state of one request to Redis: what was asked, what was written, what was answered."""

from collections.abc import Sequence
from typing import Any

from redis.exceptions import NoScriptError, ReadOnlyError, RedisError

from ...errors import BackendError, BackendUnavailable
from .failure import failed_reply
from .plan import Command


class Exchange:
    """Some commands and their replies, whichever runner carries them.

    A runner writes `unsent`, then reports `writing` and `took`, and starts again while something
    is `missing`: Redis has not run a script that it does not know, so that alone is sent twice.

    Attributes:
        commands: what is asked, in order.
        replies: what came back, errors of Redis among them.
        missing: positions of commands that Redis has not carried out so far.
        is_written: whether Redis may have carried out any of them.
    """

    __slots__ = ("commands", "is_written", "missing", "replies")

    def __init__(self, commands: Sequence[Command]) -> None:
        self.commands = commands
        self.replies: list[Any] = [None] * len(commands)
        self.missing = list(range(len(commands)))
        self.is_written = False

    @property
    def unsent(self) -> list[Command]:
        """What is to be written."""
        return [self.commands[at] for at in self.missing]

    @property
    def is_read_only(self) -> bool:
        """Whether this Redis is a replica, so that another one has to be asked."""
        return any(isinstance(reply, ReadOnlyError) for reply in self.replies)

    def writing(self) -> None:
        """From now on Redis may carry it out."""
        self.is_written = True

    def took(self, replies: Sequence[Any]) -> None:
        """Take the replies to `unsent`."""
        asked, self.missing = self.missing, []
        for at, reply in zip(asked, replies, strict=True):
            self.replies[at] = reply
            if isinstance(reply, NoScriptError):
                self.missing.append(at)
        self.is_written = len(self.missing) < len(self.commands)

    def failure(self, where: str) -> BackendError | None:
        """The first error among the replies as ours, its cause set; None if all is well."""
        failed = [reply for reply in self.replies if isinstance(reply, RedisError)]
        if not failed:
            return None
        error = failed_reply(where, failed[0])
        if isinstance(error, BackendUnavailable):
            error.maybe_sent = len(failed) < len(self.replies)
        error.__cause__ = failed[0]
        return error
