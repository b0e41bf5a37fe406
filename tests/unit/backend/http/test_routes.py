"""The table of routes: each side reads what the other side wrote."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from mesa_ws.backend.http import routes
from mesa_ws.backend.http.routes import QUERIES, IdsBody, OrderBody, Route
from mesa_ws.backend.queries import (
    CarriedOut,
    ConnectionCount,
    Heads,
    IdPage,
    Online,
    OnlineCount,
    OnlineIds,
    Peek,
    Query,
)
from mesa_ws.errors import InvalidInput, InvalidRecipients
from mesa_ws.messages.order import Order, OrderStatus, prepare_order
from mesa_ws.messages.receipt import Delivery, IdStatus, OutboxHead, Position, Receipt, Status, Stored

REFERENCE = Path(__file__).parents[4] / "docs/reference/http-api.md"
ROUTES = [*(each for each in vars(routes).values() if isinstance(each, Route)), *QUERIES.values()]
HEAD = OutboxHead("e", 5, 2, 3, (Position("d", 1),), ((1, 2),))
STORED = [Stored(1, "m", 10.5, 20.5, b'{"op":0,"d":"\xc3\xa9"}')]
STATUS = Status("m", {"0": IdStatus("pending"), "1": IdStatus("dropped", ((1, 2),))})


@pytest.mark.parametrize(
    ("route", "result"),
    [
        (routes.REQUEST, b'{"op":0,"d":"\xc3\xa9"}'),
        (routes.STATUS, STATUS),
        (QUERIES[Online], {"0": 2, "é": 0}),
        (QUERIES[OnlineCount], 7),
        (QUERIES[OnlineIds], IdPage(("0", "é"), "7")),
        (QUERIES[OnlineIds], IdPage((), None)),
        (QUERIES[ConnectionCount], 7),
        (QUERIES[Heads], {"0": HEAD, "1": None}),
        (QUERIES[Peek], STORED),
        (QUERIES[CarriedOut], OrderStatus(("n", "m"), ("o",))),
        (routes.PURGE, 3),
    ],
)
def test_answers_are_read_as_they_were_written(route: Route[Any, Any], result: Any) -> None:
    assert route.decode_answer(route.encode_answer(result)) == result
    assert route.decode_answer(b"<html>") is None


@pytest.mark.parametrize(
    "query",
    [
        Online(["0", "é"]),
        Online([]),
        OnlineCount(),
        OnlineIds(),
        OnlineIds("7"),
        ConnectionCount(),
        Heads(["0", "é"]),
        Heads([]),
        Peek("0", 5),
        CarriedOut(Position("5e0b9c1d2f3a4b5c", 1)),
    ],
)
@pytest.mark.parametrize("namespace", [None, "api"])
def test_queries_are_read_as_they_were_written(query: Query[Any], namespace: str | None) -> None:
    route = QUERIES[type(query)]
    body = route.decode_body(route.encode_body(route.body(**vars(query), namespace=namespace)))
    assert (route.query(body), body.namespace) == (query, namespace)


@pytest.mark.parametrize("key", [None, "key"])
@pytest.mark.parametrize(("route", "before"), [(routes.DISCONNECT, None), (routes.REVOKE, 7.5)])
def test_orders_are_read_as_they_were_written(
    route: Route[Any, Any], before: float | None, key: str | None
) -> None:
    order = prepare_order(["0", "é"], 4100, "out", before).envelope(key)
    body = route.decode_body(route.encode_body(OrderBody.of(order, "api")))
    assert (body.prepared(revokes=route is routes.REVOKE), body.namespace) == (order, "api")


def test_a_revocation_without_a_time_is_of_now() -> None:
    began = time.time()
    revoked, ended = (Order.read(OrderBody(["0"]).prepared(revokes=each).body) for each in (True, False))
    assert revoked is not None
    assert revoked.issued_before is not None
    assert began <= revoked.issued_before <= time.time()
    assert (revoked, ended) == (Order(("0",), 1008, "", revoked.issued_before), Order(("0",), 1000))


@pytest.mark.parametrize(("ids", "got"), [(None, "null"), ({}, "an object")])
def test_a_question_about_no_list_is_refused(ids: object, got: str) -> None:
    with pytest.raises(InvalidRecipients, match=f"expected a list of ids, got {got}"):
        QUERIES[Heads].query(IdsBody(ids))


def test_a_question_about_too_many_ids_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at most 10000 at once, got 10001"):
        QUERIES[Heads].query(IdsBody(["0"] * 10_001))


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
@pytest.mark.parametrize("body", [b"", b"7", b'{"more":1}', b"\xff", b"[" * 100_000])
def test_a_body_of_another_form_is_refused(route: Route[Any, Any], body: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"^body: expected an? (JSON )?object"):
        route.decode_body(body)


def test_a_receipt_is_read_as_a_dispatch_was_answered() -> None:
    delivery = b'{"stored":true,"online":0,"dropped":null,"position":["e",1]}'
    body = b'{"receipt":{"message_id":"m","nodes":1,"deliveries":{"0":%s}},"namespace":"api"}' % delivery
    asked = routes.STATUS.decode_body(body)
    receipt = Receipt("m", {"0": Delivery(True, 0, None, Position("e", 1))}, 1)
    assert (asked.receipt.receipt(), asked.namespace) == (receipt, "api")


def test_the_reference_names_the_routes_of_the_table_and_their_members() -> None:
    page = REFERENCE.read_text()
    assert len(ROUTES) == 13
    assert set(re.findall(r"`POST (/\S+)`", page)) == {route.path for route in ROUTES}
    members = {member for route in ROUTES for kind in (route.body, route.answer) for member in _members(kind)}
    assert len(members) > 30
    assert [each for each in sorted(members) if not re.search(f'[`"]{each}[`"]', page)] == []


def _members(kind: Any) -> Iterator[str]:
    """Return the names of members, also of those inside other members."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        for field in msgspec.structs.fields(kind):
            yield field.encode_name
            yield from _members(field.type)
    for inner in get_args(kind):
        yield from _members(inner)
