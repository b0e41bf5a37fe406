"""The tree of errors, and what they say."""

import pickle

import pytest

from mesa_ws.errors import (
    AuthenticationFailed,
    BackendUnavailable,
    ConnectionClosed,
    InvalidInput,
    InvalidSettings,
    MesaError,
    Refused,
    Reject,
    RequestError,
    RequestFailed,
    TimedOut,
    Unanswered,
)


def test_wrong_input_is_also_a_value_error() -> None:
    assert issubclass(InvalidInput, ValueError)


def test_a_peer_that_does_not_answer_is_also_a_timeout_error() -> None:
    assert issubclass(TimedOut, TimeoutError)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (InvalidSettings("a.b", "a number", "x"), "a.b: expected a number, got 'x'"),
        (BackendUnavailable("no answer"), "no answer; nothing was sent"),
        (BackendUnavailable("no answer", maybe_sent=True), "no answer; the message may have been sent"),
        (Refused(), "authentication refused"),
        (Refused("banned"), "banned"),
        (AuthenticationFailed(1008), "authentication refused by the server (close code 1008)"),
        (AuthenticationFailed(4003, "no"), "authentication refused by the server (close code 4003: no)"),
        (ConnectionClosed(), "the connection is closed (close code 1006)"),
        (ConnectionClosed(4000, "slow"), "the connection is closed (close code 4000: slow)"),
        (ConnectionClosed(1009, "", "too big"), "the connection is closed (close code 1009: too big)"),
        (ConnectionClosed(1009, "no", "too big"), "the connection is closed (close code 1009: no)"),
        (RequestError("no such room"), "no such room (refused)"),
        (Reject("no number"), "no number (rejected)"),
        (RequestFailed("no_room", "none"), "the request was answered with the error 'no_room': none"),
        (Unanswered(), "the request was answered with the error 'unanswered'"),
    ],
)
def test_an_error_says_what_happened(error: MesaError, text: str) -> None:
    assert str(error) == text


@pytest.mark.parametrize(
    "error",
    [
        InvalidSettings("a.b", "a number", "x"),
        BackendUnavailable("no answer", maybe_sent=True),
        Refused("banned"),
        AuthenticationFailed(4003, "no"),
        ConnectionClosed(4000, "slow", "why"),
        RequestError("no such room", "no_room"),
        Reject("no number", "bad_number"),
        RequestFailed("no_room", "no such room"),
        Unanswered(text="why"),
    ],
)
def test_an_error_crosses_processes_with_its_fields(error: MesaError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), vars(copy)) == (str(error), vars(error))


@pytest.mark.parametrize("code", ["", "with space", "x" * 65, "é", None, "failed", "unanswered", "gone"])
def test_a_deliberate_error_has_a_code_of_its_own(code: str) -> None:
    with pytest.raises(InvalidInput, match="code: expected 1 to 64 visible ASCII characters"):
        RequestError("why", code)
    with pytest.raises(InvalidInput, match="code: expected 1 to 64 visible ASCII characters"):
        Reject("why", code)


def test_a_rejection_answers_a_request_wherever_a_deliberate_error_does() -> None:
    assert issubclass(Reject, RequestError)
