"""Frames to bytes and back."""

import json
import math
from collections import ChainMap, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame as WebSocketFrame
from websockets.frames import Opcode
from websockets.streams import StreamReader

from mesa_ws.errors import InvalidMessage
from mesa_ws.messages.frames import (
    HEAD_SIZE,
    Frame,
    InvalidFrame,
    decode_frame,
    decode_raw_frame,
    encode_frame,
    encode_message,
    joined,
    numbered,
)
from mesa_ws.messages.message import MAX_OPCODE, PROTOCOL_OPCODES, Message

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


class Colour(Enum):
    RED = "red"
    PAIR = (1, 2)


class Level(IntEnum):
    HIGH = 3


Mistake = Enum("Mistake", {"KEYS": {None: 1}})


class Kind(StrEnum):
    NEWS = "NEWS"


class Point(msgspec.Struct):
    x: int
    label: str = "p"


@dataclass
class Capacity:
    name: str
    owner: UUID


class Marked(str):
    """Text that says it is itself, as template engines mark text as safe."""

    def __str__(self) -> "Marked":
        return self


class Metres(float):
    pass


class Pages(int):
    pass


class Once(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        return {"a": 1}[key]

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


NIL = UUID(int=0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Point(1), '{"x":1,"label":"p"}'),
        (Capacity("hall", NIL), f'{{"name":"hall","owner":"{NIL}"}}'),
        (datetime(2024, 2, 29, 12, 30, tzinfo=UTC), '"2024-02-29T12:30:00Z"'),
        (datetime(2024, 2, 29, 12, 30), '"2024-02-29T12:30:00"'),
        (date(2024, 2, 29), '"2024-02-29"'),
        (NIL, f'"{NIL}"'),
        (Decimal("1.50"), '"1.50"'),
        (Colour.RED, '"red"'),
        (Colour.PAIR, "[1,2]"),
        (Level.HIGH, "3"),
        (Kind.NEWS, '"NEWS"'),
        ({"a"}, '["a"]'),
        (frozenset({1}), "[1]"),
        ((1, 2), "[1,2]"),
        (b"Mesa", '"TWVzYQ=="'),
        (bytearray(b"Mesa"), '"TWVzYQ=="'),
        (Once(), '{"a":1}'),
        (ChainMap({"a": 1}), '{"a":1}'),
        (OrderedDict(b=1, a=2), '{"b":1,"a":2}'),
        (
            {1: "one", -2: "two", Level.HIGH: "high", Pages(7): "7"},
            '{"1":"one","-2":"two","3":"high","7":"7"}',
        ),
        ({Kind.NEWS: [{10**30: 1}]}, '{"NEWS":[{"1%s":1}]}' % ("0" * 30)),
        (Marked("<b>"), '"<b>"'),
        ({Marked("k"): Marked("v")}, '{"k":"v"}'),
        (Metres(1.5), "1.5"),
        (Pages(7), "7"),
        (math.nan, "null"),
        (math.inf, "null"),
        (-math.inf, "null"),
        (2**63, "9223372036854775808"),
        (10**30, "1" + "0" * 30),
        ("é漢😀\u2028", '"é漢😀\u2028"'),
        ([None, True, False], "[null,true,false]"),
    ],
)
def test_data_is_written_as_a_python_user_expects(value: object, text: str) -> None:
    assert encode_frame(0, value) == b'{"op":0,"d":%s}' % text.encode()


def circular() -> list[object]:
    circle: list[object] = []
    circle.append(circle)
    return circle


