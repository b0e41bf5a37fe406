"""Writer of events into portal queues, many in one call, since a node has many connections."""

from collections.abc import Sequence
from typing import Any

from ...concurrency.queues import Batcher
from ...errors import BackendRefused, Unsupported
from ...settings import Durability
from ..inbox import AppendResult, Capacity, InboxEvent
from ..redis_client.command import Call
from ..redis_client.pipeline import Pipelines
from ..redis_wire.lease import LeaseKeeper
from .inbox_commands import answers, append, proof
from .node_commands import NodeCommands

MAX_EVENTS = 100
"""Events in one call."""

MAX_BYTES = 1024 * 1024
"""Bytes in one call, unless its first event alone has more."""

Append = tuple[InboxEvent, Capacity]
"""An event, and the limits of its queue."""


class InboxWriter:
    """Appends events in the order of the calls; in one event loop.

    Events that have to reach replicas or the disk go over the connection for durable operations, so that
    they block nothing else. Events that arrive during one call go together in the next.

    Args:
        keeper: keeper of the lease, without which nothing is appended.
        commands: commands of the node.
        pipelines: connections to Redis.
        durability: durability that events have to reach before they count as taken.

    Attributes:
        appends: takes the events.
    """

    def __init__(
        self, keeper: LeaseKeeper, commands: NodeCommands, pipelines: Pipelines, durability: Durability
    ) -> None:
        self._keeper = keeper
        self._commands = commands
        self._pipelines = pipelines
        self._durability = durability
        self._proof = proof(durability)
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
            self._pipelines.main.check(self._proof)

    async def _carry_out(self, batch: list[Append]) -> Sequence[AppendResult]:
        call = append(self._commands, batch, self._durability)
        try:
            (reply,) = await self._keeper.queues.run(lambda: self._execute(call))
        except Unsupported as error:  # another Redis took over, and this one cannot
            raise BackendRefused(str(error)) from error
        return answers(reply)

    async def _execute(self, call: Call) -> list[Any]:
        pipeline = self._pipelines.main if self._proof is None else self._pipelines.durable
        return await self._keeper.execute([call], pipeline, self._proof)
