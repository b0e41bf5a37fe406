"""Queries, and cursors between pages of ids."""

from collections.abc import Iterator
from typing import Any, assert_type

import pytest

from mesa_ws.backend.base import AsyncBus
from mesa_ws.backend.http.routes import QUERIES
from mesa_ws.backend.memory import MemoryBackend
from mesa_ws.backend.mesa1 import Mesa1Wire
from mesa_ws.backend.queries import (
    FIRST,
    CarriedOut,
    ConnectionCount,
    Heads,
    IdPage,
    Online,
    OnlineCount,
    OnlineIds,
    Peek,
    Query,
    check_cursor,
)
from mesa_ws.backend.redis import NativeWire
from mesa_ws.errors import InvalidInput, InvalidRecipients, Unsupported
from mesa_ws.messages.order import OrderStatus
from mesa_ws.messages.receipt import OutboxHead, Position, Stored


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


async def test_an_answer_has_the_type_that_its_query_names() -> None:
    bus: AsyncBus = MemoryBackend()
    assert assert_type(await bus.query(Online(["0"])), dict[str, int]) == {"0": 0}
    assert assert_type(await bus.query(OnlineCount()), int) == 0
    assert assert_type(await bus.query(OnlineIds()), IdPage) == IdPage((), None)
    assert assert_type(await bus.query(ConnectionCount()), int) == 0
    assert assert_type(await bus.query(Heads(["0"])), dict[str, OutboxHead | None]) == {"0": None}
    assert assert_type(await bus.query(Peek("0")), list[Stored]) == []
    assert assert_type(await bus.query(CarriedOut(ORDER)), OrderStatus) == OrderStatus((), ())


ORDER = Position("0123456789abcdef", 1)

ALL = [
    Online(["0"]),
    OnlineCount(),
    OnlineIds(),
    ConnectionCount(),
    Heads(["0"]),
    Peek("0"),
    CarriedOut(ORDER),
]


async def test_each_kind_of_backend_answers_every_query() -> None:
    assert {type(each) for each in ALL} == set(QUERIES) == set(_kinds(Query))
    for query in ALL:
        await MemoryBackend().query(query)
        assert len(NativeWire("api").query(query).commands) == 1
        if not isinstance(query, Heads | CarriedOut):
            assert len(Mesa1Wire("api").query(query).commands) == 1
    for query in (Heads(["0"]), CarriedOut(ORDER)):
        with pytest.raises(Unsupported, match="wire 'mesa1' has no status"):
            Mesa1Wire("api").query(query)


def _kinds(kind: type[Query[Any]]) -> Iterator[type[Query[Any]]]:
    """Return the queries that are there, those below bases of several included."""
    for below in kind.__subclasses__():
        yield from _kinds(below) if below.__name__.startswith("_") else [below]
