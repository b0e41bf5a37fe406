"""The checkers of failovers report every fault, in made-up journals."""

from collections import Counter
from collections.abc import Sequence
from math import inf
from pathlib import Path

import pytest

from tests.faults.chaos.journal import Record

from .failovers.failover import Failover, Failovers
from .failovers.finding import Fault, Finding
from .failovers.messages import heard_by, judge_messages, sent_to
from .failovers.outages import Call, Outage, calls_of, outages
from .failovers.portal_events import judge_events
from .failovers.presence import judge_presence
from .failovers.report import PERMITTED, PERMITTED_REPLICATED, Report

TWO = Failovers([Failover("kill -9", 10.0, 13.0), Failover("planned", 30.0, 31.0)])

ALICE = "alice"


def faults(findings: Sequence[Finding]) -> list[tuple[Fault, float]]:
    return [(finding.fault, finding.time) for finding in findings]


def meant(time: float, number: int, source: str = "a") -> Record:
    return [time, "meant", source, number, [ALICE]]


def confirmed(time: float, number: int, sequence: int, source: str = "a", epoch: str = "e") -> Record:
    return [time, "confirmed", source, number, {ALICE: [epoch, sequence]}]


def got(time: float, number: int, source: str = "a") -> Record:
    return [time, "got", ALICE, source, number]


DISPATCHED = [
    *(meant(11.0, 0), confirmed(11.5, 0, 1)),
    *(meant(12.0, 1), confirmed(12.5, 1, 2)),
    *(meant(13.0, 2), confirmed(13.5, 2, 3)),
]
ALL = [got(11.2, 0), got(12.2, 1), got(13.2, 2)]


def judged_messages(dispatched: list[Record], clients: list[Record]) -> list[Finding]:
    sent, heard = sent_to([ALICE], dispatched), heard_by([ALICE], clients)
    return list(judge_messages(ALICE, sent[ALICE], heard[ALICE], TWO))


def test_messages_that_came_once_and_in_order_are_clean() -> None:
    assert judged_messages(DISPATCHED, ALL) == []


@pytest.mark.parametrize("kind", ["lost", "reset", "forked"])
def test_a_lost_message_has_to_be_told_after_it_was_dispatched(kind: str) -> None:
    received = [ALL[0], ALL[2]]
    assert faults(judged_messages(DISPATCHED, received)) == [("lost", 12.5), ("untold", 12.5)]
    assert faults(judged_messages(DISPATCHED, [*received, [14.0, kind, ALICE]])) == [("lost", 12.5)]
    too_early = judged_messages(DISPATCHED, [*received, [11.9, kind, ALICE]])
    assert faults(too_early) == [("lost", 12.5), ("untold", 12.5)]


def test_what_the_next_failover_tells_is_not_about_this_one() -> None:
    findings = judged_messages(DISPATCHED, [ALL[0], ALL[2], [30.1, "forked", ALICE]])
    assert faults(findings) == [("lost", 12.5), ("untold", 12.5)]


def test_what_is_confirmed_just_before_a_failover_may_be_lost_by_that_one() -> None:
    sent = [meant(29.0, 0), confirmed(29.4, 0, 1), meant(29.5, 1), confirmed(29.6, 1, 2)]
    findings = judged_messages(sent, [[31.0, "forked", ALICE]])
    assert faults(findings) == [("lost", 29.4), ("untold", 29.4), ("lost", 29.6)]


def test_a_message_of_unknown_outcome_may_be_there_or_not() -> None:
    unknown = [*DISPATCHED, meant(14.0, 3)]
    assert judged_messages(unknown, ALL) == []
    assert judged_messages(unknown, [*ALL, got(14.1, 3)]) == []


def test_messages_to_everybody_are_expected_too() -> None:
    everybody: list[Record] = [[11.0, "meant", "a/*", 0, []], [11.5, "confirmed", "a/*", 0, {}]]
    assert faults(judged_messages(everybody, [])) == [("lost", 11.5), ("untold", 11.5)]
    assert judged_messages(everybody, [got(11.2, 0, "a/*")]) == []


def test_a_message_that_came_twice_is_found() -> None:
    twice = judged_messages(DISPATCHED, [*ALL, got(13.3, 2)])
    assert faults(twice) == [("doubled", 13.3), ("doubled untold", 13.3)]
    for time in (13.25, 13.3):
        told = judged_messages(DISPATCHED, [*ALL, [time, "forked", ALICE], got(13.3, 2)])
        assert faults(told) == [("doubled", 13.3)]
    too_late = judged_messages(DISPATCHED, [*ALL, got(13.3, 2), [13.4, "forked", ALICE]])
    assert faults(too_late) == [("doubled", 13.3), ("doubled untold", 13.3)]


