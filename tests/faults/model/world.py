"""Nodes, devices, dispatchers and faults over the shipped scripts.

Every method is an event that may happen at any time: it does nothing when there is nothing to do.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from mesa_ws.messages.envelope import Retention
from mesa_ws.messages.receipt import Position

from .calls import LEASE_MS, AttachRequest
from .cluster import Cluster
from .device import Connection, Device, Probe
from .masters import ALL, Home, Process
from .node import Node
from .store import DAY_MS, Store
from .truth import SLACK_MS, Message, Truth
from .watch import IDS

REMEMBER_MS = 40_000 + SLACK_MS
WINDOW_MS = 10_000 + SLACK_MS
TTL_MS = 20_000 + SLACK_MS

ROUNDS = 100
"""Rounds after which nodes that are still busy will never finish; they need eight at most."""

Claim = Literal["own", "none", "stale", "foreign", "made up", "beyond"]
"""Position of a device at login; a 1.x client has none, and `made up` makes it want nothing stored."""

Outcome = Literal["answered", "unanswered", "half"]
"""Outcome of a dispatch for its dispatcher; `half`: it crashes between two chunks."""


class Job(NamedTuple):
    """A dispatch of unknown outcome."""

    message: Message
    ids: Sequence[str]
    retention: Retention
    gives_up_at: int


class Past(NamedTuple):
    """A snapshot of Redis, and the expected state in it."""

    name: str
    truths: Mapping[str, Truth]


class World(Cluster):
    """All parts of one example.

    Args:
        stores: an empty Redis, and another one for a failover.
        window_ms: how long acknowledged messages are kept for clients that come back.
        is_split: whether an attach registers only when its reply arrives; the model must object.
        is_scattered: whether each connection of a process queries the master; the model must object.
    """

    def __init__(
        self,
        stores: tuple[Store, Store],
        window_ms: int,
        *,
        is_split: bool = False,
        is_scattered: bool = False,
    ) -> None:
        super().__init__(stores, window_ms, is_split=is_split, is_scattered=is_scattered)
        self._dispatcher = Process(is_scattered=is_scattered)
        for connection in self._dispatcher.connections:
            self.tell_dispatcher(ALL, connection)
        self._late: set[str] = set()
        self._jobs: list[Job] = []
        self._pasts: list[Past] = []
        self._reached: list[Position] = []
        self._messages = 0
        self.devices = (
            Device("old phone", "ann", "1.x", self._late),
            Device("phone", "ann", "wire 2", self._late),
            Device("ticker", "ann", "wire 2, nothing stored", self._late),
            Device("old laptop", "bob", "1.x", self._late),
            Device("laptop", "bob", "wire 2", self._late),
        )
        self.snapshot()

    # Dispatchers

    def tell_dispatcher(self, heard: Sequence[int], connection: int) -> None:
        """Let the dispatcher receive reports of some Sentinels before it uses a connection."""
        reports, now = self._sentinels.reports(heard), self._store.now_ms / 1000
        self._dispatcher.read(reports, now, connection)

    def dispatch(
        self, ids: Sequence[str], retention: Retention, size: int, outcome: Outcome, connection: int = 0
    ) -> None:
        """Dispatch a message, in one chunk for each recipient."""
        self._messages += 1
        message = Message(f"m{self._messages}", b"%d" % self._messages + b"." * size)
        job = Job(message, ids, retention, self._store.now_ms + REMEMBER_MS - 2 * SLACK_MS)
        is_sent = self._send(job, ids[: 1 if outcome == "half" else None], connection)
        if not is_sent or outcome != "answered":
            self._jobs.append(job)
            self._late.add(message.message_id)

    def retry(self) -> None:
        """Retry the oldest dispatch of unknown outcome, or give it up when it is too late."""
        if self._jobs:
            job = self._jobs[0]
            if self._store.now_ms >= job.gives_up_at or self._send(job, job.ids):
                self._jobs.pop(0)

    def _send(self, job: Job, ids: Sequence[str], connection: int = 0) -> bool:
        if self._finds_no_master(self._dispatcher, connection):
            self.tell_dispatcher(ALL, connection)
        watch = self._homes[self._dispatcher.port(connection)].watch
        for id in ids:
            if not watch.dispatch(job.message, id, job.retention, REMEMBER_MS):
                return False
            self._collect_hints()
        return True

    def announce(self, retention: Retention, *, is_repeated: bool) -> None:
        """Dispatch a message to everybody, perhaps twice because the first reply was lost."""
        self._messages += 1
        message = Message(f"m{self._messages}", b"%d" % self._messages)
        for _ in range(1 + is_repeated):
            self._watch.announce(message, retention, REMEMBER_MS)
            self._collect_hints()

    def read_broadcasts(self, number: int, *, is_new: bool) -> None:
        """Read messages to everybody from an earlier position."""
        position = self._reached[number % len(self._reached)] if self._reached and not is_new else None
        self._reached.append(self._watch.broadcasts(position))

    def purge(self, id: str) -> None:
        """Purge an outbox."""
        self._watch.purge(id)

    # Devices

    def connect(self, device: Device, node: Node, claim: Claim) -> None:
        """Log a device in."""
        if device.connection is not None:
            return
        self.reach(node)
        position = self._claim(device, claim)
        is_own = device.is_wire2 and not device.skips_stored and claim in {"own", "stale", "beyond"}
        device.begin(position if is_own else None)
        connection = Connection(device, device.id, node.name)
        device.connection = connection
        node.connections.append(connection)
        version = node.members[device.id] = node.next_version()
        request = AttachRequest(
            device.id, len(node.of(device.id)), version, 0, _mode(device, claim, position)
        )
        self._ask(
            node, connection, request._replace(position=position or _NOWHERE, wire2=int(device.is_wire2))
        )

    def change_id(self, device: Device) -> None:
        """Authenticate a connection as another id; its earlier acknowledgements count no more."""
        connection = device.connection
        if connection is None:
            return
        node = self._node_of(connection)
        self._leave(node, connection)
        device.id = IDS[1 - IDS.index(device.id)]
        self.connect(device, node, "none")

    def disconnect(self, device: Device) -> None:
        """End a connection."""
        if device.connection is not None:
            self._leave(self._node_of(device.connection), device.connection)

    def work(self, device: Device, count: int) -> None:
        """Let a device handle some of its frames."""
        connection = device.connection
        for _ in range(count):
            if connection is not None and connection.frames:
                device.handle(connection.frames.popleft(), self._watch.handled[connection.id])

    def prove(self, device: Device) -> None:
        """Let a device acknowledge: by itself with wire 2, otherwise when the server asks."""
        connection = device.connection
        if connection is None or connection.at is None:
            return
        if not device.is_wire2:
            connection.frames.append(Probe(connection.at))
        elif device.position is not None:
            connection.answers.append(device.position)

    def _claim(self, device: Device, claim: Claim) -> Position | None:
        if not device.is_wire2 or device.skips_stored:
            return None
        if claim in {"own", "stale"}:
            return device.history[0][0] if claim == "stale" and device.history else device.position
        if claim == "foreign":
            other = self._watch.seen(IDS[1 - IDS.index(device.id)])
            return Position(other.epoch, other.top) if other else None
        if claim == "made up":
            return Position("0123456789abcdef", 1)
        own = self._watch.seen(device.id)
        if claim != "beyond" or own is None:
            return None
        position = Position(own.epoch, own.top + 1)
        self._watch.made_up[device.id].add(position)
        return position

    def serve(self, node: Node) -> None:
        """Let a node and its devices finish all their work."""
        self.deliver(node, 1000)
        self.answer(node)
        self.pull(node)
        self.answer(node)
        for device in [each.device for each in node.connections]:
            self.work(device, 1000)
            self.prove(device)
            self.work(device, 1000)
        self.listen(node)
        self.acknowledge(node)
        self.flush(node)

    # Redis

    def pass_time(self, seconds: int, awake: Sequence[Node]) -> None:
        """Let time pass; nodes that are awake renew their leases."""
        self._sentinels.agree()
        left = seconds * 1000
        while left > 0:
            step = min(left, LEASE_MS // 3) if left < DAY_MS else left
            for home in self._homes.values():
                home.store.pass_time(step)
                home.watch.look()
            left -= step
            for node in awake:
                self.beat(node)

    def set_full(self, is_full: bool) -> None:
        """Fill the memory of Redis, or free some again."""
        for home in self._homes.values():
            home.store.set_full(is_full)

    def snapshot(self) -> None:
        """Let Redis write a snapshot."""
        past = Past(f"snapshot-{len(self._pasts) % 3}", self._watch.remember())
        self._store.snapshot(past.name)
        self._pasts = [each for each in self._pasts if each.name != past.name] + [past]

    def go_back(self, back: int, *, loses_hints: bool) -> None:
        """Kill Redis, and restart it with the data of a snapshot."""
        self.unite()
        past = self._pasts[-1 - back % len(self._pasts)]
        self._store.go_back(past.name)
        for node in self.nodes:
            self._cut(node, loses_hints=loses_hints)
        self._watch.go_back(past.truths)

    def fail_over(self, late: int) -> None:
        """Promote the other Redis; processes use the old one until they learn of it."""
        self.unite()
        old, new = self._home, self._spare
        new.take_over(old.store)
        self._home = self._homes[new.port] = Home(new, old.watch.fork(new))
        self._spare = old.store
        self._sentinels.name(new.port, late)
        self._pasts = []
        self.snapshot()

    def refuse(self) -> None:
        """Take the replicas of the old master away, so that it refuses writes."""
        if len(self._homes) > 1:
            self._spare.set_alone(True)

    def demote(self) -> None:
        """Make the old master a replica."""
        self._sentinels.agree()
        if len(self._homes) > 1:
            self._spare.demote()

    def unite(self) -> None:
        """Let processes that still use the old master learn of the new one by its replies."""
        self._sentinels.agree()
        self.refuse()
        for node in self.nodes:
            self.reach(node)
        for connection in self._dispatcher.connections:
            if self._finds_no_master(self._dispatcher, connection):
                self.tell_dispatcher(ALL, connection)
        self._homes = {self._store.port: self._home}

    def promote(self) -> None:
        """Make Redis a replica and a master again, with all its data."""
        self._store.promote()
        self._watch.begin_run()

    def change_replication_id(self) -> None:
        """Give Redis its first replica, which does not begin another run."""
        self._watch.change_replication_id()

    # Quiet

    def settle(self) -> None:
        """Let everything under way arrive, and assert that no connected device misses anything."""
        self.set_full(False)
        self.unite()
        self._calm_down()
        while self._jobs:
            self.retry()
        self._calm_down()
        for device in self.devices:
            self._check_has_all(device)
            self.prove(device)
            self.work(device, 1000)
        for node in self.nodes:
            self.listen(node)
            self.acknowledge(node)
            self.flush(node)
        for device in self.devices:
            seen = self._watch.seen(device.id)
            if device.connection and seen and not device.skips_stored:
                assert seen.acknowledged == seen.top, f"{device.name} has all, but {seen} says otherwise"

    def forget_what_all_have(self) -> None:
        """Assert that an outbox is empty once all devices have everything and the window is over."""
        self.settle()
        self.pass_time(45, self.nodes)
        self.settle()
        for id in IDS:
            seen = self._watch.seen(id)
            here = [each for each in self.devices if each.id == id and each.connection]
            if seen and not all(each.skips_stored for each in here):
                assert not seen.entries, f"{id}: everybody has all, but {seen} is kept"

    def _calm_down(self) -> None:
        for _ in range(ROUNDS):
            for node in self.nodes:
                self.beat(node)
                self.repair(node)
                self.deliver(node, 1000)
                self.flush(node)
                self.pull(node)
                while node.pending:
                    self.answer(node)
            for device in self.devices:
                self.work(device, 1000)
            if all(map(_is_quiet, self.nodes)):
                return
        raise AssertionError("there is no end to what nodes ask")

    def _check_has_all(self, device: Device) -> None:
        connection, seen = device.connection, self._watch.seen(device.id)
        if connection is None or seen is None:
            return
        assert connection.at is not None
        assert seen.translate(connection.at) == seen.top, f"{device.name} hangs at {connection.at}: {seen}"
        assert device.position is None or device.position == connection.at


_NOWHERE = Position("", 0)


def _mode(device: Device, claim: Claim, position: Position | None) -> str:
    if device.skips_stored:
        return "top"
    if not device.is_wire2 and claim == "made up":
        return "acknowledge"
    return "fresh" if position is None else "resume"


def _is_quiet(node: Node) -> bool:
    is_idle = not (node.hints or node.outgoing or node.pending or node.is_in_doubt)
    return is_idle and not any(each.is_behind for each in node.connections)
