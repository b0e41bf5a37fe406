"""Outboxes in Redis: storing, reading and dropping messages, and their order."""

from collections.abc import Iterator

import pytest
import redis
from redis.exceptions import ResponseError

from mesa_ws.backend.outbox import Read, Start
from mesa_ws.backend.redis import node_commands
from mesa_ws.messages.envelope import Retention
from mesa_ws.messages.receipt import Position
from tests.system.redis.script_runner import KEEP, Hand, bodies, envelope


@pytest.fixture
def hand(redis_url: str, namespace: str) -> Iterator[Hand]:
    with redis.Redis.from_url(redis_url) as client:
        hand = Hand(client, namespace)
        hand.join()
        yield hand


def test_messages_are_numbered_and_read_in_order(hand: Hand) -> None:
    last = hand.fill(3)
    page = hand.page()
    assert (page.status, page.start, page.top, page.lost) == ("fresh", 0, 3, 0)
    assert [(entry.sequence, entry.body) for entry in page.entries] == [(1, b"1"), (2, b"2"), (3, b"3")]
    assert Position(page.epoch, page.last) == last


def test_no_two_outboxes_share_an_epoch(hand: Hand) -> None:
    receipt = hand.dispatch(["alice", "bob"])
    assert len({each.position.epoch for each in receipt.deliveries.values() if each.position}) == 2


@pytest.mark.parametrize("body", [b"", b"\0\xff" * 40, b'{"d":12345678901234567890,"e":[]}'])
def test_bodies_are_kept_as_they_are(hand: Hand, body: bytes) -> None:
    sent = envelope(body=body)
    hand.send(sent)
    assert [(entry.message_id, entry.body) for entry in hand.page().entries] == [(sent.message_id, body)]


def test_a_repeated_message_is_stored_for_those_who_miss_it(hand: Hand) -> None:
    sent = envelope(["alice"])
    first = hand.send(sent)
    both = hand.send(sent._replace(recipients=envelope(["alice", "bob"]).recipients))
    assert both.deliveries["alice"].position == first.deliveries["alice"].position
    assert [hand.known_head(id).top for id in ("alice", "bob")] == [1, 1]


def test_a_repeated_message_is_told_to_nobody_who_had_it(hand: Hand) -> None:
    hand.join("other")
    hand.attach("alice")
    hand.attach("bob", "other")
    sent = envelope(["alice"])
    hand.send(sent)
    assert hand.send(sent._replace(recipients=envelope(["alice", "bob"]).recipients)).nodes == 2
    assert hand.client.hgetall(hand.keys.counters) == {b"node": b"1", b"other": b"1"}


def test_a_remembered_message_that_is_not_stored_is_told_once(hand: Hand) -> None:
    hand.attach()
    sent = envelope(retention=None, idempotency_key="order 5")
    receipts = [hand.send(sent), hand.send(sent)]
    assert [each.deliveries["alice"].online for each in receipts] == [1, 1]
    assert hand.client.hget(hand.keys.counters, "node") == b"1"


@pytest.mark.parametrize("retention", [None, KEEP])
def test_a_remembered_message_to_everybody_is_told_once(hand: Hand, retention: Retention | None) -> None:
    sent = envelope("*", retention=retention, idempotency_key="order 5")
    assert [hand.send(sent).nodes for _ in range(2)] == [1, 1]
    assert hand.client.hget(hand.keys.counters, "node") == b"1"


def test_a_message_that_came_unstored_is_not_stored_later(hand: Hand) -> None:
    sent = envelope(retention=None, idempotency_key="order 5")
    hand.send(sent)
    assert hand.send(sent._replace(retention=KEEP)).deliveries["alice"] == (False, 0, "offline", None, 0)


def test_what_is_remembered_under_a_key_of_another_type_is_forgotten(hand: Hand) -> None:
    sent = envelope()
    hand.client.set(hand.keys.done(sent.message_id), "what?", ex=60)
    assert [hand.send(sent).deliveries["alice"].stored for _ in range(2)] == [True, True]
    assert hand.known_head().top == 1


