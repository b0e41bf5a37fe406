"""Descriptions of TLS errors.

Errors of TLS are `OSError`s whose `errno` is a number of OpenSSL, and not of the operating system:
1 is not "Operation not permitted". So look for them before you read any `errno`.
"""

import ssl

MAY_DEMAND = "it may demand a client certificate"
"""A reason why a peer may hang up in a handshake; with TLS 1.3 its own reason often does not arrive."""

CERTIFICATE_REQUIRED = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
"""OpenSSL's reason when the peer demands a client certificate and got none."""

NO_REASON = "no reason is known"

_REASONS = {
    CERTIFICATE_REQUIRED: "it demands a client certificate",
    "WRONG_VERSION_NUMBER": "TLS failed: WRONG_VERSION_NUMBER; it seems to speak no TLS",
}


def tls_problem(error: BaseException) -> str | None:
    """Describe the TLS error that `error` is or was caused by; None if there is none."""
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
    """Return the TLS error that `error` is or was caused by; None if there is none."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, ssl.SSLError):
        found = found.__cause__ or found.__context__
    return found
