"""The report of the demo: what each client received, and what it should have received."""

from collections.abc import Sequence

import pytest

from mesa_ws.cli.demo import DISPATCHES, Arrival, DemoReport, show
from mesa_ws.cli.demo_servers import DemoFailed, DispatchRun

STATUS, NEWS, ALERT = (Arrival(planned.type, planned.data, 100.0015) for planned in DISPATCHES)
RIGHT = {"0": [STATUS, NEWS, ALERT], "1": [STATUS, ALERT], "2": [NEWS, ALERT]}


def report(**differing: Sequence[Arrival]) -> DemoReport:
    runs = [DispatchRun(pid, 100.0) for pid in (11, 12, 13)]
    received = {**RIGHT, **{name.removeprefix("client_"): arrivals for name, arrivals in differing.items()}}
    return DemoReport(runs, received, {"0": "ws://a", "1": "ws://b", "2": "ws://a"})


def test_there_is_no_problem_if_each_client_received_the_messages_for_it() -> None:
    assert report().problems == []


@pytest.mark.parametrize(
    ("arrivals", "problem"),
    [
        ([STATUS], 'client 1: expected GLOBAL_ALERT {"alert":true}, got none'),
        ([STATUS, NEWS, ALERT], 'client 1: expected no NEW_MESSAGE {"content":"hi"}, got one'),
        ([STATUS, ALERT, ALERT], 'client 1: expected GLOBAL_ALERT {"alert":true} once, got it 2 times'),
        ([ALERT, STATUS], "client 1: expected the order of dispatch, got GLOBAL_ALERT, STATUS_UPDATE"),
        ([STATUS, ALERT, Arrival(None, 5, 1.0)], "client 1: expected no - 5, got one"),
    ],
)
def test_each_difference_is_reported(arrivals: list[Arrival], problem: str) -> None:
    assert report(client_1=arrivals).problems == [problem]


def test_changed_data_is_reported() -> None:
    changed = Arrival(ALERT.type, {"alert": False}, 1.0)
    assert report(client_1=[STATUS, changed]).problems == [
        'client 1: expected GLOBAL_ALERT {"alert":true}, got none',
        'client 1: expected no GLOBAL_ALERT {"alert":false}, got one',
    ]


def test_the_table_shows_who_received_what_and_when(capsys: pytest.CaptureFixture[str]) -> None:
    report().print()
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in capsys.readouterr().out.splitlines()
        if "│" in line
    ]
    assert rows == [
        ['STATUS_UPDATE {"status":"online"}', '["0", "1"]', "11", "1.5", "1.5", "-"],
        ['NEW_MESSAGE {"content":"hi"}', "everybody but 1", "12", "1.5", "-", "1.5"],
        ['GLOBAL_ALERT {"alert":true}', '["*"]', "13", "1.5", "1.5", "1.5"],
    ]


def test_as_json_it_says_whether_there_is_a_problem() -> None:
    document = report(client_1=[STATUS]).document
    assert document["ok"] is False
    assert document["dispatches"][2]["received_after_ms"] == {"0": 1.5, "2": 1.5}


def test_the_demo_fails_with_everything_that_differs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DemoFailed) as caught:
        show(report(client_1=[ALERT], client_2=[NEWS, ALERT, STATUS]), None, as_json=False)
    assert str(caught.value) == (
        "the outcome differs from the expected one: "
        'client 1: expected STATUS_UPDATE {"status":"online"}, got none; '
        'client 2: expected no STATUS_UPDATE {"status":"online"}, got one'
    )
    assert "ok" not in capsys.readouterr().out


def test_over_redis_the_servers_are_shown_and_the_password_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    show(report(), "redis://:geheim@localhost:6379", as_json=False)
    first = capsys.readouterr().out.splitlines()[0]
    assert first == (
        "2 replicas on redis at localhost:6379: client 0 at ws://a, client 1 at ws://b, client 2 at ws://a."
    )
