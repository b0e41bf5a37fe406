"""Keys of the dispatch API: names, rights, and a file of them that changes."""

import logging
import os
from pathlib import Path

import pytest

import mesa_ws.http_server.keys
from mesa_ws.errors import InvalidInput, InvalidSettings
from mesa_ws.http_server.keys import ApiKeys, Right
from mesa_ws.http_server.routes import RIGHTS

KEY = "0123456789abcdef"
SHOP, OLD, BOARD = "shop-key-0123456", "shop-key-6543210", "board-key-012345"
FILE = (
    f'[shop]\nkey = ["{SHOP}", "{OLD}"]\nrights = ["dispatch"]\n[board]\nkey = "{BOARD}"\nrights = ["read"]\n'
)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(mesa_ws.http_server.keys, "LOOK", 0.0)
    (tmp_path / "keys.toml").write_text(FILE)
    return tmp_path / "keys.toml"


def replace(file: Path, text: str) -> None:
    other = file.with_suffix(".new")
    other.write_text(text)
    os.replace(other, file)


def name(keys: ApiKeys, key: str) -> str | None:
    found = keys.find(f"Bearer {key}")
    return found.name if found else None


def test_a_key_is_known_by_its_name(file: Path) -> None:
    keys = ApiKeys(KEY, file)
    assert [name(keys, key) for key in (KEY, SHOP, OLD, BOARD, "another")] == [
        "key",
        "shop",
        "shop",
        "board",
        None,
    ]


def test_a_key_alone_has_all_rights() -> None:
    key = ApiKeys(KEY).find(f"Bearer {KEY}")
    assert key is not None
    assert all(key.allows(right) for right in RIGHTS.values())


@pytest.mark.parametrize(("key", "rights"), [(SHOP, {"dispatch"}), (BOARD, {"read"})])
def test_a_key_of_the_file_has_the_rights_it_is_given(file: Path, key: str, rights: set[Right]) -> None:
    found = ApiKeys(None, file).find(f"Bearer {key}")
    assert found is not None
    assert {right for right in RIGHTS.values() if found.allows(right)} == rights


def test_keys_are_rotated_without_a_restart(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    keys = ApiKeys(None, file)
    assert name(keys, OLD) == "shop"
    replace(file, FILE.replace(OLD, "shop-key-9999999"))
    assert [name(keys, key) for key in (OLD, SHOP, "shop-key-9999999")] == [None, "shop", "shop"]
    assert [record.getMessage() for record in caplog.records] == [
        "the dispatch API read its keys again: 'board', 'shop'"
    ]


@pytest.mark.parametrize("text", ["", "key = ", f'[shop]\nkey = "{SHOP}"\n', None])
def test_a_file_that_becomes_wrong_is_warned_of_once_and_keeps_its_keys(
    file: Path, text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    keys = ApiKeys(None, file)
    if text is None:
        file.unlink()
    else:
        replace(file, text)
    assert [name(keys, SHOP) for _ in range(3)] == ["shop"] * 3
    (record,) = caplog.records
    assert record.getMessage().startswith(
        f"the dispatch API keeps the keys that it has: api.keys_file: {file}: "
    )
    assert SHOP not in record.getMessage()
    replace(file, FILE.replace(OLD, "shop-key-9999999"))
    assert name(keys, OLD) is None


def test_the_file_is_looked_at_once_in_a_while(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesa_ws.http_server.keys, "LOOK", 600.0)
    keys = ApiKeys(None, file)
    replace(file, FILE.replace(OLD, "shop-key-9999999"))
    assert name(keys, OLD) == "shop"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "expected a table for each key, got none"),
        ('key = "shop-key-0123456', "expected TOML with a table for each key"),
        ('key = "shop-key-0123456"', r"\[key\]: expected key, a text or a list of them"),
        ('[a]\nkey = "shop-key-0123456"', "but: Object missing required field `rights`"),
        ('[a]\nkey = "shop-key-0123456"\nrights = []', "but: Expected `array` of length >= 1"),
        ('[a]\nkey = "shop-key-0123456"\nrights = ["send"]', "but: Invalid enum value 'send'"),
        (
            '[a]\nkey = "short"\nrights = ["read"]',
            "but: key: expected 16 or more characters, got '5 of them'",
        ),
        ('[a]\nkey = "shop-key-0123456"\nrights = ["read"]\nname = "b"', "unknown field `name`"),
        (
            FILE + FILE.replace("[shop]", "[c]").replace("[board]", "[d]"),
            "expected each key once, got one twice",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_without_its_keys(file: Path, text: str, problem: str) -> None:
    file.write_text(text)
    with pytest.raises(InvalidInput, match=problem) as caught:
        ApiKeys(KEY, file)
    assert SHOP not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="expected a file to read: No such file"):
        ApiKeys(None, tmp_path / "keys.toml")


def test_a_key_or_a_file_is_needed() -> None:
    with pytest.raises(InvalidSettings, match="key: expected a key or keys_file, got None"):
        ApiKeys(None)
