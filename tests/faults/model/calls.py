"""Calls of the shipped scripts, with the keys, arguments and replies of their headers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from redis.exceptions import OutOfMemoryError

from mesa_ws.backend.outbox import Acknowledgement
from mesa_ws.backend.redis import wire
from mesa_ws.backend.redis.dispatch import DispatchCalls
from mesa_ws.backend.redis.keys import Keys
from mesa_ws.backend.redis.node_commands import NodeCommands
from mesa_ws.backend.redis_client.command import Call
from mesa_ws.backend.redis_wire.lease import Pulse
from mesa_ws.messages.envelope import Envelope, Retention
from mesa_ws.messages.receipt import Delivery, Position
from mesa_ws.messages.recipients import Recipients
from tests.script_calls import calls_of

from .store import DAY_MS, Store
from .truth import Message, Seen, Stored, read_entry

LEASE_MS = 15_000

_EVERYBODY = Recipients(True, (), frozenset())


class AttachRequest(NamedTuple):
    """The request of an attach for one id."""

    id: str
    sockets: int | str
    version: int
    told: int = 0
    mode: str = ""
    position: Position = Position("", 0)
    wire2: int = 0


class Page(NamedTuple):
    """The reply of an attach for one id that it reads."""

    is_first: bool
    status: str
    epoch: str
    top: int
    start: int
    lost: int
    entries: tuple[Stored, ...]
    rollback: str

    @classmethod
    def of(cls, reply: list[Any]) -> "Page":
        """Read the reply."""
        first, status, epoch, top, start, lost, is_aside, _, rollback, *entries = reply
        assert not is_aside, "data that the scripts wrote was taken for corrupt"
        stored = tuple(map(read_entry, entries))
        head = (bool(first), status.decode(), epoch.decode(), top, start, lost)
        return cls(*head, stored, rollback.decode())


class Signs(NamedTuple):
    """The last heartbeat of any node, as scripts record it."""

    at: float = 0.0
    by: float = math.inf
    run: str = ""
    till: float = 0.0

    @classmethod
    def of(cls, fields: Mapping[bytes, bytes]) -> "Signs":
        """Read the key, which is missing before the first heartbeat."""
        if not fields:
            return cls()
        at, by, till = float(fields[b"at"]), float(fields[b"by"]), float(fields.get(b"till", 0))
        return cls(at, by, fields[b"run"].decode(), till)


class Whole(NamedTuple):
    """Everything that the model checks after a step."""

    endless: list[str]
    leases: dict[str, float]
    boxes: dict[str, Seen | None]
    holders: dict[str, set[str]]


class Calls:
    """Runs scripts for nodes and dispatchers of one namespace, with the keys and arguments of Mesa.

    Args:
        store: the Redis to run them on.
        window_ms: how long acknowledged messages are kept for clients that come back.
    """

    def __init__(self, store: Store, window_ms: int) -> None:
        self.keys = Keys("model")
        self._store = store
        self._window_ms = window_ms

    @property
    def runs(self) -> tuple[str, str]:
        """Return the keys that identify the run of Redis."""
        return self.keys.run, self.keys.run.replace(".0}", ".b}")

    def heartbeat(self, node: str, *, join: bool) -> Pulse:
        """Renew or take a lease."""
        return Pulse.of(self._ok(self._node_commands(node).heartbeat(join=join)[0]))

    def signs(self) -> Signs:
        """Read the last heartbeat directly."""
        return Signs.of(self._store.hash(self.keys.signs))

    def attach(self, node: str, request: AttachRequest) -> list[Any] | None:
        """Register and read; return None without a lease."""
        wanted = (
            request.id,
            request.sockets,
            request.version,
            request.told,
            request.mode,
            *request.position,
            request.wire2,
        )
        (call,) = calls_of([self._node_commands(node).visit([request.id], wanted)])
        reply: Any = self._ok(call)
        return None if reply == 0 else reply[0]

    def acknowledge(self, node: str, acknowledgement: Acknowledgement, version: int) -> int:
        """Acknowledge; return the new acknowledged sequence, or -1."""
        (call,) = self._node_commands(node).acknowledge([(acknowledgement, version)])
        return int(self._ok(call)[0])

    def detach(self, node: str, id: str, version: int) -> None:
        """Detach an id from a node."""
        self._ok(*calls_of([self._node_commands(node).detach([id], version)]))

    def reap(self) -> None:
        """Remove a node whose lease has expired."""
        self._ok(self._node_commands("reaper").reap())

    def depart(self) -> list[str]:
        """Return and remove the ids that went offline."""
        return [id.decode() for id in self._ok(self._node_commands("teller").depart())]

    def dispatch(self, message: Message, id: str, retention: Retention, remember_ms: int) -> Delivery | None:
        """Store a message for a recipient; return None when Redis is full."""
        recipients = Recipients(False, (id,), frozenset())
        name, remember = message.message_id, remember_ms / 1000
        plan = DispatchCalls.of(
            self.keys, Envelope(recipients, message.body, "message", name, retention, remember)
        )
        (call,) = calls_of(plan.commands)
        reply = self._run(call)
        if isinstance(reply, OutOfMemoryError):
            return None
        if isinstance(reply, Exception):
            raise reply
        receipt, corrupt, _ = plan.outcome([reply])
        assert corrupt == [], "data that the scripts wrote was taken for corrupt"
        return receipt.deliveries[id]

    def announce(self, message: Message, retention: Retention, remember_ms: int) -> Position | None:
        """Store a message for everybody and return its position; None when Redis is full."""
        name, remember = message.message_id, remember_ms / 1000
        plan = DispatchCalls.of(
            self.keys, Envelope(_EVERYBODY, message.body, "message", name, retention, remember)
        )
        (call,) = calls_of(plan.commands)
        reply = self._run(call)
        if isinstance(reply, OutOfMemoryError):
            return None
        if isinstance(reply, Exception):
            raise reply
        _, corrupt, _ = plan.outcome([reply])
        assert corrupt == [], "data that the scripts wrote was taken for corrupt"
        return Position(reply[3].decode(), reply[2])

    def broadcasts(self, position: Position | None) -> Page:
        """Read messages to everybody."""
        return Page.of([0, *self._ok(wire.broadcasts(self.keys, position))])

    def purge(self, id: str) -> int:
        """Purge an outbox."""
        (call,) = wire.purge(self.keys, [id])
        return int(self._ok(call)[0])

    def inspect(self, ids: Sequence[str]) -> Whole:
        """Read all data directly."""
        keys = [key for id in ids for key in (*self._box(id), self.keys.user(id))]
        endless, leases, found = self._store.inspect(self.keys.leases, keys)
        boxes, holders = {}, {}
        for id, (head, entries, nodes) in zip(ids, found, strict=True):
            boxes[id] = Seen.of(head, entries)
            holders[id] = {node.decode() for node in nodes[::2]}
        ends = {node.decode(): float(end) for node, end in zip(leases[::2], leases[1::2], strict=True)}
        return Whole([key.decode() for key in endless], ends, boxes, holders)

    def _node_commands(self, node: str) -> NodeCommands:
        return NodeCommands(self.keys, node, LEASE_MS / 1000, DAY_MS / 1000, 5.0, self._window_ms / 1000)

    def _box(self, id: str) -> tuple[str, str]:
        if id == "*":
            return self.keys.broadcast_position, self.keys.broadcasts
        return self.keys.position(id), self.keys.outbox(id)

    def _run(self, call: Call) -> Any:
        return self._store.run(call.script.name, call.keys, call.args)

    def _ok(self, call: Call) -> Any:
        reply = self._run(call)
        if isinstance(reply, Exception):
            raise reply
        return reply