def test_messages_of_one_source_out_of_order_are_found() -> None:
    assert faults(judged_messages(DISPATCHED, [ALL[0], ALL[2], got(13.3, 1)])) == [("out of order", 13.3)]


def test_messages_of_two_sources_have_the_order_of_each_epoch() -> None:
    other = [*DISPATCHED, meant(11.0, 0, "b"), confirmed(11.5, 0, 4, "b")]
    assert faults(judged_messages(other, [got(11.1, 0, "b"), *ALL])) == [
        *(("out of order", time) for time in (11.2, 12.2, 13.2)),
    ]
    forked = [*DISPATCHED, meant(11.0, 0, "b"), confirmed(11.5, 0, 4, "b", "another epoch")]
    assert judged_messages(forked, [got(11.1, 0, "b"), *ALL]) == []


def test_what_came_again_has_no_place_in_the_epoch_in_which_it_came_first() -> None:
    other = [*DISPATCHED, meant(11.0, 0, "b"), confirmed(13.6, 0, 4, "b")]
    received = [got(11.1, 0, "b"), *ALL, [13.5, "forked", ALICE], got(13.6, 0, "b")]
    assert faults(judged_messages(other, received)) == [("doubled", 13.6)]


def test_of_a_message_that_came_twice_the_last_copy_has_the_order_of_its_epoch() -> None:
    """The first copy is in an epoch that was rolled back."""
    other = [
        meant(11.0, 0, "b"),
        confirmed(13.9, 0, 1, "b", "f"),
        meant(11.1, 0),
        confirmed(13.8, 0, 2, epoch="f"),
    ]
    forked: Record = [13.0, "forked", ALICE]
    before = [got(11.2, 0), got(11.3, 0, "b"), forked]
    assert set(faults(judged_messages(other, [*before, got(13.1, 0, "b"), got(13.2, 0)]))) == {
        ("doubled", 13.1),
        ("doubled", 13.2),
    }
    found = faults(judged_messages(other, [*before, got(13.1, 0), got(13.2, 0, "b")]))
    assert ("out of order", 11.3) in found


def test_a_message_that_was_never_sent_is_found() -> None:
    assert faults(judged_messages(DISPATCHED, [*ALL, got(13.3, 9, "stranger")])) == [("strange", 13.3)]


STAYS: list[Record] = [[1.0, "login", ALICE], [1.1, "ready", ALICE]]


def judged_presence(clients: list[Record], nodes: list[Record]) -> list[tuple[Fault, float]]:
    return faults(list(judge_presence([ALICE], clients, nodes)))


def test_an_id_that_stays_is_not_offline() -> None:
    assert judged_presence(STAYS, [[2.0, "online", ALICE], [9.0, "offline", "bob"]]) == []
    assert judged_presence(STAYS, [[20.0, "offline", ALICE]]) == [("false offline", 20.0)]


def test_an_id_that_left_is_offline() -> None:
    left: list[Record] = [*STAYS, [19.0, "cut", ALICE, 1000]]
    assert judged_presence(left, [[20.0, "offline", ALICE]]) == []
    assert judged_presence(left, [[18.0, "offline", ALICE]]) == [("false offline", 18.0)]


def test_an_id_that_just_came_back_may_still_be_reported() -> None:
    back: list[Record] = [*STAYS, [19.0, "cut", ALICE, 1000], [19.9, "login", ALICE]]
    assert judged_presence(back, [[20.0, "offline", ALICE]]) == []
    assert judged_presence(back, [[21.0, "offline", ALICE]]) == [("false offline", 21.0)]


def test_a_connection_that_a_server_ends_is_found() -> None:
    assert judged_presence([*STAYS, [19.0, "cut", ALICE, 1006]], []) == [("cut", 19.0)]


C = "connection-1"
NODE: list[Record] = [
    [1.0, "open", C],
    [1.1, "authenticated", C, ALICE],
    [20.0, "close", C, 1000],
]
SENT: list[Record] = [[2.0, "sent", ALICE, 0], [3.0, "sent", ALICE, 1]]


def handled(time: float, type: str, number: int | None = None, connection: str = C) -> Record:
    return [time, "handled", connection, type, number, None]


HANDLED = [
    *(handled(1.2, "connection"), handled(1.3, "authentication")),
    *(handled(2.1, "message", 0), handled(3.1, "message", 1), handled(20.1, "disconnection")),
]


def judged_events(portals: list[Record]) -> list[tuple[Fault, float]]:
    return faults(list(judge_events(SENT, NODE, portals)))


def test_events_that_were_handled_once_and_in_order_are_clean() -> None:
    assert judged_events(HANDLED) == []


