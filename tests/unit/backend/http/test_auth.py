"""The key of the dispatch API."""

import pytest

from mesa_ws.backend.http.auth import authorization, check_key, is_authorized
from mesa_ws.errors import InvalidSettings

KEY = "correct horse battery".replace(" ", "-")


def test_a_key_is_shown_as_a_bearer_token() -> None:
    assert authorization(KEY) == f"Bearer {KEY}"


@pytest.mark.parametrize("header", [f"Bearer {KEY}", f"bearer {KEY}", f"BEARER   {KEY}"])
def test_the_key_lets_in(header: str) -> None:
    assert is_authorized(header, KEY)


@pytest.mark.parametrize(
    "header",
    ["", KEY, "Bearer", "Bearer ", f"Basic {KEY}", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", "Bearer é"],
)
def test_anything_else_does_not(header: str) -> None:
    assert not is_authorized(header, KEY)


def test_a_key_that_fits_is_returned() -> None:
    assert check_key(KEY, shortest=16) == KEY


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (None, "key: expected text of 16 or more characters, got 'NoneType'"),
        ("", "key: expected 16 or more characters, got '0 of them'"),
        ("x" * 15, "key: expected 16 or more characters, got '15 of them'"),
        ("x" * 15 + "\n", "key: expected visible ASCII characters without spaces, got 'others among them'"),
        ("x" * 15 + " ", "key: expected visible ASCII characters without spaces, got 'others among them'"),
        ("x" * 15 + "é", "key: expected visible ASCII characters without spaces, got 'others among them'"),
    ],
)
def test_a_key_that_does_not_is_refused_without_repeating_it(key: object, text: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        check_key(key, shortest=16)
    assert str(caught.value) == text
