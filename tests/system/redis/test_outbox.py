"""Outboxes in Redis: storing, reading and dropping messages, and their order."""

import pytest
from msgspec.structs import replace
from redis.exceptions import ResponseError

from mesa_ws.backend.outbox import Read, Start
from mesa_ws.backend.redis import node_commands
from mesa_ws.messages.envelope import Retention
from mesa_ws.messages.receipt import Position
from tests.system.redis.script_runner import KEEP, ScriptRunner, bodies, envelope


def test_messages_are_numbered_and_read_in_order(runner: ScriptRunner) -> None:
    last = runner.fill(3)
    page = runner.page()
    assert (page.status, page.start, page.top, page.lost) == ("fresh", 0, 3, 0)
    assert [(entry.sequence, entry.body) for entry in page.entries] == [(1, b"1"), (2, b"2"), (3, b"3")]
    assert Position(page.epoch, page.last) == last


def test_no_two_outboxes_share_an_epoch(runner: ScriptRunner) -> None:
    receipt = runner.dispatch(["alice", "bob"])
    assert len({each.position.epoch for each in receipt.deliveries.values() if each.position}) == 2


@pytest.mark.parametrize("body", [b"", b"\0\xff" * 40, b'{"d":12345678901234567890,"e":[]}'])
def test_bodies_are_kept_as_they_are(runner: ScriptRunner, body: bytes) -> None:
    sent = envelope(body=body)
    runner.send(sent)
    assert [(entry.message_id, entry.body) for entry in runner.page().entries] == [(sent.message_id, body)]


def test_a_repeated_message_is_stored_for_those_who_miss_it(runner: ScriptRunner) -> None:
    sent = envelope(["alice"])
    first = runner.send(sent)
    both = runner.send(replace(sent, recipients=envelope(["alice", "bob"]).recipients))
    assert both.deliveries["alice"].position == first.deliveries["alice"].position
    assert [runner.known_head(id).top for id in ("alice", "bob")] == [1, 1]


def test_a_repeated_message_is_told_to_nobody_who_had_it(runner: ScriptRunner) -> None:
    runner.join("other")
    runner.attach("alice")
    runner.attach("bob", "other")
    sent = envelope(["alice"])
    runner.send(sent)
    assert runner.send(replace(sent, recipients=envelope(["alice", "bob"]).recipients)).nodes == 2
    assert runner.client.hgetall(runner.keys.counters) == {b"node": b"1", b"other": b"1"}


def test_a_remembered_message_that_is_not_stored_is_told_once(runner: ScriptRunner) -> None:
    runner.attach()
    sent = envelope(retention=None, idempotency_key="order 5")
    receipts = [runner.send(sent), runner.send(sent)]
    assert [each.deliveries["alice"].online for each in receipts] == [1, 1]
    assert runner.client.hget(runner.keys.counters, "node") == b"1"


@pytest.mark.parametrize("retention", [None, KEEP])
def test_a_remembered_message_to_everybody_is_told_once(
    runner: ScriptRunner, retention: Retention | None
) -> None:
    sent = envelope("*", retention=retention, idempotency_key="order 5")
    assert [runner.send(sent).nodes for _ in range(2)] == [1, 1]
    assert runner.client.hget(runner.keys.counters, "node") == b"1"


def test_a_message_that_came_unstored_is_not_stored_later(runner: ScriptRunner) -> None:
    sent = envelope(retention=None, idempotency_key="order 5")
    runner.send(sent)
    assert runner.send(replace(sent, retention=KEEP)).deliveries["alice"] == (False, 0, "offline", None, 0)


def test_what_is_remembered_under_a_key_of_another_type_is_forgotten(runner: ScriptRunner) -> None:
    sent = envelope()
    runner.client.set(runner.keys.done(sent.message_id), "what?", ex=60)
    assert [runner.send(sent).deliveries["alice"].stored for _ in range(2)] == [True, True]
    assert runner.known_head().top == 1


def test_many_recipients_get_it_once_each_however_often_it_is_repeated(runner: ScriptRunner) -> None:
    ids = [str(n) for n in range(450)]
    sent = envelope(ids)
    assert runner.send(sent).deliveries == runner.send(sent).deliveries
    assert {runner.known_head(id).top for id in ids} == {1}