def test_many_recipients_get_it_once_each_however_often_it_is_repeated(hand: Hand) -> None:
    ids = [str(n) for n in range(450)]
    sent = envelope(ids)
    assert hand.send(sent).deliveries == hand.send(sent).deliveries
    assert {hand.known_head(id).top for id in ids} == {1}


def test_only_nodes_with_a_lease_are_told(hand: Hand) -> None:
    hand.attach()
    hand.kill()
    receipt = hand.dispatch()
    assert (receipt.nodes, receipt.deliveries["alice"].online, receipt.deliveries["alice"].stored) == (
        0,
        0,
        True,
    )
    assert hand.client.hkeys(hand.keys.user("alice")) == [b"node"]


def test_without_a_replica_nothing_is_stored_that_has_to_be_replicated(hand: Hand) -> None:
    for recipients in (["alice"], "*"):
        with pytest.raises(ResponseError, match="NOREPLICAS"):
            hand.dispatch(recipients, durability="replicated")
    assert hand.head() is None


# Caps and lives


def test_beyond_its_number_the_oldest_are_dropped_and_counted(hand: Hand) -> None:
    few = KEEP._replace(max_messages=3)
    hand.fill(3, retention=few)
    assert [hand.dispatch(retention=few).deliveries["alice"].displaced for _ in range(2)] == [1, 1]
    page = hand.page()
    assert (page.start, page.lost, len(page.entries)) == (2, 2, 3)
    assert hand.known_head().dropped == ((1, 2),)
    assert hand.client.hget(hand.keys.position("alice"), "d") == b"2"


@pytest.mark.parametrize(("max_bytes", "left"), [(9, 1), (10, 1), (11, 2), (12, 3), (18, 9), (19, 10)])
def test_beyond_its_bytes_the_oldest_are_dropped_and_counted(hand: Hand, max_bytes: int, left: int) -> None:
    hand.fill(9)
    receipt = hand.dispatch(body=bytes(10), retention=KEEP._replace(max_bytes=max_bytes))
    assert receipt.deliveries["alice"].displaced == 10 - left
    assert (hand.known_head().length, hand.page().lost) == (left, 10 - left)


def test_the_newest_message_stays_whatever_its_size(hand: Hand) -> None:
    hand.fill(3)
    assert (
        hand.dispatch(body=bytes(100), retention=KEEP._replace(max_bytes=10)).deliveries["alice"].displaced
        == 3
    )
    assert bodies(hand.page()) == [bytes(100)]


def test_what_was_acknowledged_is_not_displaced(hand: Hand) -> None:
    hand.join("other")
    hand.page(node="other")  # has proven nothing, so that all stay
    hand.attach()
    last = hand.fill(3)
    assert hand.acknowledge(last._replace(sequence=2)) == 2
    assert hand.known_head().length == 3
    receipt = hand.dispatch(retention=KEEP._replace(max_messages=1))
    assert receipt.deliveries["alice"].displaced == 1
    assert hand.known_head().dropped == ((3, 3),)


def test_messages_whose_life_is_over_are_lost_when_somebody_comes(hand: Hand) -> None:
    hand.fill(3)
    for index in (0, 1):
        hand.age(index, expires=1)
    page = hand.page()
    assert (page.start, page.lost, bodies(page)) == (2, 2, [b"3"])
    assert hand.known_head().dropped == ((1, 2),)


def test_messages_whose_life_is_over_make_room_and_displace_nothing(hand: Hand) -> None:
    few = KEEP._replace(max_messages=3)
    hand.fill(3, retention=few)
    for index in (0, 1):
        hand.age(index, expires=1)
    assert hand.dispatch(retention=few).deliveries["alice"].displaced == 0
    assert (hand.known_head().length, hand.known_head().dropped) == (2, ((1, 2),))


def test_a_message_with_a_long_life_holds_those_behind_it(hand: Hand) -> None:
    hand.fill(2)
    hand.age(1, expires=1)
    assert bodies(hand.page()) == [b"1", b"2"]


def test_an_outbox_whose_life_is_over_leaves_its_numbers(hand: Hand) -> None:
    last = hand.fill(3)
    hand.client.delete(hand.keys.outbox("alice"))
    assert hand.known_head().dropped == ((1, 3),)
    page = hand.page()
    assert (page.epoch, page.start, page.lost, page.entries) == (last.epoch, 3, 3, ())
    assert hand.fill(1) == Position(last.epoch, 4)
    assert hand.known_head().dropped == ((1, 3),)


