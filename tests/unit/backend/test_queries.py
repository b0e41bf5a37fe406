"""Queries, and cursors between pages of ids."""

from typing import Any

import pytest

from mesa_ws.backend.queries import FIRST, Heads, Online, check_cursor
from mesa_ws.errors import InvalidInput, InvalidRecipients


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


@pytest.mark.parametrize("query", [Online, Heads])
@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ("anna", r"^ids: expected a list of ids, got the bare text 'anna'; write \['anna'\]$"),
        (None, r"^ids: expected a list of ids, got None"),
        (7, r"^ids: expected a list of ids, got 7 \(int\); write \['7'\]$"),
        ([7], r"^ids: expected an id as text, got 7 \(int\); write '7'$"),
        (["*"], r"^ids: .*stands for everybody"),
    ],
)
def test_a_query_about_invalid_ids_is_refused(query: type[Online | Heads], ids: Any, text: str) -> None:
    with pytest.raises(InvalidRecipients, match=text):
        query(ids)


def test_a_query_names_each_id_once_and_equals_another_about_the_same() -> None:
    assert Online(iter(["0", "1", "0"])) == Online(["0", "1"])
    assert Online(["0"]).ids == ("0",)
