"""Orders to all nodes: what they may be, and which logins a revocation ends."""

from typing import Any

import pytest

from mesa_ws.errors import InvalidInput, InvalidRecipients, Unsupported
from mesa_ws.messages.order import MAX_IDS, Order, position_of, prepare_order
from mesa_ws.messages.receipt import Delivery, Position, Receipt


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"ids": []}, f"ids: expected 1 to {MAX_IDS}, got 0"),
        ({"ids": [str(n) for n in range(MAX_IDS + 1)]}, f"ids: expected 1 to {MAX_IDS}, got {MAX_IDS + 1}"),
        ({"code": 1005.5}, "code: expected"),
        ({"reason": "x" * 124}, "reason: expected"),
        *(
            ({"issued_before": time}, "issued_before: expected seconds since 1970 as a number")
            for time in ("now", True, float("nan"), float("inf"), 10**400)
        ),
    ],
)
def test_an_order_that_no_node_could_carry_out_is_refused(change: dict[str, Any], problem: str) -> None:
    arguments: dict[str, Any] = {"ids": ["1"], "code": 1000, "reason": ""}
    with pytest.raises(InvalidInput, match=problem):
        prepare_order(**arguments | change)


@pytest.mark.parametrize("ids", [["*"], "1", [1]])
def test_an_order_names_ids(ids: Any) -> None:
    with pytest.raises(InvalidRecipients):
        prepare_order(ids, 1000, "")


@pytest.mark.parametrize(
    ("issued_at", "ends"), [(99.9, True), (100, True), (100.9, True), (101, False), (None, True)]
)
def test_a_login_of_the_same_second_is_revoked(issued_at: float | None, ends: bool) -> None:
    order = Order.read(prepare_order(["1"], 1008, "", 100.5).envelope().body)
    assert order is not None
    assert order.concerns(issued_at) is ends
    assert Order(("1",)).concerns(issued_at)


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x91\x01", b"\x92\x91\xa11\xa1x"])
def test_what_is_no_order_is_not_read(body: bytes) -> None:
    assert Order.read(body) is None


@pytest.mark.parametrize("deliveries", [{}, {"*": Delivery(True, 0, None)}])
def test_a_backend_without_positions_gives_no_orders(deliveries: dict[str, Delivery]) -> None:
    with pytest.raises(Unsupported, match="orders to all nodes: expected Redis or a server of this process"):
        position_of(Receipt("id", deliveries, 1))
    known = Position("epoch", 7)
    assert position_of(Receipt("id", {"*": Delivery(True, 0, None, known)}, 1)) == known