def test_ranges_of_dropped_messages_are_joined_and_few(hand: Hand) -> None:
    for _ in range(12):
        last = hand.fill(2, retention=KEEP._replace(max_messages=1))
        hand.attach()
        hand.acknowledge(last)
    assert hand.known_head().dropped == tuple((n, n) for n in range(9, 25, 2))


def test_a_shorter_life_does_not_shorten_that_of_earlier_messages(hand: Hand) -> None:
    hand.fill(1, retention=KEEP._replace(ttl=1000.0))
    hand.fill(1, retention=KEEP._replace(ttl=1.0))
    assert hand.client.pttl(hand.keys.outbox("alice")) > 900_000
    assert hand.client.pttl(hand.keys.position("alice")) > 86_400_000 + 900_000


# Pages


def test_a_page_has_at_most_256_messages(hand: Hand) -> None:
    last = hand.fill(300)
    first = hand.page()
    assert (len(first.entries), first.has_more) == (256, True)
    second = hand.resume(Position(first.epoch, first.last))
    assert (second.status, second.start, len(second.entries), second.last) == (
        "resumed",
        256,
        44,
        last.sequence,
    )


def test_a_page_is_bounded_by_bytes_and_has_at_least_one_message(hand: Hand) -> None:
    for size in (300_000, 100_000, 100_000, 100_000):
        hand.dispatch(body=bytes(size))
    page = hand.page()
    sizes = [len(page.entries)]
    while page.has_more:
        page = hand.resume(Position(page.epoch, page.last))
        sizes.append(len(page.entries))
    assert sizes == [1, 2, 1]


def test_one_call_reads_few_full_pages_and_leaves_the_rest_for_later(hand: Hand) -> None:
    ids = [str(n) for n in range(12)]
    for id in ids:
        hand.attach(id)
        hand.dispatch([id], bytes(250_000))
    epochs = [hand.known_head(id).epoch for id in ids]
    reads = [Read(id, Position(epoch, 0)) for id, epoch in zip(ids, epochs, strict=True)]
    (call,) = hand.seat().read(reads)
    answers = node_commands.answers(hand.run(call))
    assert answers is not None
    assert [len(answer.page.entries) for answer in answers] == [1] * 9 + [0] * 3
    assert [answer.page.has_more for answer in answers] == [False] * 9 + [True] * 3


def test_reading_takes_a_lease_and_records_nothing(hand: Hand) -> None:
    last = hand.fill(2)
    (call,) = hand.seat().read([Read("alice", last._replace(sequence=1))])
    answers = node_commands.answers(hand.run(call))
    assert answers is not None
    assert bodies(answers[0].page) == [b"2"]
    assert hand.client.exists(hand.keys.user("alice")) == 0
    hand.kill()
    assert node_commands.answers(hand.run(call)) == []


@pytest.mark.parametrize(("mode", "acknowledged"), [("top", 0), ("acknowledge", 3)])
def test_who_wants_nothing_stored_starts_at_the_top(hand: Hand, mode: str, acknowledged: int) -> None:
    hand.fill(3)
    page = hand.page(start=Start(mode))  # type: ignore[arg-type]
    assert (page.status, page.start, page.lost, page.entries) == ("fresh", 3, 0, ())
    assert hand.known_head().acknowledged == acknowledged


# Acknowledging


def test_what_was_acknowledged_leaves(hand: Hand) -> None:
    hand.page()
    last = hand.fill(3)
    assert hand.acknowledge(last._replace(sequence=2)) == 2
    assert bodies(hand.page()) == [b"3"]
    assert hand.acknowledge(last) == 3
    assert hand.client.exists(hand.keys.outbox("alice")) == 0
    assert hand.known_head().dropped == ()


def test_an_acknowledgement_never_falls(hand: Hand) -> None:
    hand.page()
    last = hand.fill(3)
    assert [hand.acknowledge(last._replace(sequence=n)) for n in (2, 1)] == [2, 2]