@pytest.mark.parametrize("missing", range(5))
def test_each_event_that_no_portal_handled_is_found(missing: int) -> None:
    sent = (1.1, 1.1, 2.0, 3.0, 20.0)[missing]
    assert judged_events(HANDLED[:missing] + HANDLED[missing + 1 :]) == [("events lost", sent)]


def test_a_connection_of_which_nothing_was_handled_has_lost_all() -> None:
    assert judged_events([]) == [("events lost", time) for time in (1.1, 1.1, 20.0, 2.0, 3.0)]


@pytest.mark.parametrize("number", range(5))
def test_an_event_that_was_handled_twice_is_found(number: int) -> None:
    again = [30.0, *HANDLED[number][1:]]
    assert judged_events([*HANDLED, again]) == [("events doubled", 30.0)]


def test_events_out_of_order_are_found() -> None:
    messages = [*HANDLED[:2], HANDLED[3], handled(3.2, "message", 0), HANDLED[4]]
    assert judged_events(messages) == [("events out of order", 3.2)]
    beginning = [HANDLED[1], handled(1.4, "connection"), *HANDLED[2:]]
    assert judged_events(beginning) == [("events out of order", 1.4)]
    end = [*HANDLED[:3], HANDLED[4], handled(20.2, "message", 1)]
    assert judged_events(end) == [("events out of order", 20.2)]


def test_a_disconnection_of_a_connection_that_lives_is_found() -> None:
    false = [*HANDLED[:3], handled(2.5, "disconnection"), handled(3.0, "connection"), *HANDLED[3:]]
    assert judged_events(false) == [("false disconnection", 2.5)]


def test_a_connection_that_is_known_to_portals_alone_has_no_end() -> None:
    stranger = handled(5.0, "disconnection", connection="connection-2")
    assert judged_events([*HANDLED, stranger]) == [("false disconnection", 5.0)]


def test_calls_are_what_was_meant_and_confirmed() -> None:
    assert calls_of([meant(1.0, 0), meant(1.5, 0, "b"), confirmed(2.0, 0, 1), meant(2.5, 1)]) == [
        *(Call("a", 1.0, 2.0), Call("b", 1.5, inf), Call("a", 2.5, inf)),
    ]


def test_the_longest_call_of_a_failover_is_its_outage() -> None:
    calls = [Call("a", 9.9, 14.0), Call("a", 14.1, 14.2), Call("b", 31.5, 33.0)]
    assert outages(calls, TWO) == [Outage(4.1, 1.0), Outage(1.5, 1.5)]


def test_a_call_that_never_succeeds_lasts_for_ever() -> None:
    assert outages([Call("a", 11.0, inf)], TWO) == [Outage(inf, inf), Outage()]


def report(
    *findings: Finding,
    beyond: tuple[float, float] = (0.0, 0.0),
    permitted: frozenset[Fault] = PERMITTED,
) -> Report:
    dispatches, logins = ([Outage(5.0, each), Outage()] for each in beyond)
    return Report.of("a run", TWO, dispatches, logins, Counter({0: 7}), findings, permitted, Path("logs"))


def test_a_run_without_faults_has_kept_every_promise() -> None:
    assert report().broken == []
    assert "every promise was kept" in str(report())


@pytest.mark.parametrize(
    "fault",
    [
        *("untold", "out of order", "doubled untold", "strange", "false offline", "cut"),
        *("events out of order", "false disconnection"),
    ],
)
@pytest.mark.parametrize("permitted", [PERMITTED, PERMITTED_REPLICATED])
def test_a_fault_stands_in_its_row_and_breaks_a_promise(fault: Fault, permitted: frozenset[Fault]) -> None:
    found = report(Finding(fault, 31.0, "somewhere"), permitted=permitted)
    assert found.broken == [f"2: 1 {fault}"]
    assert f"{fault}: 31.000 somewhere" in str(found)


@pytest.mark.parametrize("fault", ["lost", "doubled", "events lost", "events doubled"])
def test_what_a_failover_may_do_without_replicas_is_only_counted(fault: Fault) -> None:
    found = report(Finding(fault, 31.0, "somewhere"))
    assert found.broken == []
    assert found.rows[1].found == {fault: 1}


@pytest.mark.parametrize("fault", ["lost", "events lost"])
def test_nothing_is_lost_that_waited_for_replicas(fault: Fault) -> None:
    found = report(Finding(fault, 12.0, "somewhere"), permitted=PERMITTED_REPLICATED)
    assert found.broken == [f"1: 1 {fault}"]


def test_an_outage_is_compared_with_what_sentinel_took() -> None:
    assert report(beyond=(4.0, 4.0)).broken == []
    assert report(beyond=(4.1, 0.0)).broken == ["1: 4.1 s without dispatch beyond Sentinel's time"]
    assert report(beyond=(0.0, inf)).broken == ["1: inf s without login beyond Sentinel's time"]
