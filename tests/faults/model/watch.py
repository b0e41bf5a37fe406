"""Runs scripts, and after each compares the whole of Redis, and the reply, with what they have to be."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from itertools import dropwhile

from mesa_ws.backend.outbox import Acknowledgement
from mesa_ws.backend.redis.node_commands import Pulse
from mesa_ws.messages.envelope import Retention
from mesa_ws.messages.receipt import Position

from .calls import LEASE_MS, PAGE_ENTRIES, Calls, Page, Wish
from .store import Store
from .truth import SLACK_MS, Around, Message, Seen, Step, Truth

IDS = ("ann", "bob")

BOXES = (*IDS, "*")
"""What is kept for everybody looks like what is kept for an id; nobody acknowledges it."""


class Watch:
    """The scripts, with everything that is known about the ids.

    Args:
        store: where they run.
        window_ms: for how long what is acknowledged is kept for clients that come back.
        proven: tells what the living connections of an id on a node have proven.

    Attributes:
        handled: by id, names of the messages that some device handed to its application.
    """

    def __init__(
        self, store: Store, window_ms: int, proven: Callable[[str, str], Sequence[Position]]
    ) -> None:
        self._store = store
        self._calls = Calls(store, window_ms)
        self._window = window_ms
        self._proven = proven
        self._truths = {id: Truth(id) for id in BOXES}
        self._meanings: dict[tuple[str, Position], str] = {}
        self._whole = self._calls.inspect(BOXES)
        self._runs = 0
        self._runs_of: dict[str, int] = {}  # in which an epoch was seen first
        self._patience: dict[str, float] = {}
        self._heard_at = store.now_ms
        self._is_new_run = False
        self._heir: Watch | None = None
        self._ever_given: dict[str, set[str]] = {id: set() for id in BOXES}
        self.handled: dict[str, set[str]] = {id: set() for id in BOXES}

    def seen(self, id: str) -> Seen | None:
        """The outbox of an id as it was looked at last."""
        return self._truths[id].seen

    def holds(self, node: str, id: str) -> bool:
        """Whether Redis believes a node to hold an id."""
        return node in self._whole.seats[id]

    def knows(self, message: Message, id: str) -> bool:
        """Whether a message was stored for an id, and that was not rolled back."""
        return message.message_id in self._truths[id].places

    def remember(self) -> dict[str, Truth]:
        """All that is true now."""
        return deepcopy(self._truths)

    def go_back(self, truths: Mapping[str, Truth]) -> None:
        """Redis holds what it held when `truths` were remembered."""
        self._truths = deepcopy(dict(truths))
        self.begin_run()
        self.forget_heartbeats()
        for id, truth in self._truths.items():
            truth.rolled_back |= self._ever_given[id] - truth.given.keys()
        self.look()

    def forget_heartbeats(self) -> None:
        """Redis holds older leases than those that were seen; how old is not known."""
        self._patience = dict.fromkeys(self._patience, LEASE_MS)

    def fork(self, store: Store) -> "Watch":
        """Another master begins with all that this one holds, and never knows what happens here."""
        heir = Watch(store, self._window, self._proven)
        heir._meanings, heir._ever_given, heir.handled = self._meanings, self._ever_given, self.handled
        heir._patience = self._patience
        heir._runs, heir._runs_of = self._runs, self._runs_of
        self._heir = heir
        heir.go_back(self._truths)
        return heir

    def begin_run(self) -> None:
        """Redis begins another run of numbers, and nobody has been missed in it yet."""
        self._runs += 1
        self._is_new_run = True

    def change_replication_id(self) -> None:
        """Redis gets another replication id, and nothing else."""
        self._store.change_id(self._calls.runs)

    def announce(self, message: Message, retention: Retention, remember_ms: int) -> bool:
        """Store a message for everybody unless it is known; False when Redis is full."""
        is_known = self.knows(message, "*")
        position = self._calls.announce(message, retention, remember_ms)
        if position is None:
            self.look()
            return False
        stored = Message(message.message_id, _NOBODY_LEFT_OUT + message.body)
        self.look(**{"*": Step(() if is_known else (stored,), retention.max_messages, retention.max_bytes)})
        assert position == self._truths["*"].places[message.message_id], f"{message} is at {position}"
        return True

    def broadcasts(self, position: Position | None) -> Position:
        """Read messages to everybody, and return where the page ends."""
        page = self._calls.broadcasts(position)
        self.look(**{"*": Step()})
        seen = self.seen("*")
        assert seen is not None
        self._check_rollback("*", position or Position("", 0), page)
        carried = seen.translate(position) if position else None
        status = "fresh" if position is None else "reset" if carried is None else "forked"
        status = "resumed" if position and position.epoch == seen.epoch and carried is not None else status
        self._check_read(page, (status, seen.top if carried is None else carried), "*")
        return Position(page.epoch, page.start + len(page.entries))

    def look(self, **steps: Step) -> None:
        """Compare Redis with what it has to hold after `steps` for some ids."""
        self._whole = self._calls.inspect(BOXES)
        assert not self._whole.endless, f"keys without an end: {self._whole.endless}"
        now = self._store.now_ms
        for id, truth in self._truths.items():
            seen, step = self._whole.boxes[id], steps.get(id)
            if seen is not None:
                self._runs_of.setdefault(seen.epoch, self._runs)
            window = self._window if truth.uses_wire2 else 0
            around = Around(now, self.handled[id], self._proven_now(id), window)
            truth.observe(seen, step or Step(), around)
            if step:
                truth.use(now)
            for sequence, stored in seen.entries.items() if seen else ():
                self.means(id, Position(seen.epoch, sequence) if seen else None, stored.message.message_id)

    def means(self, id: str, position: Position | None, message_id: str) -> None:
        """A position was seen to stand for a message; it never stands for another one."""
        assert position is not None
        known = self._meanings.setdefault((id, position), message_id)
        assert known == message_id, f"{id}: {position} is {known} and {message_id}"

    def dispatch(self, message: Message, id: str, retention: Retention, remember_ms: int) -> bool:
        """Store a message for an id unless it is known; False when Redis is full."""
        known, before = self.knows(message, id), self.seen(id)
        result = self._calls.dispatch(message, id, retention, remember_ms)
        if result is None:
            self.look()
            return False
        step = (
            Step((), 0, 0)
            if known
            else Step((message,), retention.max_messages, retention.max_bytes, must_count=True)
        )
        self.look(**{id: step})
        truth = self._truths[id]
        if before is None and self._store.now_ms < truth.wire2_until:
            truth.uses_wire2 = True
        assert result.position == truth.places[message.message_id], f"{id}: {result} for {message}"
        if known or before is None or truth.seen is None:
            assert result.displaced == 0
        else:
            room = dropwhile(lambda each: each[1].expires <= self._store.now_ms, before.entries.items())
            gone = [at for at, _ in room if before.acknowledged < at <= truth.seen.base]
            assert result.displaced == len(gone), f"{id}: {result}, but {gone} are gone"
        return True

    def attach(self, node: str, wish: Wish) -> Page | bool | None:
        """Register and read; False without a lease, None when nothing is read."""
        has_lease = self._has_lease(node)
        reply = self._calls.attach(node, wish)
        assert (reply is not None) == has_lease, f"{node} attached: {reply}, though its lease: {has_lease}"
        if reply is None:
            self.look()
            return False
        if wish.wire2:
            self._truths[wish.id].uses_wire2 = True
        before = self.seen(wish.id)
        self.look(**{wish.id: Step(acknowledges_all=wish.mode == "acknowledge", must_count=wish.mode != "")})
        if wish.mode == "":
            return None
        page = Page.of(reply)
        self._check_rollback(wish.id, wish.position, page)
        self._check_page(wish, page, before.acknowledged if before else 0)
        return page

    def _check_page(self, wish: Wish, page: Page, acknowledged: int) -> None:
        seen, truth, now = self.seen(wish.id), self._truths[wish.id], self._store.now_ms
        if seen is None:  # nothing is kept
            self._check_empty(wish, page, truth.statuses(wish.position, page.epoch, now, self._runs))
            truth.give(page.epoch, now, self._runs, is_wire2=bool(wish.wire2))
            self._ever_given[wish.id].add(page.epoch)
            if self._heir is not None:
                self._heir._miss(wish.id, page.epoch)
            return
        if seen.acknowledged < acknowledged:
            acknowledged = 0  # a new outbox
        status, wanted = "fresh", acknowledged
        if wish.mode in {"top", "acknowledge"}:
            wanted = seen.top
        elif wish.mode != "fresh":
            carried = seen.translate(wish.position)
            status = "resumed" if wish.position.epoch == seen.epoch else "forked"
            if carried is None:
                carried, status = self._carried_from_before(wish, page, seen)
            wanted = acknowledged if carried is None else carried
        self._check_read(page, (status, wanted), wish.id)

    def _miss(self, id: str, epoch: str) -> None:
        """The master before this one gave out an epoch in the meantime."""
        if epoch not in self._truths[id].given:
            self._truths[id].rolled_back.add(epoch)

    def _carried_from_before(self, wish: Wish, page: Page, seen: Seen) -> tuple[int | None, str]:
        """What becomes of a position that was given out before the outbox was there."""
        allowed = self._truths[wish.id].statuses(wish.position, seen.epoch, self._store.now_ms, self._runs)
        status = page.status if page.status in allowed else min(allowed)
        return (None if status == "reset" else 0), status

    def _check_empty(self, wish: Wish, page: Page, allowed: set[str]) -> None:
        if wish.mode not in {"resume", "read"}:
            allowed = {"fresh"}
        assert page.status in allowed, f"{wish}: {page} is none of {allowed}"
        assert page[3:7] == (0, 0, 0, ()), f"{wish}: {page}, though nothing was ever stored"

    def _check_read(self, page: Page, wanting: tuple[str, int], id: str) -> None:
        (status, wanted), seen = wanting, self.seen(id)
        assert seen is not None
        start = max(wanted, seen.base)
        count = min(PAGE_ENTRIES, seen.top - start)
        expected = tuple(self._truths[id].log[start + 1 + at] for at in range(count))
        got = tuple(stored.message for stored in page.entries)
        assert page[1:6] == (status, seen.epoch, seen.top, start, start - wanted), (
            f"{id}: {page}, not {status} from {wanted} in {seen}"
        )
        assert got == expected, f"{id}: {got}, not {expected}"

    def _check_rollback(self, id: str, position: Position, page: Page) -> None:
        """No epoch outlives its run; what forks because of that says so, and nothing else does."""
        began = self._runs_of.setdefault(page.epoch, self._runs)
        assert began == self._runs, f"{id}: {page} is in an epoch of run {began}, not {self._runs}"
        is_fork = page.status == "forked" and self._runs_of.get(position.epoch) != self._runs
        assert bool(page.rollback) == is_fork, f"{id}: {page} for {position}"

    def acknowledge(self, node: str, id: str, position: Position, floor: int, version: int) -> None:
        """Acknowledge; what Redis never gave out changes nothing."""
        before = self.seen(id)
        result = self._calls.acknowledge(node, Acknowledgement(id, position, floor), version)
        self.look(**{id: Step()})
        after = self.seen(id)
        if before is None or after is None or before.translate(position) is None:
            assert result == -1, f"{id}: {position} was accepted"
            assert before == after or before is None, f"{id}: {position} changed {before} to {after}"
        else:
            assert result == after.acknowledged, f"{id}: {result}, not {after.acknowledged}"

    def detach(self, node: str, id: str, version: int) -> None:
        """A node holds an id no more."""
        self._calls.detach(node, id, version)
        self.look()

    def purge(self, id: str) -> None:
        """Throw away what waits for an id."""
        if self.seen(id) is not None:
            self._calls.purge(id)
            self.look(**{id: Step(acknowledges_all=True, drops_all=True, must_count=True)})

    def beat(self, node: str) -> Pulse:
        """Renew a lease, if it can be."""
        has_lease = self._has_lease(node) or self._is_spared(node)
        pulse = self._calls.heartbeat(node, join=False)
        assert pulse.has_lease == has_lease, f"{node}: {pulse}, though it had a lease: {has_lease}"
        self._hear(node if has_lease else None)
        self.look()
        return pulse

    def join(self, node: str) -> None:
        """Take a lease."""
        self._calls.heartbeat(node, join=True)
        self._hear(node)
        self.look()

    def reap(self) -> None:
        """Clean up after a node whose lease ran out: it has to have been missed for a lease."""
        before = self._whole
        self._calls.reap()
        self.look()
        for node in self._patience.keys() & (before.leases.keys() - self._whole.leases.keys()):
            waited = self._patience.pop(node)
            assert waited >= LEASE_MS - SLACK_MS, f"{node} was cleaned up after it was missed for {waited} ms"

    def _hear(self, node: str | None) -> None:
        """A heartbeat came: the time before it was waited for all others, unless all were silent."""
        waited = min(self._store.now_ms - self._heard_at, LEASE_MS / 2)
        self._heard_at = self._store.now_ms
        self._patience = {
            each: 0 if self._is_new_run else before + waited for each, before in self._patience.items()
        }
        self._is_new_run = False
        if node is not None:
            self._patience[node] = 0

    def _is_spared(self, node: str) -> bool:
        """Whether a lease ran out only because nothing was heard of anybody."""
        signs, now, end = self._calls.signs(), self._store.now_ms, self._whole.leases.get(node, 0.0)
        is_other_run = signs.run != self._store.run_id
        if end <= signs.at or not (is_other_run or signs.by < now):
            return False
        is_full = is_other_run or signs.till <= signs.at
        return is_full or end + int(max(0, now - signs.by) + LEASE_MS / 6) > now

    def depart(self) -> None:
        """Take the ids that are offline."""
        for id in self._calls.depart():
            assert not self._whole.seats[id], f"{id} is offline, but held by {self._whole.seats[id]}"
        self.look()

    def _has_lease(self, node: str) -> bool:
        return self._whole.leases.get(node, 0) > self._store.now_ms

    def _proven_now(self, id: str) -> tuple[Position, ...]:
        living = [node for node in self._whole.seats[id] if self._has_lease(node)]
        return tuple(position for node in living for position in self._proven(node, id))


_NOBODY_LEFT_OUT = b"\0\0\0\1\x90"
