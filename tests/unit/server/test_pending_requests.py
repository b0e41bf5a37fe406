"""Requests of one connection that wait for their answers."""

from mesa_ws.messages.request import BUSY, GONE, Failure
from mesa_ws.server.pending_requests import PendingRequests


def test_each_request_ends_once_and_the_first_and_the_last_are_reported() -> None:
    changes: list[int] = []
    answers: list[tuple[str, str | Failure]] = []
    pending = PendingRequests[str](2, lambda: changes.append(len(pending)))

    def add(request: str) -> Failure | None:
        return pending.add(request, lambda answer: answers.append((request, answer)))

    pending.answered("unknown", "ignored")
    assert [add("a"), add("b"), add("c")] == [None, None, BUSY]
    assert changes == [1]
    pending.answered("a", "first")
    pending.answered("a", "second")
    assert (answers, changes) == ([("a", "first")], [1])
    pending.withdraw("b")
    pending.withdraw("b")
    pending.answered("b", "too late")
    assert (answers, changes) == ([("a", "first")], [1, 0])


def test_requests_of_a_connection_that_has_ended_fail() -> None:
    answers: list[str | Failure] = []
    pending = PendingRequests[str](2)
    for request in "ab":
        pending.add(request, answers.append)
    pending.close()
    assert (answers, len(pending)) == ([GONE, GONE], 0)
    pending.answered("a", "too late")
    pending.close()
    assert answers == [GONE, GONE]
