"""The body of a request to the dispatch API."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from mesa_ws.backend.http.dispatch_schema import MAX_BATCH, DispatchRequest
from mesa_ws.backend.http.routes import DISPATCH
from mesa_ws.errors import InvalidInput, InvalidMessage, InvalidRecipients
from mesa_ws.messages.envelope import DeliveryPolicy, Envelope, Latest, Retention, policy_of, prepare
from mesa_ws.messages.message import DispatchEvent, Message
from mesa_ws.messages.recipients import Recipients
from mesa_ws.settings import Sync

ID = "0123456789abcdef0123456789abcdef"


def encoded(envelopes: list[Envelope], namespace: str | None = None) -> bytes:
    return DISPATCH.encode_body(DispatchRequest.of_all(envelopes, namespace))


def envelopes(body: dict[str, Any]) -> list[Envelope]:
    return DISPATCH.decode_body(json.dumps(body).encode()).envelopes()


def envelope(body: dict[str, Any]) -> Envelope:
    (only,) = envelopes(body)
    return only


def test_a_message_is_encoded_as_a_dispatcher_in_python_encodes_it() -> None:
    data = {"n": 1.5, "big": 2**63, "list": [None, True, "é"]}
    made = envelope({"message": {"op": 7000, "d": data, "t": "T"}, "recipients": ["0"]})
    assert made.body == prepare(Message(7000, data, "T"), ["0"]).body


def test_the_opcode_is_0_unless_it_is_given() -> None:
    assert envelope({"message": {"d": 1}}).body == b'{"op":0,"d":1}'


def test_recipients_are_everybody_unless_they_are_given() -> None:
    assert envelope({"message": {}}).recipients == Recipients.of("*")


def test_a_star_alone_means_everybody() -> None:
    assert envelope({"message": {}, "recipients": "*"}).recipients.everybody


def test_an_empty_list_of_recipients_is_nobody() -> None:
    assert envelope({"message": {}, "recipients": []}).recipients == Recipients.of([])


def test_exclusions_are_taken_out_of_the_recipients() -> None:
    made = envelope({"message": {}, "recipients": ["0", "1"], "excluding": ["1"]})
    assert made.recipients.ids == ("0",)


def test_exclusions_count_for_everybody_too() -> None:
    assert envelope({"message": {}, "excluding": ["1"]}).recipients == Recipients.of("*", ["1"])


def test_a_message_keeps_the_id_that_it_was_given() -> None:
    assert envelope({"message": {}, "id": ID}).message_id == ID


def test_a_message_without_an_id_gets_one() -> None:
    first, second = envelopes({"batch": [{"message": {}}, {"message": {}}]})
    assert len(first.message_id) == 32
    assert first.message_id != second.message_id


def test_an_event_disconnects_its_recipients() -> None:
    made = envelope({"message": {"op": 5, "t": "DISCONNECT_CLIENT"}, "recipients": ["0"]})
    assert (made.kind, made.body, made.recipients.ids) == ("disconnect", b"", ("0",))


def test_an_event_may_carry_the_empty_data_of_1x() -> None:
    message = {"op": 5, "d": {}, "t": "DISCONNECT_CLIENT"}
    assert envelope({"message": message, "recipients": ["0"]}).kind == "disconnect"


def test_an_event_without_recipients_is_refused() -> None:
    with pytest.raises(InvalidRecipients, match="name ids"):
        envelope({"message": {"op": 5, "t": "DISCONNECT_CLIENT"}})


def test_a_batch_keeps_its_order() -> None:
    made = envelopes({"batch": [{"message": {"d": n}} for n in range(20)]})
    assert [json.loads(e.body)["d"] for e in made] == list(range(20))


def test_the_largest_batch_is_taken() -> None:
    assert len(envelopes({"batch": [{"message": {}}] * MAX_BATCH})) == MAX_BATCH


@pytest.mark.parametrize("size", [0, MAX_BATCH + 1])
def test_a_batch_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(InvalidInput, match=f"1 to {MAX_BATCH} dispatches, got {size}"):
        envelopes({"batch": [{"message": {}}] * size})


def test_an_error_in_a_batch_names_its_place_and_keeps_its_kind() -> None:
    with pytest.raises(
        InvalidRecipients, match=r"^batch\[1\]: recipients: expected .* got 7 \(int\); write '7'"
    ):
        envelopes({"batch": [{"message": {}}, {"message": {}, "recipients": [7]}]})


@pytest.mark.parametrize("beside", [{"message": {}}, {"recipients": ["0"]}, {"excluding": []}, {"id": ID}])
def test_a_batch_beside_a_dispatch_is_refused(beside: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="not both"):
        envelopes({"batch": [{"message": {}}], **beside})


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"message": {}, "exluding": ["1"]}, "exluding"),
        ({"message": {}, "recipient": ["1"]}, "recipient"),
        ({"batch": [{"message": {}, "to": ["1"]}]}, "to"),
        ({"message": {"sync": False}}, "sync"),
        ({"message": {"data": 1}}, "data"),
    ],
)
def test_a_member_that_is_not_known_is_refused_by_its_name(body: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidInput, match=f"unknown field `{name}`"):
        envelopes(body)


@pytest.mark.parametrize(
    ("member", "text"),
    [
        (None, "got null"),
        ({"0": True}, "got an object"),
        ([["0"]], "got lists or objects in it"),
        ([{"id": "0"}], "got lists or objects in it"),
        (0, r"got 0 \(int\)"),
        ("0", r"write \['0'\]"),
        ([None], "got None"),
        ([""], "1 to 255 bytes"),
    ],
)
@pytest.mark.parametrize("name", ["recipients", "excluding"])
def test_ids_of_another_form_are_refused(name: str, member: Any, text: str) -> None:
    with pytest.raises(InvalidRecipients, match=f"{name}: expected .*{text}"):
        envelope({"message": {}, name: member})


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (None, "got `null`"),
        ([], "got `array`"),
        ({"op": "0"}, r"`\$.op`"),
        ({"op": 1.5}, r"`\$.op`"),
        ({"op": True}, r"`\$.op`"),
        ({"op": 1}, "expected one that the protocol does not use"),
        ({"op": -1}, "got -1"),
        ({"t": 1}, r"`\$.t`"),
        ({"op": 5, "t": "RESTART"}, "DISCONNECT_CLIENT"),
        ({"op": 5}, "DISCONNECT_CLIENT"),
        ({"op": 5, "t": "DISCONNECT_CLIENT", "d": 1}, "expected no d"),
    ],
)
def test_what_is_not_a_message_is_refused(message: Any, text: str) -> None:
    with pytest.raises(InvalidMessage, match=text):
        envelope({"message": message, "recipients": ["0"]})


def test_a_request_without_a_message_is_refused() -> None:
    with pytest.raises(InvalidMessage, match=r"message: expected an object .* got none"):
        envelope({})


@pytest.mark.parametrize("id", ["", "0", ID.upper(), ID + "\n", ID + "0", ID[1:] + "k"])
def test_an_id_of_another_form_is_refused(id: str) -> None:
    with pytest.raises(InvalidInput, match=r"`\$.id`"):
        envelope({"message": {}, "id": id})


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"7", b"\xff", b'{"message":{}} {}', b"NaN"])
def test_what_is_not_a_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput, match="body: expected a JSON object"):
        DISPATCH.decode_body(body)


@pytest.mark.parametrize("data", [b"NaN", b"Infinity", b"1e999", b'"\\ud800"', b'"\xff"', b"9" * 5000])
def test_data_that_a_frame_cannot_hold_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        DISPATCH.decode_body(b'{"message":{"d":%s}}' % data).envelopes()


@pytest.mark.parametrize("depth", [500, 900, 950, 990, 2_000, 200_000])
@pytest.mark.parametrize("member", [b'"message":{"d":%s}', b'"message":{},"recipients":%s', b'"batch":%s'])
def test_deep_nesting_is_taken_or_refused_but_never_fails(member: bytes, depth: int) -> None:
    body = b"{%s}" % (member % (b"[" * depth + b"]" * depth))
    try:
        made = DISPATCH.decode_body(body).envelopes()
    except InvalidInput:
        made = []
    assert all(b"[" in e.body for e in made)


def test_what_is_written_is_read_as_the_same_envelopes() -> None:
    sent = [
        prepare(Message(0, {"a": 1}, "T"), ["0", "1"], ["1"]),
        prepare(Message(12, "é"), ["*"], ["1"]),
        prepare(DispatchEvent("DISCONNECT_CLIENT"), ["2"]),
    ]
    assert DISPATCH.decode_body(encoded(sent)).envelopes() == sent


def test_a_body_is_written_as_it_was_encoded() -> None:
    sent = prepare(Message(0, {"a": [1, 2.50]}, "T"), ["0"])
    assert sent.body in encoded([sent])


def test_a_namespace_is_written_and_read() -> None:
    assert DISPATCH.decode_body(encoded([], "api")).namespace == "api"


def test_more_than_a_batch_is_not_written() -> None:
    with pytest.raises(InvalidInput, match=f"at most {MAX_BATCH} at once over HTTP, got {MAX_BATCH + 1}"):
        encoded([prepare(Message())] * (MAX_BATCH + 1))


@pytest.mark.parametrize(
    ("sync", "retention"),
    [
        (True, Retention.of(Sync(enabled=True))),
        (False, None),
        ({}, Retention.of(Sync(enabled=True))),
        ({"max_messages": 3, "max_bytes": 400, "ttl": 5}, Retention(3, 400, 5.0)),
    ],
)
def test_a_message_may_be_stored(sync: object, retention: Retention | None) -> None:
    assert envelope({"message": {}, "sync": sync}).retention == retention


@pytest.mark.parametrize("sync", [None, 1, "true", [], {"enabled": False}, {"tll": 5}])
def test_another_way_to_store_is_refused(sync: object) -> None:
    with pytest.raises(InvalidInput, match=r"^sync: expected true, false or an object of max_messages, "):
        envelope({"message": {}, "sync": sync})


def test_a_wrong_limit_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"^sync\.ttl: expected a number of seconds"):
        envelope({"message": {}, "sync": {"ttl": -1}})


def test_a_key_of_the_sender_names_the_message() -> None:
    made = envelope({"message": {}, "idempotency_key": "task-1"})
    assert made == prepare(Message(), idempotency_key="task-1")


def test_two_names_for_one_message_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"^id: pass either 'id' or 'idempotency_key', not both"):
        envelope({"message": {}, "idempotency_key": "task-1", "id": ID})


def test_a_durability_that_nobody_has_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"^durability: expected one of memory, fsync, replicated, got 7$"):
        envelope({"message": {}, "sync": True, "durability": 7})


@pytest.mark.parametrize("key", [None, "task-1"])
def test_what_is_stored_is_read_as_it_was_written(key: str | None) -> None:
    kept = Retention(3, 400, 5.0)
    sent = prepare(Message(0, 1), ["0"], retention=kept, idempotency_key=key, durability="replicated")
    travels = replace(sent, idempotency_key=None)  # the id that is made of it does
    assert DISPATCH.decode_body(encoded([sent])).envelopes() == [travels]


@pytest.mark.parametrize(
    ("given", "policy"), [(None, None), ("volatile", "volatile"), ({"latest": "a"}, Latest("a"))]
)
def test_a_body_says_what_may_happen_to_the_message_for_slow_clients(
    given: object, policy: DeliveryPolicy | None
) -> None:
    made = envelope({"message": {}, "recipients": ["0"], "delivery": given})
    assert policy_of(made) == policy
    assert DISPATCH.decode_body(encoded([made])).envelopes() == [made]


@pytest.mark.parametrize(
    "given", ["latest:a", "", 1, [], {}, {"latest": 1}, {"key": "a"}, {"latest": "a", "b": 1}]
)
def test_a_body_with_another_delivery_is_refused(given: object) -> None:
    with pytest.raises(InvalidInput, match=r"^delivery: "):
        envelope({"message": {}, "recipients": ["0"], "delivery": given})