def test_only_nodes_with_a_lease_are_told(runner: ScriptRunner) -> None:
    runner.attach()
    runner.kill()
    receipt = runner.dispatch()
    assert (receipt.nodes, receipt.deliveries["alice"].online, receipt.deliveries["alice"].stored) == (
        0,
        0,
        True,
    )
    assert runner.client.hkeys(runner.keys.user("alice")) == [b"node"]


def test_without_a_replica_nothing_is_stored_that_has_to_be_replicated(runner: ScriptRunner) -> None:
    for recipients in (["alice"], "*"):
        with pytest.raises(ResponseError, match="NOREPLICAS"):
            runner.dispatch(recipients, durability="replicated")
    assert runner.head() is None


# Caps and lives


def test_beyond_its_number_the_oldest_are_dropped_and_counted(runner: ScriptRunner) -> None:
    few = KEEP._replace(max_messages=3)
    runner.fill(3, retention=few)
    assert [runner.dispatch(retention=few).deliveries["alice"].displaced for _ in range(2)] == [1, 1]
    page = runner.page()
    assert (page.start, page.lost, len(page.entries)) == (2, 2, 3)
    assert runner.known_head().dropped == ((1, 2),)
    assert runner.client.hget(runner.keys.position("alice"), "d") == b"2"


@pytest.mark.parametrize(("max_bytes", "left"), [(9, 1), (10, 1), (11, 2), (12, 3), (18, 9), (19, 10)])
def test_beyond_its_bytes_the_oldest_are_dropped_and_counted(
    runner: ScriptRunner, max_bytes: int, left: int
) -> None:
    runner.fill(9)
    receipt = runner.dispatch(body=bytes(10), retention=KEEP._replace(max_bytes=max_bytes))
    assert receipt.deliveries["alice"].displaced == 10 - left
    assert (runner.known_head().length, runner.page().lost) == (left, 10 - left)


def test_the_newest_message_stays_whatever_its_size(runner: ScriptRunner) -> None:
    runner.fill(3)
    assert (
        runner.dispatch(body=bytes(100), retention=KEEP._replace(max_bytes=10)).deliveries["alice"].displaced
        == 3
    )
    assert bodies(runner.page()) == [bytes(100)]


def test_a_list_that_is_longer_than_its_numbers_is_set_aside_without_the_new_message(
    runner: ScriptRunner,
) -> None:
    first, outbox = runner.fill(2), runner.keys.outbox("alice")
    for raw in runner.client.lrange(outbox, 0, -1):
        runner.client.rpush(outbox, raw)
    position = runner.dispatch(body=b"new").deliveries["alice"].position
    assert position is not None
    assert (position.epoch != first.epoch, position.sequence) == (True, 1)
    assert bodies(runner.page()) == [b"new"]
    assert runner.client.llen(runner.keys.set_aside("alice")) == 4


def test_what_was_acknowledged_is_not_displaced(runner: ScriptRunner) -> None:
    runner.join("other")
    runner.page(node="other")  # has proven nothing, so that all stay
    runner.attach()
    last = runner.fill(3)
    assert runner.acknowledge(last._replace(sequence=2)) == 2
    assert runner.known_head().length == 3
    receipt = runner.dispatch(retention=KEEP._replace(max_messages=1))
    assert receipt.deliveries["alice"].displaced == 1
    assert runner.known_head().dropped == ((3, 3),)


def test_messages_whose_life_is_over_are_lost_when_somebody_comes(runner: ScriptRunner) -> None:
    runner.fill(3)
    for index in (0, 1):
        runner.age(index, expires=1)
    page = runner.page()
    assert (page.start, page.lost, bodies(page)) == (2, 2, [b"3"])
    assert runner.known_head().dropped == ((1, 2),)


def test_messages_whose_life_is_over_make_room_and_displace_nothing(runner: ScriptRunner) -> None:
    few = KEEP._replace(max_messages=3)
    runner.fill(3, retention=few)
    for index in (0, 1):
        runner.age(index, expires=1)
    assert runner.dispatch(retention=few).deliveries["alice"].displaced == 0
    assert (runner.known_head().length, runner.known_head().dropped) == (2, ((1, 2),))


def test_a_message_with_a_long_life_holds_those_behind_it(runner: ScriptRunner) -> None:
    runner.fill(2)
    runner.age(1, expires=1)
    assert bodies(runner.page()) == [b"1", b"2"]


