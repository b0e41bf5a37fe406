"""Errors of Mesa for those of redis-py and the network."""

import os
import re
import ssl
from collections.abc import Iterable
from typing import Any

from redis import exceptions

from ...errors import BackendError, BackendRefused, BackendUnavailable
from ...tls import CERTIFICATE_REQUIRED, MAY_DEMAND, tls_error, tls_problem
from .command import CLUSTER

FOREIGN = (exceptions.RedisError, OSError, TimeoutError)
"""Exceptions that redis-py and the network raise."""

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

PARTLY = "PARTLY "
"""Prefix of a script's error when a part of its work was already done."""

_RUNTIME_ERROR = re.compile(r"(ERR )?(Error running script|user_script:)")
"""Text of a bug in a script; how much it did before is unknown."""

_FORBIDDEN = re.compile(r"(ERR |NOPERM )*(The user executing the script can't|ACL failure in script)")
"""Texts of Redis 7.0 and of later versions for a command that a script's user may not run."""

_SCRIPT_NAME = re.compile(r" script: [0-9a-f]{40}, on @user_script:\d+\.?")
"""Suffix that Redis adds to an error in a script; of no use to a reader."""

RIGHTS_PAGE = 'as the section "A user of its own" of the documentation says'
"""Pointer to the list of rights that a Redis user needs."""

_NAME_OF_ONE = re.compile(r":[0-9a-f-]{32,36}$")
"""End of the name of a channel that one process listens to."""

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
    """Return the error for a connection, with TLS if it is secure, that failed; nothing was sent."""
    answers = exceptions.AuthenticationError | exceptions.ResponseError | exceptions.InvalidResponse
    if isinstance(error, answers) and not _is_not_now(error):
        return _refused(where, error)
    advice = _advice(error) if is_secure else ""
    return BackendUnavailable(f"{where}: no connection ({_text(error)}{advice})")


def forbidden_subscribe(where: str, channels: Iterable[str], error: Exception) -> BackendError:
    """Return the error for a subscription that the user has no right to."""
    if "channel" not in str(error):
        return lacking_rights(where, ["+subscribe"])
    return lacking_rights(where, [f"&{_NAME_OF_ONE.sub(':*', channel)}" for channel in channels])


def lacking_rights(where: str, rights: Iterable[str]) -> BackendRefused:
    """Return the error for a user without `rights`, as ACL SETUSER takes them; nothing was written."""
    lacking = " ".join(dict.fromkeys(rights))
    return BackendRefused(
        f"{where}: refused (its user lacks {lacking}); grant that with ACL SETUSER, {RIGHTS_PAGE}"
    )


def failed_call(where: str, error: Exception, *, maybe_sent: bool) -> BackendError:
    """Return the error for a call that ended without a usable reply."""
    if _is_not_now(error):
        return BackendUnavailable(f"{where}: {_text(error)}", maybe_sent=maybe_sent)
    if isinstance(error, TimeoutError | exceptions.TimeoutError):
        return BackendUnavailable(f"{where}: no answer in time", maybe_sent=maybe_sent)
    return BackendUnavailable(f"{where}: the connection was lost ({_text(error)})", maybe_sent=maybe_sent)


def failed_reply(where: str, error: exceptions.RedisError) -> BackendError:
    """Return the error for an error reply; `is_partial` tells whether a part was done."""
    if _is_not_now(error):
        return BackendUnavailable(f"{where}: {_text(error)}")
    return _refused(where, error)


def raise_first(replies: Iterable[Any]) -> None:
    """Raise the first error among replies."""
    for reply in replies:
        if isinstance(reply, exceptions.RedisError):
            raise reply


def _is_not_now(error: BaseException) -> bool:
    """Whether Redis would accept the command later, or another Redis would accept it now."""
    return isinstance(error, _NOT_NOW) or str(error).startswith(_NOT_NOW_TEXTS)


def is_of_no_master(reply: object) -> bool:
    """Whether a reply shows that this Redis is no master, or lost its replicas and may soon be none."""
    return isinstance(reply, exceptions.ReadOnlyError | exceptions.ClusterDownError) or (
        isinstance(reply, exceptions.ResponseError) and str(reply).startswith(_ALONE)
    )


def is_forbidden(reply: object) -> bool:
    """Whether Redis, or a script, replied that the user lacks a right."""
    if isinstance(reply, exceptions.NoPermissionError):
        return True
    text = str(reply).removeprefix(PARTLY)
    return isinstance(reply, exceptions.ResponseError) and _FORBIDDEN.match(text) is not None


def is_partial(reply: object) -> bool:
    """Whether a script may have done a part of its work before it failed."""
    if not isinstance(reply, exceptions.ResponseError):
        return False
    return str(reply).startswith(PARTLY) or _RUNTIME_ERROR.match(str(reply)) is not None


def _refused(where: str, error: Exception) -> BackendRefused:
    hint = next((hint for kind, hint in _HINTS.items() if isinstance(error, kind)), None)
    if is_forbidden(error):
        hint = _HINTS[exceptions.NoPermissionError]
    elif "compiling script" in str(error):
        hint = "Redis 7 or later is needed"
    elif str(error).startswith("NOREPLICAS "):
        hint = "nothing was stored; use 'memory' or 'fsync', or add a replica"
    return BackendRefused(f"{where}: refused ({_text(error)})" + (f"; {hint}" if hint else ""))


def _advice(error: BaseException) -> str:
    """Return advice for a TLS connection that failed; empty if there is none."""
    cause = tls_error(error) or error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return "; name a file with the certificates to trust with ssl_ca_certs"
    if isinstance(cause, ssl.SSLEOFError | ConnectionResetError | BrokenPipeError):
        return f"; {MAY_DEMAND}, which ssl_certfile and ssl_keyfile would show"
    if isinstance(cause, ssl.SSLError) and getattr(cause, "reason", None) == CERTIFICATE_REQUIRED:
        return "; show it with ssl_certfile and ssl_keyfile"
    return ""


def _text(error: BaseException) -> str:
    """Return the text of an error as one short line, without control characters."""
    problem = tls_problem(error)
    if problem is not None:
        return problem
    cause = error.__cause__ or error.__context__ or error
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno)
    text = _SCRIPT_NAME.sub("", str(error)).removeprefix(PARTLY)
    line = " ".join(text.split()) or type(error).__name__
    return "".join(c for c in line if c.isprintable())[:200]
