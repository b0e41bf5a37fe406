"""Close codes: the table, and what an application may close with."""

from typing import Any

import pytest

from mesa_ws.close import CLOSE_TABLE, CloseCode, check_close, check_own_code, may_reconnect
from mesa_ws.errors import InvalidInput


def test_every_code_has_a_row_in_the_table() -> None:
    assert set(CLOSE_TABLE) == set(CloseCode)


@pytest.mark.parametrize("code", CloseCode)
def test_a_code_says_what_its_row_says(code: CloseCode) -> None:
    row = CLOSE_TABLE[code]
    assert (code.reason, code.may_reconnect) == (row.reason, row.may_reconnect)


@pytest.mark.parametrize("code", [code for code in CloseCode if code < 4000])
def test_codes_that_1x_knows_have_no_reason_on_the_wire(code: CloseCode) -> None:
    assert code.wire_reason == ""


@pytest.mark.parametrize("code", [code for code in CloseCode if code >= 4000])
def test_codes_of_our_own_say_why_on_the_wire(code: CloseCode) -> None:
    assert code.wire_reason == code.reason != ""


@pytest.mark.parametrize("code", [999, 1003, 1012, 3000, 4999, 70_000])
def test_a_client_may_come_back_after_a_code_that_is_not_ours(code: int) -> None:
    assert may_reconnect(code)


@pytest.mark.parametrize("code", [1002, 1007, 1008, 1009, 4003])
def test_a_client_that_is_to_blame_may_not_come_back(code: int) -> None:
    assert not may_reconnect(code)


@pytest.mark.parametrize("code", [*range(1000, 1004), 1005, *range(1007, 1015), 3000, 4999, CloseCode.NORMAL])
def test_an_application_may_close_with_what_a_frame_can_hold(code: int) -> None:
    check_close(code, "x" * 123)


@pytest.mark.parametrize("code", [-1, 0, 999, 1004, 1006, 1015, 1016, 2999, 5000, "1000", None, 4000.5])
def test_an_application_may_not_close_with_another_code(code: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_close(code, "")
    assert str(caught.value) == (
        f"code: expected 1000 to 1014 without reserved ones, or 3000 to 4999, got {code!r}"
    )


@pytest.mark.parametrize(
    ("reason", "got"),
    [
        ("x" * 124, "124 bytes"),
        ("é" * 62, "124 bytes"),
        ("\ud800", "a lone surrogate"),
        (b"bye", "bytes"),
        (None, "NoneType"),
    ],
)
def test_a_reason_has_to_fit_into_a_control_frame(reason: Any, got: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_close(4000, reason)
    assert str(caught.value) == f"reason: expected text of up to 123 bytes of UTF-8, got {got}"


@pytest.mark.parametrize("code", [1000, 3000, 4999])
def test_a_client_may_close_with_codes_for_applications(code: int) -> None:
    assert check_own_code(code) == code


@pytest.mark.parametrize("code", [0, 999, 1001, 1006, 2999, 5000, True, "1000", None])
def test_a_client_may_close_with_no_other_code(code: Any) -> None:
    with pytest.raises(InvalidInput, match=r"code: expected 1000, or 3000 to 4999, got"):
        check_own_code(code)
