"""Cursors between pages of ids."""

import pytest

from mesa_ws.backend.base import FIRST, check_cursor
from mesa_ws.errors import InvalidInput


@pytest.mark.parametrize(
    ("cursor", "number"), [(FIRST, "0"), ("0", "0"), ("17", "17"), (str(2**64 - 1),) * 2]
)
def test_a_cursor_of_redis_is_a_number_of_64_bits(cursor: str, number: str) -> None:
    assert check_cursor(cursor) == number


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "\u0661", str(2**64), "9" * 5000])
def test_what_no_page_gave_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidInput, match="cursor: expected that of the previous page") as refusal:
        check_cursor(cursor)
    assert len(str(refusal.value)) < 120
