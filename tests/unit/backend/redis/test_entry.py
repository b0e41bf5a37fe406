"""Members of an outbox's list."""

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesa_ws.backend.redis.node_commands import InvalidEntry, RawEntry


def raw(message_id: bytes = b"m", body: bytes = b"", size: int | None = None) -> bytes:
    head = struct.pack(">dddB", 1_500, 61_500, 7, len(message_id) if size is None else size)
    return head + message_id + body


def announced(excluding: object, body: bytes = b"") -> RawEntry:
    ids = msgspec.msgpack.encode(excluding)
    return RawEntry.of(raw(body=len(ids).to_bytes(4, "big") + ids + body))


def test_an_entry_says_when_and_what() -> None:
    assert RawEntry.of(raw(b"id", b"\0\xff")) == RawEntry(1.5, 61.5, "id", b"\0\xff")


@pytest.mark.parametrize("bytes", [b"", raw()[:24], raw(size=2), raw(b"", size=255)])
def test_what_is_too_short_is_no_entry(bytes: bytes) -> None:
    with pytest.raises(InvalidEntry, match="expected"):
        RawEntry.of(bytes)


@given(st.binary(max_size=80))
def test_any_bytes_are_an_entry_or_refused(bytes: bytes) -> None:
    try:
        _ = RawEntry.of(bytes).for_everybody
    except InvalidEntry:
        return


def test_an_entry_for_everybody_names_who_is_left_out() -> None:
    assert announced(["b", "a", "é"], b"body").for_everybody == (frozenset({"a", "b", "é"}), b"body")
    assert announced([]).for_everybody == (frozenset(), b"")


@pytest.mark.parametrize("excluding", ["a", [1], {"a": 1}, None, [b"\xff"]])
def test_a_list_of_something_else_is_refused(excluding: object) -> None:
    with pytest.raises(InvalidEntry):
        _ = announced(excluding).for_everybody


def test_a_list_that_ends_too_soon_is_refused() -> None:
    with pytest.raises(InvalidEntry, match="expected a list of 9 bytes, got 1"):
        _ = RawEntry.of(raw(body=b"\0\0\0\x09a")).for_everybody
