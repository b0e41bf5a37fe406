"""What redis-py raises becomes an error of ours, here and nowhere else."""

import os

from redis import exceptions

from ...errors import BackendError, BackendRefused, BackendUnavailable

FOREIGN = (exceptions.RedisError, OSError, TimeoutError)
"""What redis-py and the network under it raise."""

_NOT_NOW = (
    exceptions.ReadOnlyError,
    exceptions.MasterDownError,
    exceptions.BusyLoadingError,
    exceptions.TryAgainError,
)

_NOT_NOW_TEXTS = ("BUSY ", "NOREPLICAS Not enough good replicas")

_HINTS = {
    exceptions.AuthenticationError: "check the user name and the password",
    exceptions.AuthenticationWrongNumberOfArgsError: "check the user name and the password",
    exceptions.NoPermissionError: "the user needs all of Mesa's keys, channels and scripts",
    exceptions.OutOfMemoryError: "Redis is full",
    exceptions.InvalidResponse: "is this a Redis?",
    exceptions.MovedError: "Redis Cluster is not supported by this version",
    exceptions.ClusterCrossSlotError: "Redis Cluster is not supported by this version",
}


def failed_connect(where: str, error: Exception) -> BackendError:
    """The error for a connection that did not come about; nothing was sent."""
    if _is_answer(error):
        return _refused(where, error)
    return BackendUnavailable(f"{where}: no connection ({_text(error)})")


def failed_call(where: str, error: Exception, *, maybe_sent: bool) -> BackendError:
    """The error for a call that ended without a usable reply."""
    if isinstance(error, TimeoutError | exceptions.TimeoutError):
        return BackendUnavailable(f"{where}: no answer in time", maybe_sent=maybe_sent)
    return BackendUnavailable(f"{where}: the connection was lost ({_text(error)})", maybe_sent=maybe_sent)


def failed_reply(where: str, error: exceptions.RedisError) -> BackendError:
    """The error for a reply that is an error; the command was not carried out."""
    if is_not_now(error):
        return BackendUnavailable(f"{where}: {_text(error)}")
    return _refused(where, error)


def is_not_now(error: BaseException) -> bool:
    """Whether Redis would do it later, or another Redis would do it now."""
    return isinstance(error, _NOT_NOW) or str(error).startswith(_NOT_NOW_TEXTS)


def is_forbidden(reply: object) -> bool:
    """Whether Redis replied that its user may not do that."""
    return isinstance(reply, exceptions.NoPermissionError)


def _is_answer(error: Exception) -> bool:
    if is_not_now(error):
        return False
    return isinstance(
        error, exceptions.AuthenticationError | exceptions.ResponseError | exceptions.InvalidResponse
    )


def _refused(where: str, error: Exception) -> BackendRefused:
    hint = next((hint for kind, hint in _HINTS.items() if isinstance(error, kind)), None)
    if "compiling script" in str(error):
        hint = "Redis 7 or later is needed"
    if str(error).startswith("NOREPLICAS "):
        hint = "nothing was stored; use 'memory' or 'fsync', or add a replica"
    return BackendRefused(f"{where}: refused ({_text(error)})" + (f"; {hint}" if hint else ""))


def _text(error: BaseException) -> str:
    """One short line, without control characters."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno)
    line = " ".join(str(error).split()) or type(error).__name__
    return "".join(c for c in line if c.isprintable())[:200]
