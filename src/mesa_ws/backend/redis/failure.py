"""What redis-py raises becomes an error of ours, here and nowhere else."""

import os
import re
import ssl
from collections.abc import Iterable

from redis import exceptions

from ...errors import BackendError, BackendRefused, BackendUnavailable
from ...tls import CERTIFICATE_REQUIRED, MAY_DEMAND, tls_error, tls_problem

FOREIGN = (exceptions.RedisError, OSError, TimeoutError)
"""What redis-py and the network under it raise."""

_NOT_NOW = (
    exceptions.ReadOnlyError,
    exceptions.ClusterDownError,  # MASTERDOWN too
    exceptions.BusyLoadingError,
    exceptions.TryAgainError,
)

_NOT_NOW_TEXTS = (
    "BUSY ",
    "MISCONF ",
    "NOREPLICAS Not enough good replicas",
    "UNBLOCKED ",
    "max number of clients",
)

_ALONE = ("NOREPLICAS Not enough good replicas", "UNBLOCKED ")

CLUSTER = (
    "Redis Cluster is not supported; use one Redis, with replicas and Sentinel where it has to survive a "
    "machine, and a redis:// or redis+sentinel:// address"
)

PARTLY = "PARTLY "
"""What scripts put before an error that came when a part of their work was done."""

_RUNTIME_ERROR = re.compile(r"(ERR )?(Error running script|user_script:)")
"""What a fault of ours in a script looks like; nothing is known of what it did before."""

_FORBIDDEN = re.compile(r"(ERR |NOPERM )*(The user executing the script can't|ACL failure in script)")
"""What Redis 7.0, and later ones, say inside a script to a user who may not do that."""

_SCRIPT_NAME = re.compile(r" script: [0-9a-f]{40}, on @user_script:\d+\.?")
"""What Redis adds to an error in a script; of no use to people."""

RIGHTS_PAGE = 'as the section "A user of its own" of the documentation says'
"""Where the rights are listed that a user of Redis needs."""

_NAME_OF_ONE = re.compile(r":[0-9a-f-]{32,36}$")
"""The end of the name of a channel that one process listens to."""

_HINTS = {
    exceptions.AuthenticationError: "check the user name and the password",
    exceptions.AuthenticationWrongNumberOfArgsError: "check the user name and the password",
    exceptions.NoPermissionError: f"grant the user all rights that Mesa needs, {RIGHTS_PAGE}",
    exceptions.OutOfMemoryError: "Redis is full",
    exceptions.InvalidResponse: "is this a Redis?",
    exceptions.MovedError: CLUSTER,
    exceptions.ClusterCrossSlotError: CLUSTER,
}


def failed_connect(where: str, error: Exception, *, is_secure: bool = False) -> BackendError:
    """The error for a connection that did not come about; nothing was sent.

    Args:
        where: names the Redis.
        error: of redis-py, or of the network.
        is_secure: whether it was to be a connection with TLS.
    """
    if _is_answer(error):
        return _refused(where, error)
    advice = _advice(error) if is_secure else ""
    return BackendUnavailable(f"{where}: no connection ({_text(error)}{advice})")


def forbidden_subscribe(where: str, channels: Iterable[str], error: Exception) -> BackendError:
    """The error for a subscription that the user may not have."""
    if "channel" not in str(error):
        return lacking_rights(where, ["+subscribe"])
    return lacking_rights(where, [f"&{_NAME_OF_ONE.sub(':*', channel)}" for channel in channels])


def lacking_rights(where: str, rights: Iterable[str]) -> BackendRefused:
    """The error for a user who has too few rights; nothing was written.

    Args:
        where: which Redis.
        rights: what is lacking, as ACL SETUSER takes it.
    """
    lacking = " ".join(dict.fromkeys(rights))
    return BackendRefused(
        f"{where}: refused (its user lacks {lacking}); grant that with ACL SETUSER, {RIGHTS_PAGE}"
    )


def failed_call(where: str, error: Exception, *, maybe_sent: bool) -> BackendError:
    """The error for a call that ended without a usable reply."""
    if is_not_now(error):
        return BackendUnavailable(f"{where}: {_text(error)}", maybe_sent=maybe_sent)
    if isinstance(error, TimeoutError | exceptions.TimeoutError):
        return BackendUnavailable(f"{where}: no answer in time", maybe_sent=maybe_sent)
    return BackendUnavailable(f"{where}: the connection was lost ({_text(error)})", maybe_sent=maybe_sent)


def failed_reply(where: str, error: exceptions.RedisError) -> BackendError:
    """The error for a reply that is an error; `is_partial` says whether a part was done."""
    if is_not_now(error):
        return BackendUnavailable(f"{where}: {_text(error)}")
    return _refused(where, error)


def is_not_now(error: BaseException) -> bool:
    """Whether Redis would do it later, or another Redis would do it now."""
    return isinstance(error, _NOT_NOW) or str(error).startswith(_NOT_NOW_TEXTS)


def is_of_no_master(reply: object) -> bool:
    """Whether a reply shows that this Redis is not the master, or lost its replicas and may soon not be."""
    return isinstance(reply, exceptions.ReadOnlyError | exceptions.ClusterDownError) or (
        isinstance(reply, exceptions.ResponseError) and str(reply).startswith(_ALONE)
    )


def is_forbidden(reply: object) -> bool:
    """Whether Redis replied that its user may not do that, itself or in a script."""
    if isinstance(reply, exceptions.NoPermissionError):
        return True
    text = str(reply).removeprefix(PARTLY)
    return isinstance(reply, exceptions.ResponseError) and _FORBIDDEN.match(text) is not None


def is_partial(reply: object) -> bool:
    """Whether a script may have done a part of its work before it failed."""
    if not isinstance(reply, exceptions.ResponseError):
        return False
    return str(reply).startswith(PARTLY) or _RUNTIME_ERROR.match(str(reply)) is not None


def _is_answer(error: Exception) -> bool:
    if is_not_now(error):
        return False
    return isinstance(
        error, exceptions.AuthenticationError | exceptions.ResponseError | exceptions.InvalidResponse
    )


def _refused(where: str, error: Exception) -> BackendRefused:
    hint = next((hint for kind, hint in _HINTS.items() if isinstance(error, kind)), None)
    if is_forbidden(error):
        hint = _HINTS[exceptions.NoPermissionError]
    if "compiling script" in str(error):
        hint = "Redis 7 or later is needed"
    if str(error).startswith("NOREPLICAS "):
        hint = "nothing was stored; use 'memory' or 'fsync', or add a replica"
    return BackendRefused(f"{where}: refused ({_text(error)})" + (f"; {hint}" if hint else ""))


def _advice(error: BaseException) -> str:
    """What to do about a connection with TLS that did not come about."""
    cause = tls_error(error) or error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return "; name a file with the certificates to trust with ssl_ca_certs"
    if isinstance(cause, ssl.SSLEOFError | ConnectionResetError | BrokenPipeError):
        return f"; {MAY_DEMAND}, which ssl_certfile and ssl_keyfile would show"
    if isinstance(cause, ssl.SSLError) and getattr(cause, "reason", None) == CERTIFICATE_REQUIRED:
        return "; show it with ssl_certfile and ssl_keyfile"
    return ""


def _text(error: BaseException) -> str:
    """One short line, without control characters."""
    problem = tls_problem(error)
    if problem is not None:
        return problem
    cause = error.__cause__ or error.__context__
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno)
    text = _SCRIPT_NAME.sub("", str(error)).removeprefix(PARTLY)
    line = " ".join(text.split()) or type(error).__name__
    return "".join(c for c in line if c.isprintable())[:200]
