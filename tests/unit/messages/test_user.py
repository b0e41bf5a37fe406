"""Who a client is after authentication."""

from dataclasses import FrozenInstanceError
from typing import Any
from uuid import UUID

import pytest

from mesa_ws.errors import InvalidInput, InvalidRecipients
from mesa_ws.messages.recipients import User


def test_a_user_without_data_is_its_id() -> None:
    assert User("1").data == {"id": "1"}


@pytest.mark.parametrize("data", [{"id": "1", "name": "Ada"}, {}, [], 0, ""])
def test_a_users_data_is_anything(data: Any) -> None:
    assert User("1", data).data == data


def test_a_user_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        User("1").id = "2"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("id", "text"),
    [
        (1, "id: expected an id as text, got 1 (int); write '1'"),
        (UUID(int=0), "id: expected an id as text, got a value of type UUID; write str(...)"),
        (None, "id: expected an id as text, got None (NoneType)"),
        ("", "id: expected an id of 1 to 255 bytes of UTF-8, got 0 bytes"),
        ("*", "id: expected an id, got '*', which stands for everybody"),
    ],
)
def test_an_id_that_cannot_name_a_client_is_refused(id: Any, text: str) -> None:
    with pytest.raises(InvalidRecipients) as caught:
        User(id)
    assert str(caught.value) == text


@pytest.mark.parametrize("expires_at", ["1764500000", True, float("inf"), float("nan")])
def test_when_a_login_ends_is_a_number(expires_at: Any) -> None:
    with pytest.raises(InvalidInput, match="expires_at: expected seconds since 1970 as a number, got "):
        User("1", expires_at=expires_at)


def test_a_time_in_milliseconds_is_refused() -> None:
    with pytest.raises(
        InvalidInput, match="issued_at: expected seconds since 1970, got 1764500000000; divide"
    ):
        User("1", issued_at=1764500000000)
    assert User("1", issued_at=99_999_999_999).issued_at == 99_999_999_999
