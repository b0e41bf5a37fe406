"""Calls of scripts that compare all data of Redis, and the reply, with the expected ones after each call."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from itertools import dropwhile

from mesa_ws.backend.outbox import Acknowledgement
from mesa_ws.backend.redis_wire.lease import Pulse
from mesa_ws.messages.envelope import Retention
from mesa_ws.messages.receipt import Position

from .calls import LEASE_MS, AttachRequest, Calls, Page
from .store import PAGE_ENTRIES, Store
from .truth import SLACK_MS, Around, Message, Seen, Step, Truth

IDS = ("ann", "bob")

BOXES = (*IDS, "*")
"""Messages to everybody are stored like those of an id, but never acknowledged."""


class Watch:
    """The scripts, with the expected state of all ids.

    Args:
        store: the Redis that they run on.
        window_ms: how long acknowledged messages are kept for clients that come back.
        proven: returns the acknowledged positions of the living connections of an id on a node.

    Attributes:
        handled: by id, names of messages that some device has handled, or that count as handled.
        made_up: by id, positions that devices made up, above all that were given out.
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
        self._runs_of: dict[str, int] = {}  # run in which an epoch was first seen
        self._patience: dict[str, float] = {}
        self._heard_at = store.now_ms
        self._is_new_run = False
        self._heir: Watch | None = None
        self._ever_given: dict[str, set[str]] = {id: set() for id in BOXES}
        self.handled: dict[str, set[str]] = {id: set() for id in BOXES}
        self.made_up: dict[str, set[Position]] = {id: set() for id in BOXES}

    def seen(self, id: str) -> Seen | None:
        """Return the outbox of an id at the last check."""
        return self._truths[id].seen

    def holds(self, node: str, id: str) -> bool:
        """Return whether an id is attached to a node in Redis."""
        return node in self._whole.holders[id]

    def knows(self, message: Message, id: str) -> bool:
        """Return whether a message was stored for an id and not rolled back."""
        return message.message_id in self._truths[id].places

    def remember(self) -> dict[str, Truth]:
        """Return a copy of the expected state."""
        return deepcopy(self._truths)

    def go_back(self, truths: Mapping[str, Truth]) -> None:
        """Restore the expected state of a snapshot."""
        self._truths = deepcopy(dict(truths))
        self.begin_run()
        self.forget_heartbeats()
        for id, truth in self._truths.items():
            truth.rolled_back |= self._ever_given[id] - truth.given.keys()
        self.look()

    def forget_heartbeats(self) -> None:
        """Note that Redis has restored leases of unknown age."""
        self._patience = dict.fromkeys(self._patience, LEASE_MS)

    def fork(self, store: Store) -> "Watch":
        """Copy the expected state to another master, which does not follow later changes."""
        heir = Watch(store, self._window, self._proven)
        heir._meanings, heir._ever_given = self._meanings, self._ever_given
        heir.handled, heir.made_up = self.handled, self.made_up
        heir._patience = self._patience
        heir._runs, heir._runs_of = self._runs, self._runs_of
        self._heir = heir
        heir.go_back(self._truths)
        return heir

    def begin_run(self) -> None:
        """Begin another run of Redis, in which no node is known as silent."""
        self._runs += 1
        self._is_new_run = True

    def change_replication_id(self) -> None:
        """Give Redis another replication id, without any other change."""
        self._store.change_id(self._calls.runs)

    def announce(self, message: Message, retention: Retention, remember_ms: int) -> bool:
        """Store a message for everybody unless it is known; return False when Redis is full."""
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
        """Compare Redis with the expected data after `steps` for some ids."""
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
        """Assert that a position never stands for two messages."""
        assert position is not None
        known = self._meanings.setdefault((id, position), message_id)
        assert known == message_id, f"{id}: {position} is {known} and {message_id}"

    def dispatch(self, message: Message, id: str, retention: Retention, remember_ms: int) -> bool:
        """Store a message for an id unless it is known; return False when Redis is full."""
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

    def attach(self, node: str, request: AttachRequest) -> Page | bool | None:
        """Register and read; return False without a lease, None when nothing is read."""
        has_lease = self._has_lease(node)
        reply = self._calls.attach(node, request)
        assert (reply is not None) == has_lease, f"{node} attached: {reply}, though its lease: {has_lease}"
        if reply is None:
            self.look()
            return False
        if request.wire2:
            self._truths[request.id].uses_wire2 = True
        before = self.seen(request.id)
        self.look(
            **{
                request.id: Step(
                    acknowledges_all=request.mode == "acknowledge", must_count=request.mode != ""
                )
            }
        )
        if request.mode == "":
            return None
        page = Page.of(reply)
        self._check_rollback(request.id, request.position, page)
        self._check_page(request, page, before.acknowledged if before else 0)
        is_made_up = request.position in self.made_up[request.id] and page.status != "reset"
        if is_made_up or request.mode == "acknowledge":
            self._believe(request.id, page.start)
        return page

    def _believe(self, id: str, sequence: int) -> None:
        """Note that messages count as received which a device may never have had.

        It does not want them, as clients of 1.x may. Or it made up a position whose number was given out
        before its login was carried out, or whose epoch has ended, so that there is no way to tell.
        """
        log = self._truths[id].log
        self.handled[id].update(message.message_id for at, message in log.items() if at <= sequence)

    def _check_page(self, request: AttachRequest, page: Page, acknowledged: int) -> None:
        seen, truth, now = self.seen(request.id), self._truths[request.id], self._store.now_ms
        if seen is None:  # nothing is stored
            self._check_empty(request, page, truth.statuses(request.position, page.epoch, now, self._runs))
            truth.give(page.epoch, now, self._runs, is_wire2=bool(request.wire2))
            self._ever_given[request.id].add(page.epoch)
            if self._heir is not None:
                self._heir._miss(request.id, page.epoch)
            return
        if seen.acknowledged < acknowledged:
            acknowledged = 0  # a new outbox
        status, wanted = "fresh", acknowledged
        if request.mode in {"top", "acknowledge"}:
            wanted = seen.top
        elif request.mode != "fresh":
            carried = seen.translate(request.position)
            status = "resumed" if request.position.epoch == seen.epoch else "forked"
            if carried is None:
                carried, status = self._carried_from_before(request, page, seen)
            wanted = acknowledged if carried is None else carried
        self._check_read(page, (status, wanted), request.id)

    def _miss(self, id: str, epoch: str) -> None:
        """Note an epoch that the previous master gave out after the copy."""
        if epoch not in self._truths[id].given:
            self._truths[id].rolled_back.add(epoch)

    def _carried_from_before(self, request: AttachRequest, page: Page, seen: Seen) -> tuple[int | None, str]:
        """Check a position that was given out before the outbox existed."""
        allowed = self._truths[request.id].statuses(
            request.position, seen.epoch, self._store.now_ms, self._runs
        )
        status = page.status if page.status in allowed else min(allowed)
        return (None if status == "reset" else 0), status

    def _check_empty(self, request: AttachRequest, page: Page, allowed: set[str]) -> None:
        if request.mode not in {"resume", "read"}:
            allowed = {"fresh"}
        assert page.status in allowed, f"{request}: {page} is none of {allowed}"
        assert page[3:7] == (0, 0, 0, ()), f"{request}: {page}, though nothing was ever stored"

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
        """Assert that no epoch outlives its run, and that exactly the resulting forks are reported."""
        began = self._runs_of.setdefault(page.epoch, self._runs)
        assert began == self._runs, f"{id}: {page} is in an epoch of run {began}, not {self._runs}"
        is_fork = page.status == "forked" and self._runs_of.get(position.epoch) != self._runs
        assert bool(page.rollback) == is_fork, f"{id}: {page} for {position}"

    def acknowledge(self, node: str, id: str, position: Position, floor: int, version: int) -> None:
        """Acknowledge; a position that Redis never gave out has no effect."""
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
        """Detach an id from a node."""
        self._calls.detach(node, id, version)
        self.look()

    def purge(self, id: str) -> None:
        """Purge the outbox of an id."""
        if self.seen(id) is not None:
            self._calls.purge(id)
            self.look(**{id: Step(acknowledges_all=True, drops_all=True, must_count=True)})

    def beat(self, node: str) -> Pulse:
        """Renew a lease, if possible."""
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
        """Clean up after a node whose lease expired: it must have been silent for a lease."""
        before = self._whole
        self._calls.reap()
        self.look()
        for node in self._patience.keys() & (before.leases.keys() - self._whole.leases.keys()):
            waited = self._patience.pop(node)
            assert waited >= LEASE_MS - SLACK_MS, f"{node} was cleaned up after it was missed for {waited} ms"

    def _hear(self, node: str | None) -> None:
        """Note a heartbeat: the time before it counts as silence of other nodes, unless all were silent."""
        waited = min(self._store.now_ms - self._heard_at, LEASE_MS / 2)
        self._heard_at = self._store.now_ms
        self._patience = {
            each: 0 if self._is_new_run else before + waited for each, before in self._patience.items()
        }
        self._is_new_run = False
        if node is not None:
            self._patience[node] = 0

    def _is_spared(self, node: str) -> bool:
        """Return whether a lease expired only because all nodes were silent."""
        signs, now, end = self._calls.signs(), self._store.now_ms, self._whole.leases.get(node, 0.0)
        is_other_run = signs.run != self._store.run_id
        if end <= signs.at or not (is_other_run or signs.by < now):
            return False
        is_full = is_other_run or signs.till <= signs.at
        return is_full or end + int(max(0, now - signs.by) + LEASE_MS / 6) > now

    def depart(self) -> None:
        """Collect the ids that went offline."""
        for id in self._calls.depart():
            assert not self._whole.holders[id], f"{id} is offline, but held by {self._whole.holders[id]}"
        self.look()

    def _has_lease(self, node: str) -> bool:
        return self._whole.leases.get(node, 0) > self._store.now_ms

    def _proven_now(self, id: str) -> tuple[Position, ...]:
        living = [node for node in self._whole.holders[id] if self._has_lease(node)]
        return tuple(position for node in living for position in self._proven(node, id))


_NOBODY_LEFT_OUT = b"\0\0\0\1\x90"
