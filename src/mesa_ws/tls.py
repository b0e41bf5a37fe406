"""What failed in TLS, in words.

Errors of TLS are `OSError`s whose `errno` is a number of OpenSSL, and none of the operating system:
1 is not "Operation not permitted". So they have to be looked for before any number is read.
"""

import ssl

MAY_DEMAND = "it may demand a client certificate"
"""Why a peer may hang up in a handshake; with TLS 1.3 its reason often does not arrive."""

CERTIFICATE_REQUIRED = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
"""The reason of a peer that demands a client certificate and got none."""

NO_REASON = "no reason is known"

_REASONS = {
    CERTIFICATE_REQUIRED: "it demands a client certificate",
    "WRONG_VERSION_NUMBER": "TLS failed: WRONG_VERSION_NUMBER; it seems to speak no TLS",
}


def tls_problem(error: BaseException) -> str | None:
    """Say what failed in TLS, by an error or what caused it; None if it was not TLS."""
    cause = tls_error(error)
    match cause:
        case None:
            return None
        case ssl.SSLCertVerificationError():
            return f"its certificate cannot be trusted: {getattr(cause, 'verify_message', None) or NO_REASON}"
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            return "it ended TLS"
    reason = getattr(cause, "reason", None) or NO_REASON
    return _REASONS.get(reason, f"TLS failed: {reason}")


def tls_error(error: BaseException) -> ssl.SSLError | None:
    """Return the error of TLS that `error` is or was caused by; None if there is none."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, ssl.SSLError):
        found = found.__cause__ or found.__context__
    return found
