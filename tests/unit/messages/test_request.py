"""Requests on their way through a cluster, and why they are not answered."""

import pytest

from mesa_ws.backend.http.routes import REQUEST as REQUEST_ROUTE
from mesa_ws.backend.http.routes import RequestBody
from mesa_ws.errors import (
    ConnectionClosed,
    InvalidMessage,
    InvalidRecipients,
    InvalidSettings,
    MesaError,
    NotConnected,
    RequestError,
    RequestFailed,
    TooManyRequests,
    Unanswered,
    Unsupported,
)
from mesa_ws.messages.message import Message
from mesa_ws.messages.receipt import Delivery, Receipt
from mesa_ws.messages.request import (
    ABSENT,
    BUSY,
    FAILED,
    GONE,
    MISSES,
    UNANSWERED,
    WIRE1,
    Failure,
    Question,
    Reply,
    Tally,
    addressed,
    asked_nodes,
    check_timeout,
    prepare_request,
    read_answer,
)

REQUEST = prepare_request("0", Message(0, 1, "PING"))
ANSWER = Reply("id", b"answer")


def miss(failure: Failure) -> Reply:
    return Reply.failed("id", failure)


def test_a_request_names_one_id_and_is_never_stored() -> None:
    assert REQUEST.kind == "request"
    assert REQUEST.recipients.ids == ("0",)
    assert (REQUEST.retention, REQUEST.remember) == (None, 0.0)
    assert REQUEST.message_id != prepare_request("0", Message()).message_id


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(InvalidRecipients):
        prepare_request("*", Message())
    with pytest.raises(InvalidMessage):
        prepare_request("0", Message(10))


def test_nodes_are_told_where_replies_go() -> None:
    question = Question.read(addressed(REQUEST, "asker", 2.5).body)
    assert question == Question("asker", 2.5, b'{"op":0,"d":1,"t":"PING"}')


@pytest.mark.parametrize("body", [b"", b"{}", Question("x", 0.0, b"").write(), b"\x93\xa1\xff\x01\xc4\x00"])
def test_what_is_no_question_is_not_read_as_one(body: bytes) -> None:
    assert Question.read(body) is None


@pytest.mark.parametrize("reply", [ANSWER, miss(Failure("no_room", "why"))])
def test_a_reply_is_read_as_it_was_written(reply: Reply) -> None:
    assert Reply.read(reply.write()) == reply


@pytest.mark.parametrize("payload", [b"", b"{}", b"\x92\xa1\xff\xc0"])
def test_what_is_no_reply_is_not_read_as_one(payload: bytes) -> None:
    assert Reply.read(payload) is None


def test_an_answer_is_a_message() -> None:
    assert read_answer(b'{"op":99,"d":1,"t":"T","x":{"a":"1"}}') == Message(99, 1, "T")


@pytest.mark.parametrize("body", [b"5", b"", b'{"d":%s}' % (b"[" * 100_000 + b"]" * 100_000)])
def test_an_answer_that_cannot_be_read_is_an_error_of_ours(body: bytes) -> None:
    with pytest.raises(RequestFailed, match="cannot be read") as raised:
        read_answer(body)
    assert raised.value.code == "failed"


def test_an_answer_settles_a_request_at_once() -> None:
    tally = Tally()
    tally.take(miss(GONE))
    tally.take(ANSWER)
    tally.take(Reply("id", b"another"))
    assert tally.outcome == ANSWER
    assert ANSWER.result() == b"answer"


@pytest.mark.parametrize("failure", [FAILED, Failure("no_room")])
def test_so_does_an_error_that_is_an_answer(failure: Failure) -> None:
    tally = Tally()
    tally.expect(2)
    tally.take(miss(failure))
    assert tally.outcome == miss(failure)


@pytest.mark.parametrize("expected_first", [True, False])
def test_when_nobody_is_left_the_most_telling_miss_counts(expected_first: bool) -> None:
    tally = Tally()
    if expected_first:
        tally.expect(3)
    for failure in (ABSENT, UNANSWERED, GONE):
        assert tally.outcome is None
        tally.take(miss(failure))
    tally.expect(3)
    assert tally.outcome == miss(UNANSWERED)


