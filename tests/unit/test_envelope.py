"""What nodes and dispatchers exchange."""

import pytest

from mesa_ws.envelope import Delivery, Receipt, new_message_id, prepare
from mesa_ws.errors import InvalidMessage, InvalidRecipients
from mesa_ws.message import DispatchEvent, Message
from mesa_ws.recipients import Recipients

DISCONNECT = DispatchEvent("DISCONNECT_CLIENT")


def test_a_message_is_encoded_once_for_all_recipients() -> None:
    envelope = prepare(Message(0, {"n": 1}, "T"), ["1", "2"], ["2"])
    assert envelope[:3] == (Recipients.of(["1"]), b'{"op":0,"d":{"n":1},"t":"T"}', "message")


def test_a_message_without_recipients_is_for_everybody() -> None:
    assert prepare(Message()).recipients.everybody


def test_an_event_has_no_body() -> None:
    assert prepare(DISCONNECT, ["1"])[:3] == (Recipients.of(["1"]), b"", "disconnect")


def test_an_event_needs_its_recipients_said() -> None:
    with pytest.raises(InvalidRecipients) as caught:
        prepare(DISCONNECT)
    assert str(caught.value) == (
        "recipients: DISCONNECT_CLIENT needs them, got none; name ids, or write ['*'] to mean everybody"
    )


@pytest.mark.parametrize("everybody", ["*", ["*"], ("*", "1")])
def test_an_event_may_be_for_everybody_if_that_is_said(everybody: list[str]) -> None:
    assert prepare(DISCONNECT, everybody, ["1"]).recipients == (True, (), frozenset({"1"}))


def test_what_is_no_message_is_refused() -> None:
    with pytest.raises(InvalidMessage):
        prepare("hello", ["1"])  # type: ignore[arg-type]


def test_every_dispatch_has_a_name_of_its_own() -> None:
    assert new_message_id() != new_message_id()


def test_a_name_is_32_hexadecimal_digits() -> None:
    name = new_message_id()
    assert (len(name), name) == (32, f"{int(name, 16):032x}")


def test_a_receipt_says_for_each_id_where_its_message_went() -> None:
    receipt = Receipt.of("m", {"away": 0, "one": 1, "many": 3}, 2)
    assert receipt == (
        "m",
        {
            "away": Delivery(stored=False, online=0, dropped="offline"),
            "one": Delivery(stored=False, online=1, dropped=None),
            "many": Delivery(stored=False, online=3, dropped=None),
        },
        2,
    )
