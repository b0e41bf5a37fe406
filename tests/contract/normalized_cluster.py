"""A cluster of one backend whose answers can be compared with those of another backend."""

import re
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from mesa_ws.backend.outbox import Page
from mesa_ws.backend.queries import Heads
from mesa_ws.messages.receipt import OutboxHead, Position, Receipt, Stored
from tests.contract.cluster import Cluster, Make, Node, heard

IDS = ("alice", "bob", "carol")
NODES = 2
LONG = 3600.0
"""Seconds: longer than any test."""

MADE_UP = "0123456789abcdef"
"""An epoch that no outbox has."""

_EPOCH = re.compile("[0-9a-f]{16}")


class NormalizedCluster:
    """Two nodes of one backend.

    Attributes:
        nodes: the open ones.
    """

    def __init__(self, make: Make, namespace: str, stack: AsyncExitStack, window: float) -> None:
        self._cluster = Cluster(make, namespace, stack)
        self._window = window
        self._epochs: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self.nodes: list[Node] = []

    async def open(self) -> None:
        self.nodes = [await self._node() for _ in range(NODES)]

    async def replace(self, at: int) -> None:
        """Close a node, and open another one in its place."""
        await self.nodes[at].backend.aclose()
        self.nodes[at] = await self._node()

    async def settle(self, node: int) -> None:
        """Wait until the requests that other nodes have only posted are done."""
        for other in range(NODES):
            if other != node:
                await self.nodes[other].backend.query(Heads(IDS))

    async def heard(self) -> object:
        """Return the envelopes and the presence changes that each node received so far."""
        envelopes = await heard(*self.nodes)
        return self.named([(each, node.changes) for each, node in zip(envelopes, self.nodes, strict=True)])

    def position(self, whose: str, sequence: int) -> Position:
        """Return a position in the known epoch of an id or `*`, or in a made-up one."""
        return Position(self._epochs.get(whose, MADE_UP), sequence)

    def remember(self, whose: str, found: Position | Page | OutboxHead | None) -> None:
        """Remember an epoch."""
        if found is not None:
            self._epochs[whose] = found.epoch

    def remember_all(self, receipts: list[Receipt]) -> None:
        """Remember the epochs of receipts."""
        for receipt in receipts:
            for id, delivery in receipt.deliveries.items():
                self.remember(id, delivery.position)

    def named(self, value: Any) -> Any:
        """Return `value` with epochs numbered in the order of first appearance, and without times."""
        if isinstance(value, str) and _EPOCH.fullmatch(value):
            return self._names.setdefault(value, f"epoch {len(self._names)}")
        if isinstance(value, Stored):
            value = value._replace(at=0.0, expires=0.0)
        if hasattr(value, "_fields"):
            return type(value)(*map(self.named, value))
        if isinstance(value, msgspec.Struct):
            return type(value)(*map(self.named, msgspec.structs.astuple(value)))
        if isinstance(value, tuple | list):
            return [self.named(each) for each in value]
        if isinstance(value, Mapping):
            return {key: self.named(each) for key, each in value.items()}
        return value

    async def _node(self) -> Node:
        return await self._cluster.node(window=self._window, grace=LONG)