def test_an_outbox_whose_life_is_over_leaves_its_numbers(runner: ScriptRunner) -> None:
    last = runner.fill(3)
    runner.client.delete(runner.keys.outbox("alice"))
    assert runner.known_head().dropped == ((1, 3),)
    page = runner.page()
    assert (page.epoch, page.start, page.lost, page.entries) == (last.epoch, 3, 3, ())
    assert runner.fill(1) == Position(last.epoch, 4)
    assert runner.known_head().dropped == ((1, 3),)


def test_ranges_of_dropped_messages_are_joined_and_few(runner: ScriptRunner) -> None:
    for _ in range(12):
        last = runner.fill(2, retention=KEEP._replace(max_messages=1))
        runner.attach()
        runner.acknowledge(last)
    assert runner.known_head().dropped == tuple((n, n) for n in range(9, 25, 2))


def test_a_shorter_life_does_not_shorten_that_of_earlier_messages(runner: ScriptRunner) -> None:
    runner.fill(1, retention=KEEP._replace(ttl=1000.0))
    runner.fill(1, retention=KEEP._replace(ttl=1.0))
    assert runner.client.pttl(runner.keys.outbox("alice")) > 900_000
    assert runner.client.pttl(runner.keys.position("alice")) > 86_400_000 + 900_000


# Pages


def test_a_page_has_at_most_256_messages(runner: ScriptRunner) -> None:
    last = runner.fill(300)
    first = runner.page()
    assert (len(first.entries), first.has_more) == (256, True)
    second = runner.resume(Position(first.epoch, first.last))
    assert (second.status, second.start, len(second.entries), second.last) == (
        "resumed",
        256,
        44,
        last.sequence,
    )


def test_a_page_is_bounded_by_bytes_and_has_at_least_one_message(runner: ScriptRunner) -> None:
    for size in (300_000, 100_000, 100_000, 100_000):
        runner.dispatch(body=bytes(size))
    page = runner.page()
    sizes = [len(page.entries)]
    while page.has_more:
        page = runner.resume(Position(page.epoch, page.last))
        sizes.append(len(page.entries))
    assert sizes == [1, 2, 1]


def test_one_call_reads_few_full_pages_and_leaves_the_rest_for_later(runner: ScriptRunner) -> None:
    ids = [str(n) for n in range(12)]
    for id in ids:
        runner.attach(id)
        runner.dispatch([id], bytes(250_000))
    epochs = [runner.known_head(id).epoch for id in ids]
    reads = [Read(id, Position(epoch, 0)) for id, epoch in zip(ids, epochs, strict=True)]
    (call,) = runner.node_commands().read(reads)
    answers = node_commands.answers(runner.run(call))
    assert answers is not None
    assert [len(answer.page.entries) for answer in answers] == [1] * 9 + [0] * 3
    assert [answer.page.has_more for answer in answers] == [False] * 9 + [True] * 3


def test_reading_takes_a_lease_and_records_nothing(runner: ScriptRunner) -> None:
    last = runner.fill(2)
    (call,) = runner.node_commands().read([Read("alice", last._replace(sequence=1))])
    answers = node_commands.answers(runner.run(call))
    assert answers is not None
    assert bodies(answers[0].page) == [b"2"]
    assert runner.client.exists(runner.keys.user("alice")) == 0
    runner.kill()
    assert node_commands.answers(runner.run(call)) == []


@pytest.mark.parametrize(("mode", "acknowledged"), [("top", 0), ("acknowledge", 3)])
def test_who_wants_nothing_stored_starts_at_the_top(
    runner: ScriptRunner, mode: str, acknowledged: int
) -> None:
    runner.fill(3)
    page = runner.page(start=Start(mode))  # type: ignore[arg-type]
    assert (page.status, page.start, page.lost, page.entries) == ("fresh", 3, 0, ())
    assert runner.known_head().acknowledged == acknowledged


# Acknowledging


def test_what_was_acknowledged_leaves(runner: ScriptRunner) -> None:
    runner.page()
    last = runner.fill(3)
    assert runner.acknowledge(last._replace(sequence=2)) == 2
    assert bodies(runner.page()) == [b"3"]
    assert runner.acknowledge(last) == 3
    assert runner.client.exists(runner.keys.outbox("alice")) == 0
    assert runner.known_head().dropped == ()


def test_an_acknowledgement_never_falls(runner: ScriptRunner) -> None:
    runner.page()
    last = runner.fill(3)
    assert [runner.acknowledge(last._replace(sequence=n)) for n in (2, 1)] == [2, 2]


