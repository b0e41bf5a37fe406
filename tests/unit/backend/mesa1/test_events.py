"""Payloads for portals and of portals, as 1.x writes them."""

import json

import msgspec
import pytest

from mesa_ws.backend.inbox import InboxEvent
from mesa_ws.backend.mesa1.payloads import (
    InvalidPayload,
    PortalNotice,
    event_payload,
    notice_payload,
    read_event,
    read_notice,
    read_reply,
    reply_payload,
)
from mesa_ws.backend.mesa1.portal_liveness import PoolSnapshot, Subscribers
from mesa_ws.messages.envelope import Envelope
from mesa_ws.messages.recipients import Recipients

P = "36b1f966-c0db-41df-9ebb-4eaac3342c3e"
FRAME = '{"op":0,"d":{"n":1},"t":"X"}'

CONNECTION = InboxEvent("n.1", 3, "1", "connection", None, "n")
AUTHENTICATION = InboxEvent("n.1", 3, "2", "authentication", "1", "n")
MESSAGE = InboxEvent("n.1", 3, "3", "message", "é", "n", FRAME.encode())
ANONYMOUS = msgspec.structs.replace(MESSAGE, id=None)
DISCONNECTION = InboxEvent("n.1", 3, "4", "disconnection", "1", "n", b'[1000,"bye"]')


@pytest.mark.parametrize(
    ("letter", "text"),
    [
        (CONNECTION, '{"type":"connection","portalId":"%s"'),
        (AUTHENTICATION, '{"type":"authentication","clientId":"1","portalId":"%s"'),
        (MESSAGE, '{"type":"message","message":' + FRAME + ',"clientId":"é","portalId":"%s"'),
        (ANONYMOUS, '{"type":"message","message":' + FRAME + ',"portalId":"%s"'),
        (DISCONNECTION, '{"type":"disconnection","clientId":"1","portalId":"%s"'),
    ],
)  # fmt: skip
def test_an_event_is_written_as_1x_does_and_one_member_more(letter: InboxEvent, text: str) -> None:
    payload = event_payload(letter, P).decode()
    assert payload.startswith(text % P + ',"x":{')
    assert json.loads(payload)["x"]["c"] == "n.1"


@pytest.mark.parametrize(
    ("frame", "written"),
    [
        ('{"op":0,"d":null}', '{"op":0}'),
        ('{"op":99,"d":null,"t":"X"}', '{"op":99,"t":"X"}'),
        ('{"op":0,"d":{"d":null},"t":"X"}', '{"op":0,"d":{"d":null},"t":"X"}'),
        ('{"op":0,"d":"null"}', '{"op":0,"d":"null"}'),
    ],
)
def test_a_message_without_data_has_no_such_member(frame: str, written: str) -> None:
    payload = json.loads(event_payload(msgspec.structs.replace(MESSAGE, data=frame.encode()), P))
    assert payload["message"] == json.loads(written)


@pytest.mark.parametrize("letter", [CONNECTION, MESSAGE, DISCONNECTION])
def test_our_portals_read_what_our_servers_write(letter: InboxEvent) -> None:
    assert read_event(event_payload(letter, P)) == (P, msgspec.structs.replace(letter, partition=0))


@pytest.mark.parametrize(
    ("payload", "kind", "id", "data"),
    [
        ('{"type":"connection","portalId":"p"}', "connection", None, ""),
        ('{"type":"authentication","clientId":"1","portalId":"p"}', "authentication", "1", ""),
        ('{"type":"authentication","clientId":7,"portalId":"p"}', "authentication", "7", ""),
        ('{"type":"message","message":' + FRAME + ',"portalId":"p"}', "message", None, FRAME),
        ('{"type":"message","message":{"op":7,"s":1,"o":{}},"portalId":"p"}', "message", None, '{"op":7}'),
        ('{"type":"disconnection","clientId":null,"portalId":"p","x":5}', "disconnection", None, ""),
    ],
)  # fmt: skip
def test_what_1x_writes_is_read(payload: str, kind: str, id: str | None, data: str) -> None:
    portal_id, letter = read_event(payload.encode())
    assert (portal_id, letter.kind, letter.id, letter.data.decode()) == ("p", kind, id, data)
    assert (letter.connection_id, letter.node) == ("", "")


def test_events_of_1x_are_told_apart() -> None:
    first, second = (read_event(b'{"type":"connection","portalId":"p"}').event for _ in range(2))
    assert first.key != second.key


@pytest.mark.parametrize(
    "payload",
    [
        *("garbage", "null", "5", "[]", "{}", '"x"', "\ud800"),
        '{"type":"connection"}',
        '{"type":"other","portalId":"p"}',
        '{"type":"message","portalId":"p"}',
        '{"type":"message","message":5,"portalId":"p"}',
        '{"type":"message","message":{"op":-1},"portalId":"p"}',
        '{"type":"authentication","clientId":"","portalId":"p"}',
        '{"type":"message","message":{"op":0,"d":"\ud800"},"portalId":"p"}',
        "[" * 100_000,
    ],
)
def test_what_is_no_event_is_said_to_be_none(payload: str) -> None:
    with pytest.raises(InvalidPayload):
        read_event(payload.encode("utf-8", "surrogatepass"))


def test_notices_are_those_of_1x() -> None:
    assert notice_payload(PortalNotice(P, True)) == b'{"id":"%s","ready":true}' % P.encode()
    assert read_notice(b'{"id":"p","ready":false,"more":1}') == ("p", False)


@pytest.mark.parametrize("payload", [b"null", b"{}", b"x", b'{"id":5,"ready":true}', b'{"id":"p","ready":1}'])
def test_what_is_no_notice_is_said_to_be_none(payload: bytes) -> None:
    with pytest.raises(InvalidPayload):
        read_notice(payload)


def test_an_answer_reaches_the_connection_it_is_for() -> None:
    sent = Envelope(Recipients(False, ("n.1",), frozenset()), FRAME.encode(), "connection", "m")
    found = read_reply(reply_payload(sent))
    assert (found.recipients.ids, found.body, found.kind) == (("n.1",), FRAME.encode(), "connection")
    with pytest.raises(InvalidPayload):
        read_reply(b"{}")


def test_a_census_is_read() -> None:
    reply = [b"era", 2, [b"p", b"q"], [b"p", 1500, b"r", b"-20"], [b"x", b"theirs", b"y", b"ours"]]
    leases = {"p": 1.5, "r": -0.02}
    assert PoolSnapshot.of(reply) == PoolSnapshot("era", 2, frozenset("pq"), leases, frozenset("x"))


def test_subscribers_are_read() -> None:
    lines = (
        "id=3 addr=127.0.0.1:1 name= sub=1 psub=0 cmd=subscribe\n"
        "id=4 addr=127.0.0.1:2 name= sub=2 psub=0 cmd=subscribe\n"
        "id=5 addr=127.0.0.1:3 name= sub=1 psub=1 cmd=psubscribe\n"
        "id=6 addr=127.0.0.1:4 name=other sub=1 psub=0 cmd=subscribe\n"
        f"id=7 addr=127.0.0.1:5 name=mesa-portal-{P} sub=1 psub=0 cmd=subscribe\n"
    )
    expected = Subscribers(frozenset({3}), frozenset({P}), frozenset(range(3, 8)))
    assert Subscribers.of(lines.encode()) == expected
