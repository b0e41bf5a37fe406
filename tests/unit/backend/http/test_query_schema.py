"""What the HTTP API is asked beside dispatches, written by one side and read by the other."""

from collections.abc import Callable
from typing import Any

import pytest

from mesa_ws.backend.base import IdPage
from mesa_ws.backend.http import query_schema as query
from mesa_ws.errors import InvalidInput, InvalidRecipients
from mesa_ws.messages.receipt import Delivery, OutboxHead, Position, Receipt, Stored

HEAD = OutboxHead("e", 5, 2, 3, (Position("d", 1),), ((1, 2),))
STORED = [Stored(1, "m", 10.5, 20.5, b'{"op":0,"d":"\xc3\xa9"}')]


@pytest.mark.parametrize(
    ("encode", "decode", "answer"),
    [
        (query.encode_online, query.decode_online, {"0": 2, "é": 0}),
        (query.encode_count, query.decode_count, 7),
        (query.encode_page, query.decode_page, IdPage(("0", "é"), "7")),
        (query.encode_page, query.decode_page, IdPage((), None)),
        (query.encode_connections, query.decode_connections, 7),
        (query.encode_heads, query.decode_heads, {"0": HEAD, "1": None}),
        (query.encode_stored, query.decode_stored, STORED),
        (query.encode_purged, query.decode_purged, 3),
    ],
)
def test_answers_are_read_as_they_were_written(
    encode: Callable[[Any], bytes], decode: Callable[[bytes], Any], answer: Any
) -> None:
    assert decode(encode(answer)) == answer
    assert decode(b"<html>") is None


@pytest.mark.parametrize("ids", [None, [], ["0", "é"]])
@pytest.mark.parametrize("namespace", [None, "api"])
def test_questions_about_ids_are_read_as_they_were_written(
    ids: list[str] | None, namespace: str | None
) -> None:
    asked = query.decode_ids(query.encode_question(ids, namespace))
    assert (asked.is_about_all, asked.namespace) == (ids is None, namespace)
    assert asked.is_about_all or asked.checked() == ids


def test_questions_about_one_outbox_are_read_as_they_were_written() -> None:
    asked = query.decode_outbox_question(query.encode_outbox_question("0", 5, "api"))
    assert (asked.id, asked.limit, asked.namespace) == ("0", 5, "api")


def test_a_question_about_what_is_no_id_is_refused() -> None:
    with pytest.raises(InvalidRecipients, match="stands for everybody"):
        query.decode_outbox_question(b'{"id":"*"}')


def test_a_question_about_too_many_ids_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at most 10000 at once, got 10001"):
        query.IdsQuestion(["0"] * 10_001).checked()


@pytest.mark.parametrize("decode", [query.decode_ids, query.decode_outbox_question, query.decode_receipt])
@pytest.mark.parametrize("body", [b"", b"7", b'{"more":1}', b"\xff", b"[" * 100_000])
def test_what_is_no_question_is_refused(decode: Callable[[bytes], Any], body: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"^body: expected an object with "):
        decode(body)


def test_a_receipt_is_read_as_a_dispatch_was_answered() -> None:
    delivery = b'{"stored":true,"online":0,"dropped":null,"position":["e",1]}'
    body = b'{"receipt":{"message_id":"m","nodes":1,"deliveries":{"0":%s}},"namespace":"api"}' % delivery
    receipt = Receipt("m", {"0": Delivery(True, 0, None, Position("e", 1))}, 1)
    assert query.decode_receipt(body) == (receipt, "api")
