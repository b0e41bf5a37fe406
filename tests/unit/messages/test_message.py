"""What users send."""

from dataclasses import FrozenInstanceError
from enum import IntEnum
from typing import Any

import pytest

from mesa_ws.errors import InvalidMessage
from mesa_ws.messages.message import DISCONNECT_CLIENT, MAX_OPCODE, PROTOCOL_OPCODES, DispatchEvent, Message


class Kind(IntEnum):
    CHAT = 40


def test_messages_with_the_same_content_are_equal() -> None:
    assert Message(0, {"n": [1]}, "T") == Message(0, {"n": [1]}, "T")


@pytest.mark.parametrize("other", [Message(1, 1, "T"), Message(0, 2, "T"), Message(0, 1, "U")])
def test_messages_with_another_content_differ(other: Message) -> None:
    assert Message(0, 1, "T") != other


def test_where_a_message_stood_in_an_outbox_is_no_part_of_its_content() -> None:
    assert Message(0, 1, sequence=5) == Message(0, 1)


def test_whether_a_message_may_be_stored_is_part_of_its_content() -> None:
    assert Message(0, 1, sync=False) != Message(0, 1)


def test_the_repr_shows_the_content() -> None:
    assert repr(Message(0, {"n": 1}, "T")) == "Message(opcode=0, data={'n': 1}, type='T')"


def test_a_message_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Message().opcode = 1  # type: ignore[misc]


def test_an_applications_own_enumeration_is_an_opcode() -> None:
    assert Message(Kind.CHAT).opcode == 40


@pytest.mark.parametrize("opcode", [-1, MAX_OPCODE + 1, 1.0, "0", None, True])
def test_what_is_no_opcode_is_refused(opcode: Any) -> None:
    with pytest.raises(InvalidMessage) as caught:
        Message(opcode)
    assert str(caught.value) == (
        f"opcode: expected an integer from 0 to 2147483647, got {opcode!r}; "
        "the order of arguments is Message(opcode, data, type)"
    )


def test_a_type_is_text() -> None:
    with pytest.raises(InvalidMessage, match=r"^type: expected a string or None, got 5$"):
        Message(0, {}, 5)  # type: ignore[arg-type]


def test_sync_is_true_false_or_not_said() -> None:
    with pytest.raises(InvalidMessage, match=r"^sync: expected True, False or None, got 1$"):
        Message(sync=1)  # type: ignore[arg-type]


def test_the_opcodes_of_the_protocol_and_of_wire_2_are_reserved() -> None:
    assert {1, 2, 3, 5, 7, 9, 10, 11, 22} == PROTOCOL_OPCODES


def test_the_only_event_disconnects_clients() -> None:
    assert DispatchEvent("DISCONNECT_CLIENT").type == DISCONNECT_CLIENT


@pytest.mark.parametrize("type", ["DISCONNECT", "", None, 5])
def test_another_event_is_refused(type: Any) -> None:
    with pytest.raises(InvalidMessage) as caught:
        DispatchEvent(type)
    assert str(caught.value) == f"event: expected 'DISCONNECT_CLIENT', got {type!r}"
