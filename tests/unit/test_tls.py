"""What failed in TLS, in words: numbers of OpenSSL are none of the system's."""

import os
import ssl

import httpcore
import pytest
import redis

from mesa_ws.backend.http.exchange import HttpApi
from mesa_ws.backend.queries import OnlineCount
from mesa_ws.backend.redis_client.failures import failed_call, failed_connect
from mesa_ws.tls import tls_problem

NUMBERS = range(1, 200)


def caused(error: Exception, cause: BaseException) -> Exception:
    """An error of a library, as its cause made it."""
    try:
        try:
            raise cause
        except type(cause):
            raise error  # noqa: B904 - as redis-py does it
    except type(error) as raised:
        return raised


@pytest.mark.parametrize(
    "kind", [ssl.SSLError, ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLCertVerificationError]
)
def test_no_number_of_openssl_is_read_as_one_of_the_system(kind: type[ssl.SSLError]) -> None:
    exchange = HttpApi("https://h", "k", None, 5.0).query(OnlineCount())
    for number in NUMBERS:
        error = kind(number, "[SSL] something")
        texts = [
            failed_connect("redis", caused(redis.ConnectionError("no"), error)),
            failed_connect("redis", error),
            failed_call("redis", caused(redis.ConnectionError("no"), error), maybe_sent=False),
            exchange.failed(caused(httpcore.ConnectError(str(error)), error)),
            exchange.failed(error),
        ]
        assert not [text for text in texts if os.strerror(number) in str(text)]


def test_a_number_of_the_system_is_still_read() -> None:
    error = caused(redis.ConnectionError("no"), ConnectionRefusedError(111, "x"))
    assert os.strerror(111) in str(failed_connect("redis", error))


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "it demands a client certificate"),
        ("WRONG_VERSION_NUMBER", "TLS failed: WRONG_VERSION_NUMBER; it seems to speak no TLS"),
        ("NO_SHARED_CIPHER", "TLS failed: NO_SHARED_CIPHER"),
    ],
)
def test_a_reason_is_told(reason: str, text: str) -> None:
    error = ssl.SSLError(1, "[SSL]")
    error.reason = reason
    assert tls_problem(caused(ValueError("x"), error)) == text


def test_what_is_no_error_of_tls_is_none() -> None:
    assert tls_problem(caused(ValueError("x"), OSError(1, "x"))) is None