def test_what_was_never_sent_is_not_acknowledged(runner: ScriptRunner) -> None:
    runner.page()
    last = runner.fill(3)
    foreign = runner.fill(3, "bob")
    made_up = [last._replace(sequence=4), foreign, Position("0" * 16, 1), Position("é,:", 1), Position("", 1)]
    assert [runner.acknowledge(position) for position in made_up] == [-1] * 5
    assert runner.acknowledge(last._replace(sequence=-1)) == -1
    assert runner.acknowledge(last._replace(sequence=10**30)) == -1
    assert (runner.known_head().acknowledged, runner.known_head().length) == (0, 3)


def test_what_another_node_may_still_need_stays(runner: ScriptRunner) -> None:
    runner.join("slow")
    runner.page(node="slow")
    runner.page()
    last = runner.fill(3)
    runner.acknowledge(last)
    assert runner.known_head()[2:4] == (3, 3)
    runner.acknowledge(last, 1, node="slow")
    assert runner.known_head().length == 2
    runner.kill("slow")
    runner.acknowledge(last)
    assert runner.known_head().length == 0


def test_a_node_that_starts_further_back_holds_messages(runner: ScriptRunner) -> None:
    runner.join("slow")
    runner.page(start=Start("fresh", None, True))
    last = runner.fill(3)
    runner.acknowledge(last, window=120.0)
    runner.page("alice", Start("resume", last._replace(sequence=1), True), "slow")
    for index in range(3):
        runner.age(index, at=1)
    runner.acknowledge(last)
    assert bodies(runner.resume(last._replace(sequence=1))) == [b"2", b"3"]


def test_a_slower_connection_on_the_same_node_lowers_its_floor(runner: ScriptRunner) -> None:
    runner.page()
    last = runner.fill(3)
    runner.acknowledge(last, 2)
    runner.resume(last._replace(sequence=2))
    runner.page()
    assert runner.client.hget(runner.keys.user("alice"), "node").split()[2] == b"2"  # type: ignore[union-attr]


def test_a_floor_that_does_not_know_the_newest_connection_is_not_taken(runner: ScriptRunner) -> None:
    runner.page()
    last = runner.fill(3)
    runner._versions -= 1
    assert runner.acknowledge(last) == 3
    assert runner.known_head().length == 3


def test_a_node_whose_floor_is_of_another_epoch_has_nothing(runner: ScriptRunner) -> None:
    runner.join("other")
    runner.page(node="other")
    runner.page()
    runner.fill(2)
    runner.restart()
    last = runner.fill(1)
    runner.acknowledge(last)
    assert runner.known_head()[2:4] == (3, 3)


def test_wire_2_clients_find_what_was_acknowledged_for_a_while(runner: ScriptRunner) -> None:
    runner.page(start=Start("fresh", None, True))
    last = runner.fill(3)
    runner.acknowledge(last)
    assert 0 < runner.client.pttl(runner.keys.outbox("alice")) <= 120_000
    assert bodies(runner.resume(last._replace(sequence=0), is_wire2=True)) == [b"1", b"2", b"3"]
    assert runner.client.pttl(runner.keys.outbox("alice")) > 120_000, "it does not end under who reads it"
    assert runner.page().entries == ()


def test_after_that_while_it_leaves(runner: ScriptRunner) -> None:
    runner.page(start=Start("fresh", None, True))
    last = runner.fill(6)
    for index in range(4):
        runner.age(index, at=1)
    runner.acknowledge(last)
    assert bodies(runner.resume(last._replace(sequence=0))) == [b"5", b"6"]
    assert runner.resume(last._replace(sequence=0)).lost == 4
    assert runner.known_head().dropped == ()


def test_without_a_window_it_leaves_at_once(runner: ScriptRunner) -> None:
    runner.page(start=Start("fresh", None, True))
    runner.acknowledge(runner.fill(3), window=0.0)
    assert runner.client.exists(runner.keys.outbox("alice")) == 0


def test_a_new_message_prolongs_the_life_of_what_is_kept_for_a_while(runner: ScriptRunner) -> None:
    runner.page(start=Start("fresh", None, True))
    runner.acknowledge(runner.fill(3), window=1.0)
    runner.fill(1, retention=KEEP._replace(ttl=500.0))
    assert runner.client.pttl(runner.keys.outbox("alice")) > 400_000
