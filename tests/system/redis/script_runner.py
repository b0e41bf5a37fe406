"""Runner of single script calls of nodes and dispatchers on a real Redis, without their retries and tasks."""

import struct
from collections.abc import Sequence
from typing import Any

import redis
from msgspec.structs import replace
from redis.exceptions import NoScriptError

from mesa_ws.backend.outbox import Acknowledgement, Page, Start
from mesa_ws.backend.redis import node_commands, wire
from mesa_ws.backend.redis.dispatch import dispatching
from mesa_ws.backend.redis.keys import Keys
from mesa_ws.backend.redis.node_commands import NodeCommands, OutboxReply, came_online
from mesa_ws.backend.redis_client.command import Call, Command
from mesa_ws.backend.redis_wire.lease import Pulse
from mesa_ws.messages.envelope import Envelope, Retention, prepare
from mesa_ws.messages.message import Message
from mesa_ws.messages.receipt import OutboxHead, Position, Receipt
from tests.script_calls import calls_of, replies_to

KEEP = Retention(1000, 8 * 1024 * 1024, 60.0)
HELLO = Message(0, "hello", "HELLO")


def envelope(
    recipients: Sequence[str] | str = ("alice",),
    body: bytes = b"hello",
    *,
    retention: Retention | None = KEEP,
    excluding: Sequence[str] = (),
    **settings: Any,
) -> Envelope:
    """Return an envelope with a given body."""
    made = prepare(HELLO, recipients, excluding, retention=retention and KEEP, **settings)
    return replace(made, body=body, retention=retention)


class ScriptRunner:
    """Runs script calls for the nodes of one namespace, on the clock of Redis."""

    def __init__(self, client: "redis.Redis", namespace: str) -> None:
        self.client = client
        self.keys = Keys(namespace)
        self._versions = 0

    def run(self, call: Call | Command) -> Any:
        if not isinstance(call, Call):
            (call,) = calls_of([call])
        try:
            return self.ask(*call.command)
        except NoScriptError:
            self.ask("SCRIPT", "LOAD", call.script.source)
            return self.ask(*call.command)

    def ask(self, *command: str | bytes | float) -> Any:
        return self.client.execute_command(*command)  # type: ignore[no-untyped-call]

    def node_commands(self, node: str = "node", *, window: float = 120.0, grace: float = 5.0) -> NodeCommands:
        return NodeCommands(self.keys, node, lease=60.0, expiry=600.0, grace=grace, window=window)

    def join(self, *nodes: str) -> None:
        for node in nodes or ("node",):
            assert self.beat(node, join=True).has_lease

    def beat(self, node: str = "node", *, join: bool = False) -> Pulse:
        return Pulse.of(self.run(self.node_commands(node).heartbeat(join=join)[0]))

    def kill(self, node: str = "node") -> None:
        """Expire the lease of a node."""
        self.client.zadd(self.keys.leases, {node: 1})

    def attach(self, id: str = "alice", node: str = "node", *, announced: bool = False) -> bool:
        """Attach an id; return whether it came online."""
        self._versions += 1
        call = self.node_commands(node).attach({id: (1, self._versions)}, [id] if announced else [])
        came = came_online([id], self.run(call))
        assert came is not None
        return came == [id]

    def enter(self, id: str = "alice", start: Start | None = None, node: str = "node") -> OutboxReply:
        self._versions += 1
        call = self.node_commands(node).attach_and_read(id, (1, self._versions), start or Start())
        answers = node_commands.answers(self.run(call))
        return answers[0]

    def page(self, id: str = "alice", start: Start | None = None, node: str = "node") -> Page:
        return self.enter(id, start, node).page

    def resume(self, position: Position, id: str = "alice", *, is_wire2: bool = False) -> Page:
        return self.page(id, Start("resume", position, is_wire2))

    def detach(self, id: str = "alice", node: str = "node", *, grace: float = 5.0) -> None:
        self._versions += 1
        self.run(self.node_commands(node, grace=grace).detach([id], self._versions))

    def dispatch(self, *args: Any, **settings: Any) -> Receipt:
        return self.send(envelope(*args, **settings))

    def send(self, sent: Envelope) -> Receipt:
        batch = dispatching(self.keys, [sent])
        (receipt,) = batch.read(replies_to(batch.commands, self.run))
        return receipt

    def fill(self, count: int, id: str = "alice", **settings: Any) -> Position:
        """Send `count` messages whose bodies are their numbers; return the last position."""
        for n in range(1, count + 1):
            position = self.dispatch([id], b"%d" % n, **settings).deliveries[id].position
        assert position is not None
        return position

    def acknowledge(
        self, position: Position, floor: int | None = None, id: str = "alice", **settings: Any
    ) -> int:
        floor = position.sequence if floor is None else floor
        node, window = settings.get("node", "node"), settings.get("window", 120.0)
        some = [(Acknowledgement(id, position, floor), self._versions)]
        (call,) = self.node_commands(node, window=window).acknowledge(some)
        (acknowledged,) = self.run(call)
        return int(acknowledged)

    def head(self, id: str = "alice") -> OutboxHead | None:
        (call,) = wire.heads(self.keys, [id])
        return wire.outbox_heads([id], [self.run(call)])[id]

    def known_head(self, id: str = "alice") -> OutboxHead:
        head = self.head(id)
        assert head is not None
        return head

    def depart(self) -> list[str]:
        return [id.decode() for id in self.run(self.node_commands().depart())]

    def count(self) -> int:
        return int(self.ask(*wire.count(self.keys)))

    def due(self, id: str = "alice") -> float:
        """Return the time when the grace of an id ends."""
        due = self.client.zscore(self.keys.graces, id)
        assert isinstance(due, float)
        return due

    def reap(self) -> None:
        while self.run(self.node_commands().reap()):
            pass

    def broadcasts(self, position: Position | None = None) -> OutboxReply:
        return wire.broadcast_answer(self.run(wire.broadcasts(self.keys, position)))

    def age(
        self, index: int, *, at: float | None = None, expires: float | None = None, id: str = "alice"
    ) -> None:
        """Change when an entry was stored or when it expires."""
        outbox = self.keys.broadcasts if id == "*" else self.keys.outbox(id)
        raw = self.client.lindex(outbox, index)
        assert isinstance(raw, bytes)
        was_at, was_expires = struct.unpack_from(">dd", raw)
        times = (was_at if at is None else at, was_expires if expires is None else expires)
        self.ask("LSET", outbox, index, struct.pack(">dd", *times) + raw[16:])
        self.forget_hints(id)

    def head_of(self, id: str = "alice") -> str:
        """Return the key of the position of an id."""
        return self.keys.broadcast_position if id == "*" else self.keys.position(id)

    def hints(self, id: str = "alice") -> bytes:
        """Return the hints of an outbox."""
        found = self.client.hget(self.head_of(id), "h")
        assert isinstance(found, bytes)
        return found

    def forget_hints(self, id: str = "alice") -> None:
        """Let the next message be appended without hints, which do not know what a test has changed."""
        self.client.hdel(self.head_of(id), "h")

    def restart(self, id: str = "alice") -> None:
        """Make an outbox look as if Redis had begun another run since."""
        hints = self.hints(id)[16:]
        self.client.hset(self.head_of(id), mapping={"r": "0" * 16, "h": b"0" * 16 + hints})


def bodies(page: Page) -> list[bytes]:
    return [entry.body for entry in page.entries]
