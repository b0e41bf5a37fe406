"""The checker of the storm reports every fault."""

import pytest

from .chaos.checker import Expected, Label, Verdict, check

A, B, C = [("source", number) for number in range(3)]
OTHER = ("other", 0)

ALL = Expected({A: 1, B: 2, C: 3}, set())


def counts(verdict: Verdict) -> dict[str, int]:
    """Return the number of findings of each kind."""
    return {name: len(found) for name, found in verdict._asdict().items() if name != "checked" and found}


def test_what_all_came_once_and_in_order_is_clean() -> None:
    verdict = check("alice", ALL, [[A], [B, C]])
    assert verdict.is_clean
    assert verdict.checked == 3
    assert str(verdict) == "3 checked, 0 lost, 0 reordered, 0 doubled, 0 repeated, 0 strange"


@pytest.mark.parametrize(
    ("logins", "found"),
    [
        ([[A, C]], {"lost": 1}),
        ([[A, B]], {"lost": 1}),
        ([], {"lost": 3}),
        ([[A, A, B, C]], {"doubled": 1}),
        ([[A, B], [B, C]], {"doubled": 1}),
        ([[A, C, B]], {"reordered": 1}),
        ([[B], [A, C]], {"reordered": 1}),
        ([[A, OTHER, B, C]], {"strange": 1}),
    ],
)
def test_a_fault_is_found(logins: list[list[Label]], found: dict[str, int]) -> None:
    verdict = check("alice", ALL, logins)
    assert counts(verdict) == found
    assert not verdict.is_clean


def test_a_finding_names_the_client_and_the_message() -> None:
    assert check("alice", ALL, [[A, C]]).lost == ("alice: source #1",)


def test_messages_of_two_sources_have_the_order_of_the_outbox() -> None:
    expected = Expected({A: 2, OTHER: 1}, set())
    assert check("alice", expected, [[OTHER, A]]).is_clean
    assert check("alice", expected, [[A, OTHER]]).reordered == ("alice: other #0",)


def test_messages_of_two_sources_without_positions_have_no_order() -> None:
    assert check("alice", Expected({A: None, OTHER: None}, set()), [[A, OTHER]]).is_clean


@pytest.mark.parametrize("logins", [[[A, B, C]], [[A, C]]])
def test_a_message_of_unknown_outcome_may_be_there(logins: list[list[Label]]) -> None:
    assert check("alice", Expected({A: 1, C: 3}, {B}), logins).is_clean


def test_a_message_of_unknown_outcome_may_not_be_there_twice() -> None:
    assert counts(check("alice", Expected({}, {B}), [[B], [B]])) == {"doubled": 1}


def test_a_client_of_1x_may_get_messages_again_after_a_new_login() -> None:
    verdict = check("alice", ALL, [[A, B], [A, B, C]], may_repeat=True)
    assert counts(verdict) == {"repeated": 2}
    assert verdict.is_clean


def test_a_client_of_1x_may_not_get_messages_twice_within_a_login() -> None:
    verdict = check("alice", ALL, [[A, B], [B, B, C]], may_repeat=True)
    assert counts(verdict) == {"doubled": 1, "repeated": 1}


def test_a_client_of_1x_must_get_what_is_repeated_in_order() -> None:
    assert counts(check("alice", ALL, [[A, B, C], [B, A]], may_repeat=True)) == {
        "repeated": 2,
        "reordered": 1,
    }


def test_a_verdict_over_many_clients_has_the_findings_of_all() -> None:
    verdicts = [check("alice", ALL, [[A, C]]), check("bob", ALL, [[A, A, B]]), check("eve", ALL, [[A, B, C]])]
    whole = Verdict.over(verdicts)
    assert whole.checked == 9
    assert whole.lost == ("alice: source #1", "bob: source #2")
    assert whole.doubled == ("bob: source #0",)


def test_nobody_has_nothing_to_complain_about() -> None:
    assert Verdict.over([]).is_clean


@pytest.mark.parametrize(
    ("logins", "found"),
    [
        ([[0, 2], [0, 1, 2]], {"repeated": 2}),
        ([[0, 2, 1]], {"reordered": 1}),
        ([[0], [2, 1]], {"reordered": 1}),
    ],
)
def test_messages_to_everybody_have_an_order_within_each_login_of_a_client_of_1x(
    logins: list[list[int]], found: dict[str, int]
) -> None:
    labels = [[("source/*", number) for number in login] for login in logins]
    expected = Expected({("source/*", number): None for number in range(3)}, set())
    assert counts(check("bob", expected, labels, may_repeat=True)) == found


def test_messages_to_everybody_have_an_order_over_all_logins_on_wire_2() -> None:
    labels = [[("source/*", 0), ("source/*", 2)], [("source/*", 1)]]
    expected = Expected({("source/*", number): None for number in range(3)}, set())
    assert counts(check("alice", expected, labels)) == {"reordered": 1}
