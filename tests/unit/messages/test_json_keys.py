"""Keys of objects where a caller reads or writes JSON."""

import json
from typing import Any

import pytest

from mesa_ws.errors import InvalidInput
from mesa_ws.messages.json_keys import check_members


def test_a_name_that_stands_twice_is_refused_once_it_is_found() -> None:
    with pytest.raises(InvalidInput, match="expected each name once in an object, got 'a' twice"):
        check_members(b'[{"a": 1, "a": 2}]')


def test_what_is_too_deep_to_be_looked_through_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(*_: Any, **__: Any) -> None:
        raise RecursionError

    monkeypatch.setattr(json, "loads", give_up)
    with pytest.raises(InvalidInput, match="nested too deep; flatten it"):
        check_members(b'{"a": 1, "a": 2}')
