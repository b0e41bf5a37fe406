"""A client's end of a connection: what the vectors cannot say."""

from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesa_ws.codec import encode_frame
from mesa_ws.errors import InvalidMessage
from mesa_ws.message import Message
from mesa_ws.session import Authenticated, ClientSession, ClientState, Close, Hello, Ignored, SendText
from mesa_ws.settings import Keepalive

KEEPALIVE = Keepalive(interval=4.0, timeout=2.0)
JUNK = st.binary() | st.text().map(lambda text: text.encode(errors="surrogatepass"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("abc"),
    lambda inner: st.lists(inner, max_size=3),
)
NAMES = ("c_heartbeat_interval", "c_reconnect_interval", "c_authentication_timeout", "rules")


def session() -> ClientSession:
    return ClientSession(KEEPALIVE, 0.0)


def test_authentication_takes_any_mapping() -> None:
    frame = session().authenticate(MappingProxyType({"id": "1"}))
    assert frame == SendText(b'{"op":2,"d":{"id":"1","shouldSync":true}}')


@pytest.mark.parametrize("data", ["token", None, ["id"]])
def test_authentication_data_is_a_mapping(data: Any) -> None:
    with pytest.raises(InvalidMessage) as caught:
        session().authenticate(data)
    assert str(caught.value) == f"authentication data: expected a mapping, got {type(data).__name__}"


def test_authentication_data_has_to_be_json() -> None:
    with pytest.raises(InvalidMessage):
        session().authenticate({"id": object()})


def test_opcodes_of_the_protocol_cannot_be_sent() -> None:
    with pytest.raises(InvalidMessage):
        session().send(Message(11))


def test_why_something_is_ignored_is_said_for_the_logs() -> None:
    assert session().receive(b'{"op":"hush"}', 0.0) == [Ignored("Expected `int`, got `str` - at `$.op`")]


@given(st.lists(JUNK))
def test_any_bytes_keep_the_session_open(payloads: list[bytes]) -> None:
    client = session()
    for payload in payloads:
        events = client.receive(payload, 0.0)
        assert events
        authenticated = any(isinstance(event, Authenticated) for event in events)
        assert client.state is ClientState.CONNECTED or authenticated


@given(st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_any_hello_is_understood(data: dict[str, Any]) -> None:
    (event,) = session().receive(encode_frame(10, data), 0.0)
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
    client, now, is_paused = session(), 0.0, False
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
