"""Payloads of `ws`, as 1.x writes them."""

import pytest

from mesa_ws.backend.mesa1.payloads import InvalidPayload, message_json, read_payload, to_everybody
from mesa_ws.messages.envelope import prepare
from mesa_ws.messages.message import DispatchEvent, Message, reserved_opcodes


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (Message(0, {"s": "é"}, "T"), '{"op":0,"d":{"s":"é"},"t":"T"}'),
        (Message(0, {}, "T", sync=False), '{"op":0,"d":{},"t":"T","o":{"sync":false}}'),
        (Message(0, {}, "T", sync=True), '{"op":0,"d":{},"t":"T","o":{"sync":true}}'),
        (Message(7, {}), '{"op":7,"d":{}}'),
        (DispatchEvent("DISCONNECT_CLIENT"), '{"op":5,"d":{},"t":"DISCONNECT_CLIENT"}'),
    ],
)
def test_a_message_is_written_as_1x_does(message: Message | DispatchEvent, text: str) -> None:
    envelope = prepare(message, ["1"], reserved=reserved_opcodes("mesa1"))
    assert message_json(envelope).decode() == text


def test_exclusions_from_everybody_are_a_member_that_1x_does_not_know() -> None:
    assert to_everybody(b"{}", ["b", "a"]) == b'{"message":{},"recipients":["*"],"excluding":["a","b"]}'
    assert to_everybody(b"{}") == b'{"message":{},"recipients":["*"]}'


@pytest.mark.parametrize(
    ("message", "frame"),
    [
        ('{"op":0,"d":{"n":1},"t":"T","o":{"sync":true}}', '{"op":0,"d":{"n":1},"t":"T"}'),
        ('{"op":0,"d":{"n":1.0},"s":4}', '{"op":0,"d":{"n":1.0}}'),
        ('{"op":7,"t":null}', '{"op":7,"t":null}'),
        ("{}", '{"op":0}'),
    ],
)
def test_clients_get_neither_options_nor_numbers(message: str, frame: str) -> None:
    envelope = read_payload(f'{{"message":{message},"recipients":["1"]}}'.encode())
    assert envelope is not None
    assert (envelope.body.decode(), envelope.kind) == (frame, "message")


def recipients(given: str) -> tuple[bool, tuple[str, ...]]:
    envelope = read_payload(f'{{"message":{{"op":0}},"recipients":{given}}}'.encode())
    assert envelope is not None
    return envelope.recipients.everybody, envelope.recipients.ids


def test_ids_may_be_numbers_and_what_names_nobody_is_passed_over() -> None:
    assert recipients('[7, "a", null, true, 7.0, {}, "", "a", 1.5]') == (False, ("7", "a", "1.5"))
    assert recipients('["a", "*"]') == (True, ())


def test_our_exclusions_are_read_again() -> None:
    envelope = read_payload(b'{"message":{"op":0},"recipients":["*"],"excluding":["a",7]}')
    assert envelope is not None
    assert envelope.recipients.excluding == {"a", "7"}


def test_an_event_is_to_disconnect_or_is_nothing() -> None:
    envelope = read_payload(b'{"message":{"op":5,"d":{},"t":"DISCONNECT_CLIENT"},"recipients":["1"]}')
    assert envelope is not None
    assert envelope.kind == "disconnect"
    assert read_payload(b'{"message":{"op":5,"d":{},"t":"OTHER"},"recipients":["1"]}') is None


def test_a_message_to_nobody_is_nothing() -> None:
    assert read_payload(b'{"message":{"op":0},"recipients":[]}') is None


@pytest.mark.parametrize(
    "payload",
    [
        "null", "{}", '"x"', "garbage", "\udcff", '{"message":null,"recipients":["*"]}',
        '{"message":{},"recipients":null}', '{"message":{"op":-1},"recipients":["*"]}',
        '{"message":{"op":"0"},"recipients":["*"]}', "[" * 5000,
        '{"message":{"op":0,"d":"\udcff"},"recipients":["*"]}',
    ],
)  # fmt: skip
def test_what_kills_1x_is_an_error_that_shows_nothing_of_it(payload: str) -> None:
    with pytest.raises(InvalidPayload) as error:
        read_payload(payload.encode(errors="surrogateescape"))
    assert payload not in str(error.value)
