"""The connections of one process and event loop to Redis, by what their commands wait for."""

import asyncio
from typing import TypeVar

from .address import Address
from .batch import Operation
from .command import Handshake
from .pipeline import Pipeline

T = TypeVar("T")


class Pipelines:
    """Three pipelines with the same arguments, in one event loop; each keeps the order within it.

    Those that wait for a proof of durability block what follows; heartbeats must not be blocked.
    """

    def __init__(self, address: Address, handshake: Handshake, timeout: float) -> None:
        self._all = tuple(Pipeline(address, handshake, timeout) for _ in range(3))
        self.main, self.durable, self.heart = self._all
        self.durable.meter = self.heart.meter = self.main.meter

    def run(self, operation: Operation[T]) -> asyncio.Future[T]:
        """Run `operation`; see `Pipeline.carry_out`. Without commands it needs no connection."""
        if not operation.commands:
            operation.future = asyncio.get_running_loop().create_future()
            operation.settle()
            return operation.future
        return (self.main if operation.proof is None else self.durable).carry_out(operation)

    async def aclose(self) -> None:
        """Disconnect all."""
        for each in self._all:
            await each.aclose()

    def abandon(self) -> None:
        """Close all after the event loop was closed. Never waits."""
        for each in self._all:
            each.abandon()
