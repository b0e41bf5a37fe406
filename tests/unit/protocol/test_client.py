"""A client's end of a connection: what the vectors cannot say."""

import json
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesa_ws.errors import InvalidMessage
from mesa_ws.messages.frames import encode_frame, extended, numbered
from mesa_ws.messages.message import Message
from mesa_ws.messages.receipt import Position
from mesa_ws.protocol.client import AckTimer, ClientProtocol, ClientState, Hello, Ignored
from mesa_ws.protocol.events import Authenticated, Close, SendText
from mesa_ws.protocol.positions import NOWHERE, Arrived, Lost, Positions, Reset
from mesa_ws.settings import Keepalive

KEEPALIVE = Keepalive(interval=4.0, timeout=2.0)
JUNK = st.binary() | st.text().map(lambda text: text.encode(errors="surrogatepass"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("abc"),
    lambda inner: st.lists(inner, max_size=3),
)
NAMES = ("c_heartbeat_interval", "c_reconnect_interval", "c_authentication_timeout", "rules")


def protocol() -> ClientProtocol:
    return ClientProtocol(KEEPALIVE, 0.0)


def test_authentication_takes_any_mapping() -> None:
    frame = protocol().authenticate(MappingProxyType({"id": "1"}))
    assert frame == SendText(b'{"op":2,"d":{"id":"1","shouldSync":true}}')


@pytest.mark.parametrize("data", ["token", None, ["id"]])
def test_authentication_data_is_a_mapping(data: Any) -> None:
    with pytest.raises(InvalidMessage) as caught:
        protocol().authenticate(data)
    assert str(caught.value) == f"authentication data: expected a mapping, got {type(data).__name__}"


def test_authentication_data_has_to_be_json() -> None:
    with pytest.raises(InvalidMessage):
        protocol().authenticate({"id": object()})


def test_opcodes_of_the_protocol_cannot_be_sent() -> None:
    with pytest.raises(InvalidMessage):
        protocol().send(Message(11))


def test_why_something_is_ignored_is_said_for_the_logs() -> None:
    assert protocol().receive(b'{"op":"hush"}', 0.0) == [Ignored("Expected `int`, got `str` - at `$.op`")]


@given(st.lists(JUNK))
def test_any_bytes_keep_the_session_open(payloads: list[bytes]) -> None:
    client = protocol()
    for payload in payloads:
        events = client.receive(payload, 0.0)
        assert events
        authenticated = any(isinstance(event, Authenticated) for event in events)
        assert client.state is ClientState.CONNECTED or authenticated


@given(st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_any_hello_is_understood(data: dict[str, Any]) -> None:
    (event,) = protocol().receive(encode_frame(10, data), 0.0)
    assert isinstance(event, Hello)
    for duration in event[:3]:
        assert duration is None or 0 < duration <= 86_400


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["heard", "poll", "suspend", "resume", "receive", "wait", "close"]),
            st.sampled_from([0.5, 1.0, 3.0]),
        )
    )
)
def test_any_order_of_calls_keeps_deadlines_ahead(calls: list[tuple[str, float]]) -> None:
    client, now, is_paused = protocol(), 0.0, False
    for call, seconds in calls:
        was_closed = client.state is ClientState.CLOSED
        given: list[Any] = []
        match call:
            case "wait":
                now += seconds
            case "poll":
                given = list(client.poll(now))
                assert client.deadline is None or client.deadline > now
            case "receive":
                given = list(client.receive(b"{}", now))
            case "close":
                client.close()
            case _:
                getattr(client, call)(now)
                is_paused = call == "suspend" or (is_paused and call != "resume")
        assert not (was_closed and given)
        assert not any(isinstance(output, Close) for output in given) or client.state is ClientState.CLOSED
        assert client.deadline is None or not (is_paused or client.state is ClientState.CLOSED)


# Wire 2: what the vectors cannot say.

HELLO = encode_frame(10, {"v": 2})
AT = Positions(Position("aa", 5), Position("bb", 3))


def accepted(positions: Positions = NOWHERE) -> ClientProtocol:
    """A client on wire 2 that received everything up to `positions`, and handled it."""
    client = ClientProtocol(KEEPALIVE, 0.0, positions)
    client.receive(HELLO, 0.0)
    client.authenticate({}, resume=positions)
    members = {
        "e": "aa",
        "s": 5,
        "status": "resumed",
        "lost": 0,
        "b": {"e": "bb", "s": 3, "status": "resumed"},
    }
    client.receive(extended(encode_frame(22, {}), members), 0.0)
    return client


def arrivals(client: ClientProtocol, frame: bytes) -> list[Any]:
    """What the application gets of a frame."""
    return [event.what for event in client.receive(frame, 0.0) if isinstance(event, Arrived)]


