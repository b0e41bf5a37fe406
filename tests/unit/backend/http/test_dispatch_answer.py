"""The answers of the dispatch API."""

import json

import pytest

from mesa_ws.backend.http.problems import (
    INTERNAL_ERROR,
    Problem,
    decode_problem,
    encode_problem,
    error_of,
    problem_of,
)
from mesa_ws.backend.http.routes import DISPATCH
from mesa_ws.errors import (
    BackendRefused,
    BackendUnavailable,
    ConnectionClosed,
    InvalidInput,
    InvalidMessage,
    InvalidRecipients,
    MesaError,
    NotConnected,
    QueueFull,
    RequestFailed,
    TimedOut,
    TooManyRequests,
    Unanswered,
    Unsupported,
)
from mesa_ws.messages.receipt import Delivery, Position, Receipt

STORED = Delivery(True, 0, None, Position("e", 7), displaced=1)
RECEIPT = Receipt("ab", {"0": Delivery(False, 2, None), "é": Delivery(False, 0, "offline"), "1": STORED}, 1)


def test_receipts_have_the_documented_form() -> None:
    nowhere = {"position": None, "displaced": 0}
    deliveries = {
        "0": {"stored": False, "online": 2, "dropped": None} | nowhere,
        "é": {"stored": False, "online": 0, "dropped": "offline"} | nowhere,
        "1": {"stored": True, "online": 0, "dropped": None, "position": ["e", 7], "displaced": 1},
    }
    assert json.loads(DISPATCH.encode_answer([RECEIPT])) == {
        "receipts": [{"message_id": "ab", "deliveries": deliveries, "nodes": 1}]
    }


def test_receipts_are_read_as_they_were_written() -> None:
    receipts = [RECEIPT, Receipt("cd", {}, 3)]
    assert DISPATCH.decode_answer(DISPATCH.encode_answer(receipts)) == receipts


def test_receipts_of_servers_that_store_nothing_are_read() -> None:
    delivery = b'{"stored":false,"online":1,"dropped":null}'
    body = b'{"receipts":[{"message_id":"ab","deliveries":{"0":%s},"nodes":1}]}' % delivery
    assert DISPATCH.decode_answer(body) == [Receipt("ab", {"0": Delivery(False, 1, None)}, 1)]


def test_members_of_later_versions_are_passed_over() -> None:
    answer = json.loads(DISPATCH.encode_answer([RECEIPT]))
    answer["more"] = answer["receipts"][0]["more"] = answer["receipts"][0]["deliveries"]["0"]["more"] = 1
    assert DISPATCH.decode_answer(json.dumps(answer).encode()) == [RECEIPT]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{}",
        b'{"receipts":{}}',
        b'{"receipts":[{"nodes":1}]}',
        b'{"a":"\xff"}',
        b"[" * 100_000,
    ],
)
def test_what_is_not_receipts_is_not_read_as_such(body: bytes) -> None:
    assert DISPATCH.decode_answer(body) is None


@pytest.mark.parametrize(
    ("error", "status", "problem"),
    [
        (InvalidMessage("why"), 400, Problem("invalid_message", "why")),
        (InvalidRecipients("why"), 400, Problem("invalid_recipients", "why")),
        (InvalidInput("why"), 400, Problem("invalid_request", "why")),
        (NotConnected("why"), 409, Problem("not_connected", "why")),
        (TooManyRequests("why"), 429, Problem("too_many_requests", "why")),
        (Unsupported("why"), 501, Problem("unsupported", "why")),
        (Unanswered("unanswered", "why"), 502, Problem("unanswered", "why", True, "unanswered")),
        (RequestFailed("no_room", "why"), 502, Problem("request_failed", "why", True, "no_room")),
        (ConnectionClosed(1006, "", "why"), 502, Problem("connection_closed", "why", True)),
        (TimedOut("why"), 504, Problem("timed_out", "why", True)),
        (BackendRefused("why"), 502, Problem("backend_refused", "why")),
        (BackendUnavailable("why"), 503, Problem("backend_unavailable", "why")),
        (BackendUnavailable("why", maybe_sent=True), 503, Problem("backend_unavailable", "why", True)),
    ],
)
def test_each_error_has_its_status_and_code(error: MesaError, status: int, problem: Problem) -> None:
    assert problem_of(error) == (status, problem)


def test_an_error_that_is_no_dispatchs_has_no_problem() -> None:
    assert problem_of(QueueFull("why")) is None


def test_what_a_client_sent_is_not_sent_back_at_any_length() -> None:
    told = problem_of(InvalidMessage("x" * 100_000))
    assert told is not None
    assert len(told[1].message) < 1100


@pytest.mark.parametrize(
    "error",
    [
        InvalidMessage("why"),
        InvalidRecipients("why"),
        NotConnected("why"),
        TooManyRequests("why"),
        Unsupported("why"),
        Unanswered("unanswered", "why"),
        RequestFailed("no_room", "why"),
        ConnectionClosed(1006, "", "why"),
        TimedOut("why"),
        BackendRefused("why"),
    ],
)
def test_an_error_reaches_the_other_end_as_itself(error: MesaError) -> None:
    told = problem_of(error)
    assert told is not None
    read = decode_problem(encode_problem(told[1]))
    assert read is not None
    assert (type(error_of(read)), str(error_of(read))) == (type(error), str(error))


def test_a_failure_without_a_code_has_the_general_one() -> None:
    error = error_of(Problem("request_failed", "why"))
    assert isinstance(error, RequestFailed)
    assert error.code == "failed"


@pytest.mark.parametrize("maybe_sent", [True, False])
@pytest.mark.parametrize("code", ["backend_unavailable", INTERNAL_ERROR])
def test_whether_it_may_have_been_sent_reaches_the_other_end(code: str, maybe_sent: bool) -> None:
    error = error_of(Problem(code, "why", maybe_sent))
    assert isinstance(error, BackendUnavailable)
    assert (error.problem, error.maybe_sent) == ("why", maybe_sent)


@pytest.mark.parametrize("code", ["invalid_request", "wrong_namespace", "of a later version"])
def test_a_problem_without_an_error_of_its_own_is_a_refusal(code: str) -> None:
    assert type(error_of(Problem(code, "why"))) is BackendRefused


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"error":"no"}', b"\xff", b"[" * 100_000])
def test_what_is_not_a_problem_is_not_read_as_one(body: bytes) -> None:
    assert decode_problem(body) is None
