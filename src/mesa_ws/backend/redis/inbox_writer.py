"""Writer of events into portal queues, many in one call, since a node has many connections."""

from collections.abc import Sequence
from typing import Any

from ...concurrency.queues import Batcher
from ...errors import BackendRefused, Unsupported
from ...settings import Durability
from ..inbox import PARTITIONS, AppendResult, Capacity, InboxEvent
from ..redis_client.command import Call, ms
from ..redis_client.durability import Proof
from ..redis_client.pipelines import Pipelines
from ..redis_wire.lease import LeaseKeeper
from .node_commands import NodeCommands
from .queue_types import QueueTypes
from .scripts import APPEND

MAX_EVENTS = 100
"""Events in one call."""

MAX_BYTES = 1024 * 1024
"""Bytes in one call, unless its first event alone has more."""

Append = tuple[InboxEvent, Capacity]
"""An event, and the limits of its queue."""

RESULTS: dict[int, AppendResult] = {1: "taken", 2: "full", 3: "unknown", 4: "gone"}
"""Results by the numbers that append.lua returns, after the number of replicas."""

_ADVICE = "it is sent again"
"""Advice of the error when it is unknown whether an event, or steps, are durable enough."""


def inbox_proof(durability: Durability) -> Proof | None:
    """Return the proof to wait for after events or steps were written; None for durability `memory`."""
    return Proof((durability,), _replicas, _ADVICE) if durability != "memory" else None


def _replicas(replies: Sequence[Any]) -> int:
    return max((reply[0] for reply in replies if reply), default=0)


class AppendCommand:
    """The call that appends events to their queues; `RESULTS` are in its reply. No I/O.

    Args:
        commands: commands of the node.
        durability: durability that events have to reach.
    """

    def __init__(self, commands: NodeCommands, durability: Durability = "memory") -> None:
        keys = commands.keys
        self._keys = (keys.leases, keys.connections(commands.node), keys.observers, keys.observed)
        self._queues = [(keys.queue(number), keys.weights(number)) for number in range(PARTITIONS)]
        self._shared = (commands.node, ms(commands.expiry), int(durability == "replicated"))

    def of(self, events: Sequence[Append]) -> Call:
        """Return the call for events, each with the capacity of its queue."""
        keys, parts = [*self._keys], list[str | bytes | int](self._shared)
        for event, capacity in events:
            keys += self._queues[event.partition]
            parts += (event.connection_id, event.partition, event.sequence, event.kind, event.id or "")
            parts += (event.data, event.network, event.weight, *capacity)
        return Call(APPEND, tuple(keys), tuple(parts))


class InboxWriter:
    """Appends events in the order of the calls; in one event loop.

    Events that have to reach replicas or the disk go over the connection for durable operations, so that
    they block nothing else. Events that arrive during one call go together in the next.

    Args:
        keeper: keeper of the lease, without which nothing is appended.
        queues: sets keys of portal queues aside when they have the wrong type.
        commands: commands of the node.
        pipelines: connections to Redis.
        durability: durability that events have to reach before they count as taken.

    Attributes:
        appends: takes the events; its `call` is the `append` of the node.
    """

    def __init__(
        self,
        keeper: LeaseKeeper,
        queues: QueueTypes,
        commands: NodeCommands,
        pipelines: Pipelines,
        durability: Durability,
    ) -> None:
        self._keeper = keeper
        self._queues = queues
        self._command = AppendCommand(commands, durability)
        self._main = pipelines.main
        self._proof = inbox_proof(durability)
        self._pipeline = pipelines.main if self._proof is None else pipelines.durable
        self.appends: Batcher[Append, AppendResult] = Batcher(
            self._carry_out,
            most=MAX_EVENTS,
            name="mesa-redis-inbox",
            size_of=lambda each: len(each[0].data),
            max_size=MAX_BYTES,
        )

    def check(self) -> None:
        """Check that this Redis, which is connected, can make events as durable as they have to be.

        Raises:
            Unsupported: it cannot.
        """
        if self._proof is not None:
            self._main.check(self._proof)

    async def _carry_out(self, batch: list[Append]) -> Sequence[AppendResult]:
        """Append a batch of events; an error reaches all callers that wait for one of them."""
        call = self._command.of(batch)
        is_repeated = False
        while True:
            try:
                (reply,) = await self._pipeline.execute(
                    (call.command,), is_repeatable=True, proof=self._proof
                )
                if reply == 0:  # the lease was lost
                    (reply,) = await self._keeper.execute([call], self._pipeline, self._proof)
                return [RESULTS[number] for number in reply[1:]]
            except BackendRefused as error:
                is_repeated = await self._queues.repair(error, is_repeated=is_repeated)
            except Unsupported as error:  # another Redis took over, and this one cannot
                raise BackendRefused(str(error)) from error
