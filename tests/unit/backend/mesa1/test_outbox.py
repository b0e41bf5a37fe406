"""The lists of `undelivered_messages`, and a node's numbering of their messages."""

from typing import Any

import msgspec
import pytest

from mesa_ws.backend.mesa1.outbox import ListedMessage, NumberedList, WaitingList, joined, passed
from mesa_ws.messages.envelope import prepare
from mesa_ws.messages.message import Message


def listed(*numbers: float) -> list[ListedMessage]:
    return list(
        WaitingList.of(("[" + ",".join(f'{{"op":0,"d":{n}}}' for n in numbers) + "]").encode()).messages
    )


def test_a_list_is_read_with_and_without_options() -> None:
    raw = b' [ {"op":0,"d":{"n":1},"t":"A"}, {"op":7,"d":{"s":"x"},"o":{"sync":true}} ] '
    found = WaitingList.of(raw)
    assert [each.frame for each in found.messages] == [
        b'{"op":0,"d":{"n":1},"t":"A"}',
        b'{"op":7,"d":{"s":"x"}}',
    ]
    assert (found.raw, found.is_corrupt) == (raw, False)


@pytest.mark.parametrize("raw", [b"{bad", b"null", b"{}", b'"x"', b"7", b"\xff"])
def test_what_is_no_list_is_corrupt(raw: bytes) -> None:
    assert WaitingList.of(raw) == (raw, (), True)


def test_of_a_list_with_other_things_the_messages_are_read() -> None:
    found = WaitingList.of(b'[1,{"op":0,"d":1},null,{"op":"x"}]')
    assert found.is_corrupt
    assert joined(found.messages) == b'[{"op":0,"d":1}]'


def test_half_of_a_surrogate_pair_spoils_only_its_own_message() -> None:
    found = WaitingList.of('[{"op":0,"d":"é"},{"op":0,"d":"\\ud83d"},{"op":0,"d":"\\ud83d\\ude00"}]'.encode())
    assert found.is_corrupt
    frames = [msgspec.json.decode(each.frame) for each in found.messages]
    assert frames == [{"op": 0, "d": "é"}, {"op": 0, "d": "\U0001f600"}]


def test_what_can_be_dispatched_can_be_read_however_deeply_it_is_nested() -> None:
    data: list[Any] = []
    for _ in range(700):
        data = [data]
    found = WaitingList.of(b"[%s]" % prepare(Message(0, data), ["1"]).body)
    assert not found.is_corrupt
    assert passed(found.messages, found.messages) == 0


def test_an_event_is_no_message_for_who_logs_in_later() -> None:
    found = WaitingList.of(b'[{"op":0,"d":1},{"op":5,"d":{},"t":"DISCONNECT_CLIENT"},{"op":0,"d":2}]')
    assert found.is_corrupt
    assert joined(found.messages) == b'[{"op":0,"d":1},{"op":0,"d":2}]'


def test_nothing_is_an_empty_list() -> None:
    assert WaitingList.of(None) == WaitingList.of(b"") == (b"", (), False)
    assert joined([]) == b""


def test_messages_are_the_same_in_other_bytes() -> None:
    [ours] = WaitingList.of(b'[{"op":0,"d":{"b":1.0,"a":"\\u00e9"},"t":"T"}]').messages
    [theirs] = WaitingList.of('[{ "op": 0, "t": "T", "d": {"a":"é","b":1} }]'.encode()).messages
    assert ours.says_what(theirs)


@pytest.mark.parametrize(
    ("known", "there", "gone"),
    [
        ([1, 2], [1, 2], 0),
        ([1, 2], [1, 2, 3], 0),
        ([1, 2, 3], [3, 4], 2),
        ([1, 2, 3], [1, 2], 3),
        ([1, 2], [], 2),
        ([1, 1, 1], [1, 1], 1),
        ([], [1], 0),
    ],
)
def test_what_others_took_out_is_found(known: list[float], there: list[float], gone: int) -> None:
    assert passed(listed(*known), listed(*there)) == gone


def frames(numbered: NumberedList, after: int = 0) -> list[tuple[int, bytes]]:
    return [(entry.sequence, entry.body) for entry in numbered.page("fresh", after).entries]


def test_what_is_proven_is_on_no_page_though_it_is_still_listed() -> None:
    numbered = NumberedList()
    numbered.merge(listed(1, 2, 3))
    assert numbered.acknowledge(2)
    assert frames(numbered) == [(3, b'{"op":0,"d":3}')]
    assert [entry.sequence for entry in numbered.merge(listed(1, 2, 3, 4))] == [4]
    assert [each.frame for each in numbered.leftovers] == [b'{"op":0,"d":1}', b'{"op":0,"d":2}']


def test_numbers_go_on_when_the_list_has_shrunk() -> None:
    numbered = NumberedList()
    numbered.merge(listed(1, 2))
    numbered.acknowledge(2)
    numbered.settle(2)
    assert not numbered.has_leftovers
    assert [entry.sequence for entry in numbered.merge(listed(3))] == [3]
    assert numbered.top == 3


def test_what_another_took_out_counts_as_proven() -> None:
    numbered = NumberedList()
    numbered.merge(listed(1, 2))
    numbered.merge(listed(9))
    assert (numbered.acknowledged, frames(numbered)) == (2, [(3, b'{"op":0,"d":9}')])


@pytest.mark.parametrize("sequence", [0, 3])
def test_a_proof_of_what_was_not_sent_is_none(sequence: int) -> None:
    numbered = NumberedList()
    numbered.merge(listed(1, 2))
    assert not numbered.acknowledge(sequence)