def deep() -> list[object]:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    return nested


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            object(),
            "a value of type object: no JSON form for builtins.object; "
            "convert it, for example to a dict or to text",
        ),
        (circular(), "a value of type list: it contains itself, or is nested too deep; flatten it"),
        (deep(), "a value of type list: it contains itself, or is nested too deep; flatten it"),
        (
            ["\ud800"],
            "a value of type list: its text, or the type, holds a lone surrogate; "
            "replace that before sending",
        ),
    ],
)
def test_what_json_cannot_hold_is_refused_with_the_mend(value: object, text: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        encode_frame(0, value)
    assert str(caught.value) == f"data: expected something JSON can hold, got {text}"


@dataclass
class Board:
    scores: dict[object, int]


class Sheet(msgspec.Struct):
    cells: list[object]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({(1, 2): 3}, "data: expected keys that are text or integers, got one of type tuple; write str(key)"),
        ({None: 1}, "data: expected keys that are text or integers, got None; write str(key)"),
        ({True: 1}, "data: expected keys that are text or integers, got True; write str(key)"),
        ({1.5: 1}, "data: expected keys that are text or integers, got one of type float; write str(key)"),
        ({NIL: 1}, "data: expected keys that are text or integers, got one of type UUID; write str(key)"),
        (
            {Colour.RED: 1},
            "data: expected keys that are text or integers, got one of type Colour; write str(key)",
        ),
        (
            {"users": [1, {}, "x", {b"k": 1}]},
            "data.users[3]: expected keys that are text or integers, got one of type bytes; write str(key)",
        ),
        (
            {1: {"a b": ({"c": {None: 1}},)}},
            "data[1]['a b'][0].c: expected keys that are text or integers, got None; write str(key)",
        ),
        (
            ChainMap({"board": Board({None: 1})}),
            "data.board.scores: expected keys that are text or integers, got None; write str(key)",
        ),
        (
            Sheet([0, Once(), {date(2024, 2, 29): 1}]),
            "data.cells[2]: expected keys that are text or integers, got one of type date; write str(key)",
        ),
        (
            [Mistake.KEYS],
            "data[0]: expected keys that are text or integers, got None; write str(key)",
        ),
        (
            {1: "a", "1": "b"},
            "data: expected each key once, got 1 and '1', which are the same text in JSON",
        ),
        (
            {"rooms": [{"x": {"-7": 1, -7: 2}}]},
            "data.rooms[0].x: expected each key once, got '-7' and -7, which are the same text in JSON",
        ),
        (
            {"x" * 200: {None: 1}},
            f"data['{'x' * 40}...']: expected keys that are text or integers, got None; write str(key)",
        ),
        (
            {"a\n\x1b": {None: 1}},
            "data['a\\n\\x1b']: expected keys that are text or integers, got None; write str(key)",
        ),
    ],
)
def test_keys_that_json_cannot_tell_apart_are_refused_with_their_path(value: object, text: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        encode_frame(0, value)
    assert str(caught.value) == text


def test_a_key_of_the_wrong_kind_is_found_inside_data_that_contains_itself() -> None:
    circle: dict[object, object] = {1: object()}
    circle["again"] = circle
    with pytest.raises(InvalidMessage, match=r"no JSON form for builtins\.object"):
        encode_frame(0, circle)


def test_sets_of_values_that_cannot_be_ordered_are_no_matter_of_keys() -> None:
    assert encode_frame(0, {"a": {NIL}}) == b'{"op":0,"d":{"a":["%s"]}}' % str(NIL).encode()
    assert len(encode_frame(0, [{1, "a", None}])) == len(b'{"op":0,"d":[[1,"a",null]]}')


@given(st.dictionaries(st.integers(-3, 3) | st.integers(-3, 3).map(str) | TEXT, NUMBERS))
def test_integers_and_text_are_keys_unless_they_are_the_same_text(data: dict[int | str, Any]) -> None:
    names = [str(key) for key in data]
    if len(set(names)) < len(names):
        with pytest.raises(InvalidMessage, match="expected each key once"):
            encode_frame(0, [data])
    else:
        assert decode_frame(encode_frame(0, [data])).d == [{str(key): data[key] for key in data}]


def test_a_type_with_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="lone surrogate"):
        encode_frame(0, {}, "\udc00")


def test_an_integer_too_long_to_write_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="got a value of type int"):
        encode_frame(0, 10**5000)


def test_data_is_not_repeated_in_errors() -> None:
    with pytest.raises(InvalidMessage) as caught:
        encode_frame(0, {"token": "hush", "x": object()})
    assert "hush" not in str(caught.value)


def test_the_keys_of_a_frame_stand_in_order() -> None:
    assert encode_frame(7, {"b": 1, "a": 2}, "T") == b'{"op":7,"d":{"b":1,"a":2},"t":"T"}'


def test_a_message_is_encoded_without_its_sequence() -> None:
    assert encode_message(Message(0, 1, "T", sequence=5)) == b'{"op":0,"d":1,"t":"T"}'


@pytest.mark.parametrize("opcode", sorted(PROTOCOL_OPCODES))
def test_an_application_cannot_send_an_opcode_of_the_protocol(opcode: int) -> None:
    with pytest.raises(InvalidMessage) as caught:
        encode_message(Message(opcode))
    assert str(caught.value) == (
        f"opcode: expected one that the protocol does not use, got {opcode}; "
        "use 0, or DispatchEvent('DISCONNECT_CLIENT') to disconnect clients"
    )