def test_what_was_never_sent_is_not_acknowledged(hand: Hand) -> None:
    hand.page()
    last = hand.fill(3)
    foreign = hand.fill(3, "bob")
    made_up = [last._replace(sequence=4), foreign, Position("0" * 16, 1), Position("é,:", 1), Position("", 1)]
    assert [hand.acknowledge(position) for position in made_up] == [-1] * 5
    assert hand.acknowledge(last._replace(sequence=-1)) == -1
    assert hand.acknowledge(last._replace(sequence=10**30)) == -1
    assert (hand.known_head().acknowledged, hand.known_head().length) == (0, 3)


def test_what_another_node_may_still_need_stays(hand: Hand) -> None:
    hand.join("slow")
    hand.page(node="slow")
    hand.page()
    last = hand.fill(3)
    hand.acknowledge(last)
    assert hand.known_head()[2:4] == (3, 3)
    hand.acknowledge(last, 1, node="slow")
    assert hand.known_head().length == 2
    hand.kill("slow")
    hand.acknowledge(last)
    assert hand.known_head().length == 0


def test_a_node_that_starts_further_back_holds_messages(hand: Hand) -> None:
    hand.join("slow")
    hand.page(start=Start("fresh", None, True))
    last = hand.fill(3)
    hand.acknowledge(last, window=120.0)
    hand.page("alice", Start("resume", last._replace(sequence=1), True), "slow")
    for index in range(3):
        hand.age(index, at=1)
    hand.acknowledge(last)
    assert bodies(hand.resume(last._replace(sequence=1))) == [b"2", b"3"]


def test_a_slower_connection_on_the_same_node_lowers_its_floor(hand: Hand) -> None:
    hand.page()
    last = hand.fill(3)
    hand.acknowledge(last, 2)
    hand.resume(last._replace(sequence=2))
    hand.page()
    assert hand.client.hget(hand.keys.user("alice"), "node").split()[2] == b"2"  # type: ignore[union-attr]


def test_a_floor_that_does_not_know_the_newest_connection_is_not_taken(hand: Hand) -> None:
    hand.page()
    last = hand.fill(3)
    hand._versions -= 1
    assert hand.acknowledge(last) == 3
    assert hand.known_head().length == 3


def test_a_node_whose_floor_is_of_another_epoch_has_nothing(hand: Hand) -> None:
    hand.join("other")
    hand.page(node="other")
    hand.page()
    hand.fill(2)
    hand.restart()
    last = hand.fill(1)
    hand.acknowledge(last)
    assert hand.known_head()[2:4] == (3, 3)


def test_wire_2_clients_find_what_was_acknowledged_for_a_while(hand: Hand) -> None:
    hand.page(start=Start("fresh", None, True))
    last = hand.fill(3)
    hand.acknowledge(last)
    assert 0 < hand.client.pttl(hand.keys.outbox("alice")) <= 120_000
    assert bodies(hand.resume(last._replace(sequence=0), is_wire2=True)) == [b"1", b"2", b"3"]
    assert hand.client.pttl(hand.keys.outbox("alice")) > 120_000, "it does not end under who reads it"
    assert hand.page().entries == ()


def test_after_that_while_it_leaves(hand: Hand) -> None:
    hand.page(start=Start("fresh", None, True))
    last = hand.fill(6)
    for index in range(4):
        hand.age(index, at=1)
    hand.acknowledge(last)
    assert bodies(hand.resume(last._replace(sequence=0))) == [b"5", b"6"]
    assert hand.resume(last._replace(sequence=0)).lost == 4
    assert hand.known_head().dropped == ()


def test_without_a_window_it_leaves_at_once(hand: Hand) -> None:
    hand.page(start=Start("fresh", None, True))
    hand.acknowledge(hand.fill(3), window=0.0)
    assert hand.client.exists(hand.keys.outbox("alice")) == 0


def test_a_new_message_prolongs_the_life_of_what_is_kept_for_a_while(hand: Hand) -> None:
    hand.page(start=Start("fresh", None, True))
    hand.acknowledge(hand.fill(3), window=1.0)
    hand.fill(1, retention=KEEP._replace(ttl=500.0))
    assert hand.client.pttl(hand.keys.outbox("alice")) > 400_000
