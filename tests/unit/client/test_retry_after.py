"""What a `Retry-After` asks for."""

import pytest

from mesa_ws.transports.client_socket import read_retry_after

SEEN_AT = 784_123_620.0
"""Sun, 06 Nov 1994 12:07:00 GMT."""


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        ("9" * 5000, 86_400),
        ("Sun, 06 Nov 1994 12:08:30 GMT", 90),
        ("Sun, 06 Nov 1994 12:00:00 GMT", 0),
        ("Sun, 06 Nov 2994 12:00:00 GMT", 86_400),
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("\u0661", None),
        ("Sun, 99 Nov 1994 12:08:30 GMT", None),
    ],
)
def test_seconds_and_dates_are_read_and_nothing_else(value: str | None, seconds: float | None) -> None:
    assert read_retry_after(value, SEEN_AT) == seconds
