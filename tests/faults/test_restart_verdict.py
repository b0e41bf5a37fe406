"""The verdict about outages reports every fault."""

import pytest

from .restarts.run import Plan, evidence, table
from .restarts.verdict import Event, IdGroups, Outage, Verdict, judge

GROUPS = IdGroups(("ann", "bob"), ("carl",), ("dora",))

OUTAGE = Outage(100.0, 108.0, lease=15.0, grace=5.0)

DEATH = [Event(120.0, "disconnected", "dora"), Event(125.0, "offline", "dora")]

GOING = [Event(99.0, "left", "carl"), Event(99.1, "disconnected", "carl"), Event(109.0, "came", "carl")]

TALK = [Event(float(at), kind, "ann", at) for at in (98, 105, 109) for kind in ("sent", "handled")]

CALM = [*GOING, *TALK, *DEATH]


def found(*events: Event, without: Event | None = None) -> dict[str, int]:
    """Return the number of faults of each kind, when these events happen in addition to the required ones."""
    journal = sorted((*(event for event in CALM if event != without), *events), key=lambda event: event.at)
    verdict = judge(journal, GROUPS, OUTAGE)
    return {
        name: len(value) for name, value in verdict._asdict().items() if isinstance(value, tuple) and value
    }


def test_an_outage_that_nobody_notices_is_clean() -> None:
    verdict = judge(CALM, GROUPS, OUTAGE)
    assert verdict.is_clean
    assert verdict == Verdict(1, 17 / 15)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (Event(108.1, "offline", "ann"), "offline"),
        (Event(130.0, "offline", "bob"), "offline"),
        (Event(108.1, "disconnected", "bob"), "disconnected"),
        (Event(101.0, "closed", "bob"), "closed"),
        (Event(120.0, "closed", "carl"), "closed"),
        (Event(108.1, "offline", "carl"), "hasty"),
        (Event(110.4, "offline", "carl"), "hasty"),
        (Event(126.0, "offline", "dora"), "untold"),
        (Event(126.0, "disconnected", "dora"), "untold"),
        (Event(139.0, "offline", "dora"), "untold"),
        (Event(110.0, "sent", "bob", 3), "lost"),
        (Event(110.0, "handled", "ann", 98), "repeated"),
    ],
)
def test_what_is_wrong_is_found(event: Event, kind: str) -> None:
    assert found(event) == {kind: 1}


def test_a_grace_may_end_in_an_outage_of_less_than_half_a_lease() -> None:
    brief = OUTAGE._replace(back=107.0)
    early = Event(107.1, "offline", "carl")
    assert judge(sorted([*CALM, early], key=lambda event: event.at), GROUPS, brief).hasty == ()
    longer = OUTAGE._replace(back=107.5)
    assert judge(sorted([*CALM, early], key=lambda event: event.at), GROUPS, longer).hasty == ("carl",)


@pytest.mark.parametrize("missing", DEATH)
def test_a_death_that_is_not_told_is_found(missing: Event) -> None:
    assert found(without=missing) == {"untold": 1}


def test_a_death_that_is_told_too_late_is_found() -> None:
    late = Event(138.1, "offline", "dora")
    assert found(late, without=DEATH[1]) == {"untold": 1}
    assert found(late._replace(at=137.9), without=DEATH[1]) == {}


def test_a_connection_of_the_dead_may_end_as_it_likes() -> None:
    assert found(Event(103.0, "closed", "dora")) == {}


def test_an_id_that_had_time_to_come_back_may_be_told_to_be_offline() -> None:
    assert found(Event(110.6, "offline", "carl"), without=GOING[2]) == {}


def test_an_id_that_left_long_before_the_outage_may_have_had_its_grace() -> None:
    early = GOING[0]._replace(at=97.4)
    assert found(early, Event(108.1, "offline", "carl"), without=GOING[0]) == {}


def test_numbers_out_of_order_are_found_and_repeated_ones_are_not_out_of_order() -> None:
    numbers = [Event(110.0, "handled", "bob", number) for number in (1, 3, 2, 3, 4)]
    sent = [Event(109.0, "sent", "bob", number) for number in (1, 2, 3, 4)]
    assert found(*sent, *numbers) == {"disordered": 1, "repeated": 1}


def test_connected_ids_that_are_not_known_to_be_online_are_found() -> None:
    verdict = judge(CALM, GROUPS, OUTAGE, absent=["ann"])
    assert verdict.absent == ("ann",)
    assert not verdict.is_clean


def test_repeated_numbers_are_no_fault() -> None:
    assert Verdict(1, repeated=("ann #1",)).is_clean


def test_a_verdict_over_rounds_has_the_findings_of_all_and_the_slowest_death() -> None:
    rounds = [Verdict(1, 1.5, offline=("ann",)), Verdict(1, 0.5, offline=("bob",), lost=("ann #1",))]
    assert Verdict.over(rounds) == Verdict(2, 1.5, offline=("ann", "bob"), lost=("ann #1",))


def test_the_table_has_a_line_for_each_kind_of_outage() -> None:
    head, line = table([Plan("stopped", 15)], [Verdict(2, 1.5, offline=("ann", "bob"))], 3.0)
    assert len(head) == len(line)
    assert line.split() == ["stopped", "3.0", "s", "1.00", "2", "1.5", "leases", "2", *"00000000"]


def test_the_evidence_names_what_is_wrong_and_not_what_may_be() -> None:
    verdict = Verdict(1, closed=("ann",), repeated=("ann #1",))
    assert evidence(Plan("restarted", 8), verdict) == ["restarted 8: closed: ann"]
