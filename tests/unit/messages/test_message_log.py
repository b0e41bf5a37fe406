"""Messages in the log: by type and id, and never what they hold."""

import logging

import pytest

from mesa_ws.messages.envelope import Envelope, prepare
from mesa_ws.messages.frames import encode_frame
from mesa_ws.messages.message import DispatchEvent, Message
from mesa_ws.messages.message_log import log_announcement, log_delivery, log_dispatches, log_page, named
from mesa_ws.messages.receipt import Delivery, Receipt

log = logging.getLogger("mesa_ws.test")


@pytest.fixture(autouse=True)
def debugging(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mesa_ws.test")


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (encode_frame(0, {"t": "x"}, "NEWS"), "'NEWS'"),
        (encode_frame(7), "op 7"),
        (encode_frame(0, 1, "a\nb"), "'a\\nb'"),
        (encode_frame(0, 1, "x" * 500), f"'{'x' * 100}...'"),
        (b"\xff", "a message"),
        (b"[" * 100_000, "a message"),
    ],
)
def test_a_message_is_named_by_its_type(body: bytes, name: str) -> None:
    assert named(body) == name


def test_a_dispatch_is_logged_with_ids_and_outcome(caplog: pytest.LogCaptureFixture) -> None:
    envelope = prepare(Message(0, {"password": "SECRET"}, "NEWS"), ["0", "1"])
    receipt = Receipt(envelope.message_id, {"0": Delivery(True, 2, None), "1": Delivery(True, 0, None)}, 1)
    log_dispatches(log, [envelope], [receipt])
    assert caplog.messages == [
        f"dispatch {envelope.message_id}: 'NEWS' to '0', '1'; 2 connections on 1 servers, stored for 2 ids"
    ]


@pytest.mark.parametrize(
    ("envelope", "text"),
    [
        (prepare(Message(0, 1, "N"), ["*"], ["7"]), "'N' to everybody but 1 ids; 3 connections here"),
        (prepare(Message(4), ["*"]), "op 4 to everybody; 3 connections here"),
        (prepare(DispatchEvent("DISCONNECT_CLIENT"), ["7"]), "a disconnection to '7'; 3 connections here"),
        (
            prepare(Message(0, 1, "N"), [str(n) for n in range(12)]),
            "'N' to '0', '1', '2', '3', '4', '5', '6', '7', '8', '9' and 2 more; 3 connections here",
        ),
    ],
)
def test_a_delivery_is_logged_with_whom_it_is_for(
    caplog: pytest.LogCaptureFixture, envelope: Envelope, text: str
) -> None:
    log_delivery(log, envelope, 3)
    assert caplog.messages == [f"delivery {envelope.message_id}: {text}"]


def test_what_was_read_from_the_backend_is_counted_by_type(caplog: pytest.LogCaptureFixture) -> None:
    log_page(log, "anna", [encode_frame(0, n, type) for n, type in enumerate(["A", "B", "A"])])
    assert caplog.messages == ["delivery from the backend to 'anna': 2 of 'A', 1 of 'B'"]


def test_an_empty_page_is_no_delivery(caplog: pytest.LogCaptureFixture) -> None:
    log_page(log, "anna", [])
    assert caplog.messages == []


def test_what_is_stored_for_everybody_is_logged_where_it_is_handed_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log_announcement(log, "m1", encode_frame(0, 1, "NEWS"), 3)
    assert caplog.messages == ["delivery m1: 'NEWS' to everybody; 3 connections here"]