def test_nobody_is_asked_where_nobody_is() -> None:
    here, away = {"0": Delivery(False, 2, None)}, {"0": Delivery(False, 0, "offline")}
    assert asked_nodes(REQUEST, Receipt("id", here, 1)) == 1
    for receipt in (Receipt("id", away, 0), Receipt("id", away, 1)):
        with pytest.raises(NotConnected):
            asked_nodes(REQUEST, receipt)


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (UNANSWERED, Unanswered),
        (FAILED, RequestFailed),
        (BUSY, TooManyRequests),
        (GONE, ConnectionClosed),
        (WIRE1, Unsupported),
        (ABSENT, NotConnected),
        (Failure("no_room", "why"), RequestFailed),
    ],
)
def test_a_failure_is_an_error_where_it_is_waited_for(failure: Failure, error: type[MesaError]) -> None:
    with pytest.raises(error) as raised:
        miss(failure).result()
    assert type(raised.value) is error


def test_a_miss_is_no_answer() -> None:
    assert {failure.code for failure in (UNANSWERED, BUSY, GONE, WIRE1, ABSENT)} == set(MISSES)
    assert not miss(FAILED).is_miss
    assert miss(BUSY).is_miss


def test_only_a_deliberate_error_is_told() -> None:
    assert Failure.of(ValueError("secret")) == FAILED
    assert Failure.of(RequestError("no such room", "no_room")) == Failure("no_room", "no such room")
    assert Failure.of(RequestError("\ud800" * 2000)) == Failure("refused", "?" * 1000)


@pytest.mark.parametrize(
    ("told", "failure"),
    [
        ({"code": "no_room", "message": "why"}, Failure("no_room", "why")),
        ({"code": "busy"}, BUSY),
        ({"code": "gone", "message": "why"}, Failure("failed", "why")),
        ({"code": "no room"}, Failure("failed")),
        ({"code": 1, "message": 1}, Failure("failed")),
        ({"code": "x", "message": "m" * 2000}, Failure("x", "m" * 1000)),
        ({}, Failure("failed")),
        ("why", Failure("failed")),
    ],
)
def test_what_a_peer_says_of_an_error_is_checked(told: object, failure: Failure) -> None:
    assert Failure.read(told) == failure


@pytest.mark.parametrize("timeout", [1, 0.5, 86_400])
def test_a_timeout_is_a_number_of_seconds(timeout: float) -> None:
    assert check_timeout(timeout) == timeout


@pytest.mark.parametrize("timeout", [0, -1, True, "1", None, float("nan"), float("inf"), 86_401])
def test_another_timeout_is_refused(timeout: object) -> None:
    with pytest.raises(InvalidSettings, match="timeout: expected a number of seconds"):
        check_timeout(timeout)


def test_a_request_crosses_http_as_it_is() -> None:
    question = REQUEST_ROUTE.decode_body(REQUEST_ROUTE.encode_body(RequestBody.of(REQUEST, 2.5, "api")))
    request, timeout = question.prepared()
    assert (request.recipients, request.body, timeout) == (REQUEST.recipients, REQUEST.body, 2.5)
    assert question.namespace == "api"
    assert REQUEST_ROUTE.decode_answer(REQUEST_ROUTE.encode_answer(b'{"op":0,"d":1}')) == b'{"op":0,"d":1}'


@pytest.mark.parametrize("body", [b"", b"{}", b'{"answers":1}', b"\xff", b"[" * 100_000])
def test_what_is_no_answer_is_not_read_as_one(body: bytes) -> None:
    assert REQUEST_ROUTE.decode_answer(body) is None


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "body: expected an object with id and message"),
        (b'{"message":{}}', "body: expected an object with id"),
        (b'{"id":"0"}', "message: expected an object"),
        (b'{"id":"0","message":{"op":5,"t":"DISCONNECT_CLIENT"}}', "an event, which has no answer"),
        (b'{"id":"*","message":{}}', "expected an id"),
        (b'{"id":"0","message":{},"timeout":"1"}', "timeout: expected"),
    ],
)
def test_what_is_no_request_is_refused(body: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match="expected") as raised:
        REQUEST_ROUTE.decode_body(body).prepared()
    assert problem in str(raised.value)
