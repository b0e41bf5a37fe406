"""Who owns which queue: evenly, the same for all who ask, and little moves."""

import pytest

from mesa_ws.portal.assignment import assigned_queues


def names(count: int) -> list[str]:
    return [f"portal {n}" for n in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 16, 20])
def test_every_queue_has_one_owner_and_parts_are_even(count: int) -> None:
    parts = [assigned_queues(names(count), portal) for portal in names(count)]
    assert sorted(number for part in parts for number in part) == list(range(16))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_order_in_which_portals_are_named_does_not_matter() -> None:
    assert assigned_queues(names(5), "portal 2") == assigned_queues(names(5)[::-1], "portal 2")


def test_who_is_not_among_them_owns_nothing() -> None:
    assert assigned_queues(names(5), "stranger") == assigned_queues((), "stranger") == frozenset()


def test_most_queues_stay_where_they_are_when_a_portal_comes() -> None:
    moved = sum(
        len(assigned_queues(names(7), portal) - assigned_queues(names(8), portal)) for portal in names(7)
    )
    assert 2 <= moved <= 8
