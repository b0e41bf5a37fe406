"""What one connection is sent of what is stored, and what of it is proven."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mesa_ws.backend.outbox import Entry, Page
from mesa_ws.messages.receipt import Position
from mesa_ws.protocol.cursor import (
    MAX_MARKS,
    BroadcastCursor,
    Cursor,
    Offered,
    OutboxCursor,
    OutOfTurn,
    Progress,
)
from mesa_ws.protocol.resume import ResumeState

BIG = 10**9


def page(status: str = "fresh", epoch: str = "e", start: int = 0, count: int = 0, **more: int) -> Page:
    """A page of `count` messages after `start`, the last of which is the top unless told otherwise."""
    entries = tuple(Entry(start + 1 + i, "m", b"body") for i in range(count))
    top = more.get("top", start + count)
    return Page(status, epoch, start, top, more.get("lost", 0), entries)  # type: ignore[arg-type]


def replay(
    start: int = 0, *, is_wire2: bool = False, max_messages: int = BIG, max_bytes: int = BIG
) -> OutboxCursor:
    """One that has had its first page, without messages."""
    made = OutboxCursor(is_wire2=is_wire2, max_messages=max_messages, max_bytes=max_bytes)
    made.on_page(page(start=start))
    return made


def offer(cursor: Cursor, *sequences: int, epoch: str = "e", size: int = 0) -> list[Offered]:
    return [cursor.offer(Position(epoch, sequence), size) for sequence in sequences]


WRITE, SKIP, HOLD = Offered.WRITE, Offered.SKIP, Offered.HOLD


# The way from the login to the newest message.


def test_before_the_first_page_offers_are_held() -> None:
    cursor = OutboxCursor(is_wire2=True)
    assert offer(cursor, 1, 7) == [HOLD, HOLD]
    assert (cursor.progress, cursor.wants_read) == (Progress.WAITING, False)


def test_after_the_first_page_what_was_held_is_written_or_was_on_it() -> None:
    cursor = OutboxCursor(is_wire2=True)
    assert cursor.on_page(page(start=3, count=2)) is False
    assert [cursor.on_sent(), cursor.on_sent()] == [4, 5]
    assert offer(cursor, 4, 5, 6, 7) == [SKIP, SKIP, WRITE, WRITE]
    assert (cursor.progress, cursor.sent) == (Progress.LIVE, 7)


def test_several_offers_are_written_together_or_none_is() -> None:
    cursor = BroadcastCursor()
    assert not cursor.offer_all(Position("", 1), 1), "before the first page"
    cursor.on_page(page())
    assert not cursor.offer_all(Position("e", 2), 1)
    assert not cursor.offer_all(Position("f", 1), 1)
    assert cursor.offer_all(Position("e", 1), 3)
    assert (cursor.sent, offer(cursor, 3, 4)) == (3, [SKIP, WRITE])


def test_an_empty_page_needs_no_writing() -> None:
    cursor = replay(start=5)
    assert (cursor.progress, cursor.sent, cursor.acked) == (Progress.LIVE, 5, 5)


def test_while_a_page_is_written_it_is_not_overtaken() -> None:
    cursor = OutboxCursor(is_wire2=True)
    cursor.on_page(page(count=2))
    cursor.on_sent()
    assert offer(cursor, 2) == [SKIP], "it is on the page"
    cursor.on_sent()
    assert (cursor.progress, cursor.sent) == (Progress.LIVE, 2)


def test_what_is_offered_beyond_a_page_that_is_being_written_is_read_afterwards() -> None:
    cursor = OutboxCursor(is_wire2=True)
    cursor.on_page(page(count=2))
    assert offer(cursor, 3) == [SKIP]
    assert not cursor.wants_read
    cursor.on_sent()
    cursor.on_sent()
    assert cursor.begin_read() == Position("e", 2)


def test_a_page_that_is_not_the_last_one_is_followed_by_another() -> None:
    cursor = OutboxCursor(is_wire2=True)
    cursor.on_page(page(count=2, top=3))
    cursor.on_sent()
    cursor.on_sent()
    assert offer(cursor, 4) == [SKIP], "the next page brings it"
    assert cursor.begin_read() == Position("e", 2)
    assert offer(cursor, 5) == [HOLD]
    assert cursor.on_page(page("resumed", start=2, count=2)) is False
    assert [cursor.on_sent(), cursor.on_sent(), *offer(cursor, 5)] == [3, 4, WRITE]


def test_a_page_that_nobody_asked_for_is_refused() -> None:
    with pytest.raises(OutOfTurn, match="a page: not while live"):
        replay().on_page(page())


def test_more_than_the_page_holds_cannot_be_written() -> None:
    with pytest.raises(OutOfTurn, match="a message of a page: not while live"):
        replay().on_sent()


# Falling behind, and catching up.


def test_a_gap_is_read_and_nothing_is_written_before() -> None:
    cursor = replay()
    assert offer(cursor, 2, 1, 3) == [SKIP, SKIP, SKIP]
    assert cursor.progress is Progress.BEHIND
    assert cursor.begin_read() == Position("e", 0)
    assert (cursor.begin_read(), cursor.wants_read) == (None, False)
    cursor.on_page(page("resumed", count=3))
    assert [cursor.on_sent() for _ in range(3)] == [None] * 3
    assert offer(cursor, 2, 3, 4) == [SKIP, SKIP, WRITE]


def test_what_was_written_is_no_gap() -> None:
    cursor = replay(start=5)
    assert offer(cursor, 3, 5, 6) == [SKIP, SKIP, WRITE]
    assert cursor.progress is Progress.LIVE


def test_another_epoch_is_read_from_where_the_old_one_stood() -> None:
    cursor = replay(start=5)
    assert offer(cursor, 6, epoch="f") == [SKIP]
    assert cursor.begin_read() == Position("e", 5)


def test_doubt_leads_to_a_read() -> None:
    cursor = replay(start=5)
    cursor.invalidate()
    assert cursor.begin_read() == Position("e", 5)
    assert cursor.on_page(page("resumed", start=5)) is False
    assert offer(cursor, 6) == [WRITE]


@pytest.mark.parametrize("count", [0, 1])
def test_doubt_during_a_read_leads_to_another_one(count: int) -> None:
    cursor = OutboxCursor(is_wire2=True)
    cursor.invalidate()
    assert not cursor.wants_read
    cursor.on_page(page(count=count))
    for _ in range(count):
        cursor.on_sent()
    assert cursor.begin_read() == Position("e", count)


def test_a_read_that_failed_is_wanted_again() -> None:
    cursor = replay()
    cursor.invalidate()
    cursor.begin_read()
    cursor.abandon_read()
    assert cursor.begin_read() == Position("e", 0)


def test_giving_up_a_read_that_came_changes_nothing() -> None:
    cursor = replay()
    cursor.abandon_read()
    assert (cursor.progress, cursor.wants_read) == (Progress.LIVE, False)


def test_a_congested_client_is_written_nothing_and_reads_what_it_missed() -> None:
    cursor = replay()
    cursor.congested()
    assert offer(cursor, 1, 2) == [SKIP, SKIP]
    assert not cursor.wants_read
    cursor.relieved()
    assert cursor.begin_read() == Position("e", 0)


def test_a_congested_client_that_missed_nothing_reads_nothing() -> None:
    cursor = replay(start=1)
    cursor.congested()
    assert offer(cursor, 1) == [SKIP]
    cursor.relieved()
    assert offer(cursor, 2) == [WRITE]


@pytest.mark.parametrize("is_relieved_first", [True, False])
def test_a_page_that_comes_while_congested_is_written_and_no_more(is_relieved_first: bool) -> None:
    cursor = OutboxCursor(is_wire2=True)
    cursor.congested()
    if is_relieved_first:
        cursor.relieved()
    cursor.on_page(page(count=1))
    cursor.on_sent()
    assert offer(cursor, 2) == [WRITE if is_relieved_first else SKIP]


# What the client learns.


@pytest.mark.parametrize(
    ("next_page", "must_tell"),
    [
        (page("resumed", start=5, count=1), False),
        (page("resumed", start=7, count=1, lost=2), True),
        (page("resumed", "f", start=5, count=1), True),
        (page("forked", "f", start=4, count=1), True),
        (page("reset", "f", start=2, count=1), True),
        (page("reset", start=2, count=1), True),
        (page("fresh", "f", start=0), True),
    ],
)
def test_a_client_is_told_of_whatever_does_not_follow(next_page: Page, must_tell: bool) -> None:
    cursor = replay(start=5)
    cursor.invalidate()
    cursor.begin_read()
    assert cursor.on_page(next_page) is must_tell
    assert (cursor.epoch, cursor.sent) == (next_page.epoch, next_page.start)


@pytest.mark.parametrize("status", ["fresh", "resumed", "forked", "reset"])
def test_the_first_page_is_told_with_the_acknowledgement(status: str) -> None:
    assert OutboxCursor(is_wire2=True).on_page(page(status, lost=3)) is False


def test_a_standing_is_what_a_page_says_of_it() -> None:
    assert ResumeState.of(page("forked", "f", 4, 2, lost=1)) == ResumeState("forked", "f", 4, 1)


def test_messages_to_everybody_are_numbered_as_they_are_stored() -> None:
    cursor = BroadcastCursor()
    cursor.on_page(page(start=7, count=2))
    assert [cursor.on_sent(), cursor.on_sent(), *offer(cursor, 10)] == [8, 9, WRITE]


# Numbers for clients of wire 1.


def test_wire_1_counts_what_was_stored_before_the_login() -> None:
    cursor = OutboxCursor(is_wire2=False)
    cursor.on_page(page(start=40, count=2, top=43))
    numbers = [cursor.on_sent(), cursor.on_sent()]
    cursor.begin_read()
    cursor.on_page(page("resumed", start=42, count=3))
    assert [*numbers, *(cursor.on_sent() for _ in range(3))] == [1, 2, 3, None, None]


def test_wire_1_counts_on_where_messages_were_dropped() -> None:
    cursor = OutboxCursor(is_wire2=False)
    cursor.on_page(page(count=1, top=9))
    numbers = [cursor.on_sent()]
    cursor.begin_read()
    cursor.on_page(page("resumed", start=7, count=2, lost=6))
    assert [*numbers, cursor.on_sent(), cursor.on_sent()] == [1, 2, 3]


def test_wire_1_counts_no_more_in_another_epoch() -> None:
    cursor = OutboxCursor(is_wire2=False)
    cursor.on_page(page(count=1, top=9))
    cursor.on_sent()
    cursor.begin_read()
    cursor.on_page(page("forked", "f", start=1, count=1))
    assert cursor.on_sent() is None


# Proof.


def test_wire_1_proves_by_answers_what_was_written_before_the_question() -> None:
    cursor = replay()
    offer(cursor, 1, 2)
    assert cursor.needs_probe
    cursor.on_probe(1)
    assert (cursor.needs_probe, cursor.awaits_answer) == (False, True)
    offer(cursor, 3)
    assert cursor.needs_probe
    assert cursor.on_answer(1) is True
    assert (cursor.position, cursor.awaits_answer) == (Position("e", 2), False)


def test_a_page_that_is_being_written_is_proven_as_far_as_it_was() -> None:
    cursor = OutboxCursor(is_wire2=False)
    cursor.on_page(page(count=2))
    cursor.on_sent()
    cursor.on_probe(1)
    cursor.on_sent()
    cursor.on_answer(1)
    assert cursor.acked == 1


def test_a_question_is_not_asked_twice() -> None:
    cursor = replay()
    offer(cursor, 1)
    cursor.on_probe(1)
    offer(cursor, 2)
    cursor.on_probe(1)
    cursor.on_answer(1)
    assert cursor.acked == 1


def test_a_question_about_nothing_is_not_one_about_what_follows() -> None:
    cursor = replay()
    cursor.on_probe(1)
    offer(cursor, 1)
    cursor.on_probe(1)
    assert (cursor.on_answer(1), cursor.acked) == (False, 0)


def test_an_answer_covers_earlier_questions() -> None:
    cursor = replay()
    for token in (1, 2, 3):
        offer(cursor, token)
        cursor.on_probe(token)
    assert [cursor.on_answer(2), cursor.on_answer(1), cursor.acked] == [True, False, 2]


def test_questions_that_are_remembered_are_bounded_and_their_answers_stay_true() -> None:
    cursor = replay()
    for token in range(1, MAX_MARKS + 5):
        offer(cursor, token)
        cursor.on_probe(token)
    cursor.on_answer(MAX_MARKS + 4)
    assert cursor.acked == MAX_MARKS


def test_a_client_that_is_not_trusted_proves_nothing_and_is_not_asked() -> None:
    cursor = replay()
    offer(cursor, 1)
    cursor.on_probe(1)
    cursor.distrust()
    offer(cursor, 2)
    assert (cursor.needs_probe, cursor.on_answer(1), cursor.acked) == (False, False, 0)


def test_wire_2_proves_by_acknowledgements() -> None:
    cursor = replay(is_wire2=True)
    offer(cursor, 1, 2, 3)
    assert cursor.on_ack(Position("e", 2)) is True
    assert cursor.position == Position("e", 2)


@pytest.mark.parametrize(
    "position", [Position("e", 4), Position("f", 2), Position("e", 1), Position("e", 0), Position("", 0)]
)
def test_an_acknowledgement_of_what_was_not_sent_or_was_proven_is_ignored(position: Position) -> None:
    cursor = replay(is_wire2=True)
    offer(cursor, 1, 2, 3)
    cursor.on_ack(Position("e", 1))
    assert (cursor.on_ack(position), cursor.acked) == (False, 1)


def test_on_wire_2_answers_prove_nothing() -> None:
    cursor = replay(is_wire2=True)
    offer(cursor, 1)
    cursor.on_probe(1)
    assert (cursor.needs_probe, cursor.on_answer(1), cursor.acked) == (False, False, 0)
    cursor.distrust()
    assert cursor.on_ack(Position("e", 1)) is True


@pytest.mark.parametrize(("fork", "acked", "answered"), [(1, 1, 1), (2, 2, 2), (3, 2, 3), (4, 2, 3)])
def test_what_is_proven_does_not_reach_beyond_a_fork(fork: int, acked: int, answered: int) -> None:
    cursor = replay()
    offer(cursor, 1, 2)
    cursor.on_probe(1)
    cursor.on_answer(1)
    offer(cursor, 3)
    cursor.on_probe(2)
    offer(cursor, 4)
    cursor.invalidate()
    cursor.begin_read()
    cursor.on_page(page("forked", "f", start=fork))
    assert cursor.position == Position("f", acked)
    cursor.on_answer(2)
    assert cursor.position == Position("f", answered)


def test_after_a_reset_nothing_that_was_asked_before_counts() -> None:
    cursor = replay()
    offer(cursor, 1, 2)
    cursor.on_probe(1)
    cursor.invalidate()
    cursor.begin_read()
    cursor.on_page(page("reset", "f", start=0, count=5))
    for _ in range(5):
        cursor.on_sent()
    assert (cursor.on_answer(1), cursor.position) == (False, Position("f", 0))
    assert cursor.needs_probe


# The window.


def test_more_messages_than_the_window_wait_for_a_proof() -> None:
    cursor = replay(is_wire2=True, max_messages=2)
    assert offer(cursor, 1, 2, 3, 4) == [WRITE, WRITE, SKIP, SKIP]
    assert (cursor.progress, cursor.wants_read) == (Progress.BEHIND, False)
    cursor.on_ack(Position("e", 1))
    assert cursor.begin_read() == Position("e", 2)


def test_more_bytes_than_the_window_wait_for_a_proof() -> None:
    cursor = replay(max_bytes=100)
    assert offer(cursor, 1, size=60) == [WRITE]
    cursor.on_probe(1)
    assert offer(cursor, 2, 3, size=60) == [WRITE, SKIP]
    assert cursor.begin_read() is None
    cursor.on_answer(1)
    assert cursor.begin_read() == Position("e", 2)
    cursor.on_page(page("resumed", start=2, count=1))
    cursor.on_sent(30)
    cursor.on_probe(2)
    assert offer(cursor, 4, 5, size=60) == [WRITE, SKIP], "10 bytes were left"
    cursor.on_answer(2)
    assert cursor.wants_read


def test_bytes_do_not_matter_on_wire_2() -> None:
    assert offer(replay(is_wire2=True, max_bytes=1), 1, 2, size=9) == [WRITE, WRITE]


def test_a_client_that_is_not_trusted_does_not_wait_for_a_proof() -> None:
    cursor = replay(max_messages=1, max_bytes=1)
    assert offer(cursor, 1, 2, size=9) == [WRITE, SKIP]
    cursor.distrust()
    assert cursor.begin_read() == Position("e", 1)
    cursor.on_page(page("reset", "f", start=1))
    assert offer(cursor, 2, 3, epoch="f", size=9) == [WRITE, WRITE]


def test_a_reset_makes_room() -> None:
    cursor = replay(max_messages=1, max_bytes=1)
    offer(cursor, 1, size=9)
    cursor.on_probe(1)
    cursor.invalidate()
    assert cursor.begin_read() is None
    cursor.on_answer(1)
    cursor.begin_read()
    cursor.on_page(page("reset", "f", start=9))
    assert offer(cursor, 10, 11, epoch="f", size=1) == [WRITE, SKIP]


# Any order of events: what is stored arrives once and in order, or the client learns of it.


class Message(NamedTuple):
    epoch: str
    sequence: int


class Delivery(RuleBasedStateMachine):
    """An outbox that loses hints, drops messages and forks, a connection, and the client behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[tuple[str, int]] = [("e0", 0)]  # each with the sequence that it began after
        self.top = 0
        self.dropped = 0
        self.acknowledged = 0
        self.cursor = OutboxCursor(is_wire2=True, max_messages=6)
        self.held: list[Position] = []
        self.is_asked: Position | None = None
        self.page: list[int] = []
        self.received: list[Message] = []
        self.at = Position("e0", 0)

    @property
    def epoch(self) -> str:
        return self.epochs[-1][0]

    def arrive(self, sequence: int) -> None:
        """The client gets the next message, of the epoch that it was told."""
        assert sequence == self.at.sequence + 1, "a hole, or a message that it had"
        self.at = Position(self.at.epoch, sequence)
        self.received.append(Message(self.at.epoch, sequence))

    def offer(self, position: Position) -> None:
        match self.cursor.offer(position):
            case Offered.WRITE:
                assert position.epoch == self.at.epoch
                self.arrive(position.sequence)
            case Offered.HOLD:
                self.held.append(position)

    @rule(is_lost=st.booleans())
    def dispatch(self, is_lost: bool) -> None:
        self.top += 1
        if is_lost:
            self.cursor.invalidate()  # the link notices
        else:
            self.offer(Position(self.epoch, self.top))

    @rule(back=st.integers(0, 3))
    def fail_over(self, back: int) -> None:
        self.top = max(self.dropped, self.top - back)
        self.acknowledged = min(self.acknowledged, self.top)
        self.epochs.append((f"e{len(self.epochs)}", self.top))

    @rule()
    def repeat_a_hint(self) -> None:
        self.offer(Position(self.epoch, self.top))

    @precondition(lambda self: self.top > self.dropped)
    @rule()
    def drop(self) -> None:
        self.dropped += 1

    @rule(change=st.sampled_from([Cursor.invalidate, Cursor.congested, Cursor.relieved]))
    def change(self, change: Callable[[Cursor], None]) -> None:
        change(self.cursor)

    @rule()
    def begin_read(self) -> None:
        position = self.cursor.begin_read()
        if position is not None:
            self.held.clear()
            self.is_asked = position

    @precondition(lambda self: self.cursor.progress is Progress.WAITING and not self.page)
    @rule(limit=st.integers(1, 3))
    def answer(self, limit: int) -> None:
        found = self.found(limit)
        must_tell = self.cursor.on_page(found)
        if must_tell or self.is_asked is None:
            self.at = Position(found.epoch, found.start)
        self.page = [entry.sequence for entry in found.entries]
        self.write()

    def found(self, limit: int) -> Page:
        """The page that a backend finds; see its port."""
        wanted, status = self.acknowledged, "fresh"
        if self.is_asked is not None:
            ends = {epoch: end for (epoch, _), (_, end) in zip(self.epochs, self.epochs[1:], strict=False)}
            status = "resumed" if self.is_asked.epoch == self.epoch else "forked"
            wanted = self.is_asked.sequence
            for epoch, _ in self.epochs[[e for e, _ in self.epochs].index(self.is_asked.epoch) : -1]:
                wanted = min(wanted, ends[epoch])
        start = max(wanted, self.dropped)
        count = min(limit, self.top - start)
        return page(status, self.epoch, start, count, top=self.top, lost=start - wanted)

    @precondition(lambda self: self.cursor.progress is Progress.WAITING and self.is_asked is not None)
    @rule()
    def fail(self) -> None:
        self.held.clear()
        self.cursor.abandon_read()

    @precondition(lambda self: self.page)
    @rule()
    def write(self) -> None:
        while self.page:
            number = self.cursor.on_sent()
            assert number == self.page.pop(0)
            self.arrive(number)
        held, self.held = self.held, []
        for position in held:
            self.offer(position)

    @rule(back=st.integers(0, 3))
    def acknowledge(self, back: int) -> None:
        if (
            self.cursor.on_ack(Position(self.at.epoch, self.at.sequence - back))
            and self.at.epoch == self.epoch
        ):
            self.acknowledged = max(self.acknowledged, self.cursor.acked)

    @invariant()
    def sent_is_what_the_client_has(self) -> None:
        if self.cursor.epoch:
            assert Position(self.cursor.epoch, self.cursor.sent) == self.at

    @invariant()
    def what_is_live_is_complete(self) -> None:
        if self.cursor.progress is Progress.LIVE and self.cursor.epoch == self.epoch:
            assert self.cursor.sent == self.top

    def teardown(self) -> None:
        """Once nothing more happens, the client gets there."""
        self.cursor.relieved()
        self.cursor.invalidate()
        for _ in range(3 * self.top + 9):
            self.begin_read()
            if self.cursor.progress is Progress.WAITING:
                self.answer(limit=3)
            self.cursor.on_ack(self.at)
        assert self.at == Position(self.epoch, self.top)


def test_whatever_happens_nothing_is_missing_or_twice() -> None:
    run_state_machine_as_test(Delivery)