def test_only_a_message_can_be_encoded_as_one() -> None:
    with pytest.raises(InvalidMessage) as caught:
        encode_message({"op": 0})  # type: ignore[arg-type]
    assert str(caught.value) == (
        "message: expected a Message, got a value of type dict; write Message(0, data, type)"
    )


def test_a_frame_becomes_the_message_it_carries() -> None:
    frame = decode_frame(b'{"op":7,"d":[1],"t":"T","s":3}')
    message = frame.message()
    assert (message, message.sequence) == (Message(7, [1], "T"), 3)


def test_a_frame_without_type_and_sequence_becomes_a_message_without_them() -> None:
    message = decode_frame(b"{}").message()
    assert (message, message.sequence) == (Message(), None)


def test_a_view_of_bytes_can_be_decoded() -> None:
    assert decode_frame(memoryview(b'{"op":3}')) == Frame(3)


@given(st.integers(0, MAX_OPCODE), JSON, st.none() | TEXT)
def test_any_json_comes_back_as_it_was(op: int, data: Any, type: str | None) -> None:
    assert decode_frame(encode_frame(op, data, type)).message() == Message(op, data, type)


@given(st.integers(0, MAX_OPCODE), JSON, st.none() | TEXT)
def test_other_json_readers_read_the_same(op: int, data: Any, type: str | None) -> None:
    expected = {"op": op, "d": data} | ({} if type is None else {"t": type})
    assert json.loads(encode_frame(op, data, type)) == expected


@pytest.mark.parametrize("size", [0, 125, 126, 255, 256, 65_535])
def test_joined_bodies_are_text_frames_of_a_server(size: int) -> None:
    stream, wire = StreamReader(), joined([b"x" * size, b"{}"])
    stream.feed_data(wire)
    for expected in (b"x" * size, b"{}"):
        parse = WebSocketFrame.parse(stream.read_exact, mask=False)
        with pytest.raises(StopIteration) as done:
            next(parse)
        frame = done.value.value
        assert (frame.opcode, frame.fin, frame.data) == (Opcode.TEXT, True, expected)
    assert len(wire) <= size + 2 + 2 * HEAD_SIZE


@given(JSON, st.none() | TEXT, st.integers(1, 2**53 - 1))
def test_a_numbered_body_is_the_same_message_with_its_sequence(
    data: Any, type: str | None, sequence: int
) -> None:
    body = encode_frame(0, data, type)
    message = decode_frame(numbered(body, sequence)).message()
    assert (message, message.sequence) == (Message(0, data, type), sequence)


@given(st.binary() | st.text().map(lambda text: text.encode(errors="surrogatepass")))
def test_any_bytes_are_a_frame_or_invalid(payload: bytes) -> None:
    try:
        frame = decode_frame(payload)
    except InvalidFrame:
        return
    assert 0 <= frame.message().opcode <= MAX_OPCODE


@given(st.binary(min_size=1))
def test_bytes_that_are_not_utf8_are_never_a_frame(junk: bytes) -> None:
    payload = b'{"op":0,"unknown":"%s\xff"}' % junk
    with pytest.raises(InvalidFrame):
        decode_frame(payload)


@given(st.integers(0, MAX_OPCODE), JSON, st.none() | TEXT)
def test_a_frame_that_was_received_is_handed_on_with_its_data_unread(op: int, data: Any, type: str) -> None:
    body = encode_frame(op, data, type)
    frame = decode_raw_frame(body[:-1] + b',"s":7,"x":{"r":"1"}}')
    assert (frame.body(), frame.message()) == (body, decode_frame(body).message())
    assert frame.message().sequence == 7


@pytest.mark.parametrize(
    ("payload", "body"),
    [
        (b"{}", b'{"op":0,"d":null}'),
        (b'{"t":null,"d": [1.0, 1E2 ] }', b'{"op":0,"d":[1.0, 1E2 ]}'),
        (b'{"d":1e999,"d":2}', b'{"op":0,"d":2}'),
    ],
)
def test_what_is_handed_on_has_the_members_of_a_message_alone(payload: bytes, body: bytes) -> None:
    assert decode_raw_frame(payload).body() == body


@pytest.mark.parametrize("data", [b'"\xff"', b'"\xed\xa0\x80"', b'"\\ud800"', b"[" * 99_999 + b"]" * 99_999])
@pytest.mark.parametrize("form", [b'{"d":%s}', b'{"unknown":%s}', b'{"d":1,"x":%s}'])
def test_all_but_numbers_is_checked_before_the_data_is_read(form: bytes, data: bytes) -> None:
    with pytest.raises(InvalidFrame):
        decode_raw_frame(form % data)