def test_what_moves_no_position_carries_the_same_positions() -> None:
    client = accepted()
    before = client.positions
    (arrived,) = client.receive(b'{"op":0}', 0.0)
    assert isinstance(arrived, Arrived)
    assert arrived.positions is before


def test_what_was_left_out_is_passed_before_the_message_that_tells_it() -> None:
    lost, message = accepted().receive(b'{"op":0,"s":8}', 0.0)
    assert lost == Arrived(Lost(2, is_announced=False), AT._replace(outbox=Position("aa", 7)))
    assert isinstance(message, Arrived)
    assert message.positions == AT._replace(outbox=Position("aa", 8))


@pytest.mark.parametrize("positions", [AT, Positions(AT.outbox), Positions(None, AT.broadcasts)])
def test_positions_are_read_as_they_were_written(positions: Positions) -> None:
    assert Positions.decode(positions.encode()) == positions


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"[]", b"7", b"{}", b'{"e":"aa"}', b'{"e":"","s":1}', b'{"b":3}', b"[" * 100_000]
)
def test_what_was_not_written_as_positions_is_none(data: bytes) -> None:
    assert Positions.decode(data) is None


def test_what_the_application_gave_as_positions_may_be_anything() -> None:
    anything: Any = object()
    assert Positions.decode(anything) is None


OUTBOX = st.lists(
    st.builds(lambda s: {"op": 0, "s": s}, st.integers(0, 20))
    | st.builds(
        lambda e, s, status, lost: {"op": 9, "d": {"e": e, "s": s, "status": status, "lost": lost}},
        st.sampled_from(["aa", "cc"]),
        st.integers(0, 20),
        st.sampled_from(["fresh", "resumed", "forked", "reset"]),
        st.integers(0, 9),
    )
)


@given(OUTBOX)
def test_whatever_a_server_does_nothing_is_missing_or_twice_without_a_word(frames: list[Any]) -> None:
    client, at = accepted(AT), Position("aa", 5)
    for frame in frames:
        whats = arrivals(client, json.dumps(frame).encode())
        now = client.positions.outbox or at
        passed = sum(what.number if isinstance(what, Lost) else isinstance(what, Message) for what in whats)
        if now.epoch == at.epoch and Reset() not in whats:
            assert now.sequence - at.sequence == passed
        at = now


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), max_size=9))
def test_every_message_is_handed_over_once_or_told_to_be_lost(connections: list[Any]) -> None:
    """A client that is cut off and comes back; it receives, and handles, more or less of it."""
    received = handled = Positions(Position("aa", 0))
    handed: list[int] = []
    trimmed = lost = 0
    for sent, unhandled, dropped in connections:
        client = ClientProtocol(KEEPALIVE, 0.0, received)
        client.receive(HELLO, 0.0)
        client.authenticate({}, resume=handled)
        at = handled.outbox.sequence if handled.outbox else 0
        trimmed = max(trimmed, at + dropped - 4)
        start = max(at, trimmed)
        place = {"e": "aa", "s": start, "status": "resumed", "lost": start - at}
        frames = [extended(encode_frame(22), place)]
        frames += [numbered(encode_frame(0, number), number) for number in range(start + 1, start + sent + 1)]
        for frame in frames:
            for what in arrivals(client, frame):
                if isinstance(what, Message):
                    handed.append(what.data)
                elif isinstance(what, Lost):
                    lost += what.number
        received = client.positions
        top = received.outbox.sequence if received.outbox else 0
        handled = Positions(Position("aa", max(at, top - unhandled)))
    assert handed == sorted(set(handed))
    assert len(handed) + lost == (received.outbox.sequence if received.outbox else 0)


def dues(*counts: float) -> list[float | None]:
    """When the next acknowledgement is due, each time after messages were handled."""
    timer, due = AckTimer(), []
    for now in counts:
        timer.count(now)
        due.append(timer.due)
        if timer.due == now:
            timer.acknowledged()
            due.append(timer.due)
    return due


def test_an_acknowledgement_waits_a_second_for_more() -> None:
    assert AckTimer().due is None
    assert dues(10.0, 10.5, 10.75) == [11.0, 11.0, 11.0]


def test_an_acknowledgement_does_not_wait_for_more_than_64_messages() -> None:
    assert dues(*[10.0] * 63, 10.5, 10.75) == [*[11.0] * 63, 10.5, None, 11.75]


def test_positions_are_completed_where_they_are_not_known() -> None:
    here, there = Position("a", 1), Position("b", 2)
    assert Positions(here).completed(Positions(there, there)) == Positions(here, there)
    assert Positions(None, here).completed(Positions(there)) == Positions(there, here)
    assert NOWHERE.completed(NOWHERE) == NOWHERE
