"""An open node of the 1.x wire."""

import asyncio
import logging
from collections.abc import Callable

from ...concurrency.retry import LimitedWarning
from ..base import Membership, Receive, Watcher
from ..inbox import AppendResult, Capacity, InboxEvent
from ..redis_client.address import Address
from ..redis_client.pipelines import Pipelines
from ..redis_client.subscriber import Subscriber
from ..redis_wire.lease import Pulse
from ..redis_wire.node import WireNode
from ..redis_wire.timing import BEATS, Timing
from .channel import Mesa1Channel
from .commands import Mesa1NodeCommands, warn_of_another_type
from .members import Mesa1Members
from .portal_dispatch import PortalDispatch
from .rights import of_server
from .wire import Mesa1Handshake, Mesa1Wire, ignore

RETRY = 0.2
"""Seconds until the ids are recorded again where that failed; at most a third of the lease."""

_log = logging.getLogger("mesa_ws.backend")


class Mesa1Node(WireNode):
    """One open node.

    As often as it renews its lease it records all ids that it holds: a server of 1.x whose connection of an
    id ends removes the id from the shared set, and Redis may have lost its data.

    Args:
        address: address of Redis.
        wire: operations of the namespace.
        node_id: name of the node.
        timing: durations of the lease and of calls.
        receive: gets the envelopes.
        watcher: learns what happens; None if nothing has to.
        membership: how the node takes part.
        spreads: whether portals take turns.

    Attributes:
        portals: the portals that get events.
    """

    members: Mesa1Members
    channel: Mesa1Channel

    def __init__(
        self,
        address: Address,
        wire: Mesa1Wire,
        node_id: str,
        timing: Timing,
        receive: Receive,
        watcher: Watcher | None,
        membership: Membership,
        *,
        spreads: bool,
    ) -> None:
        keys, pause = wire.keys, timing.lease / BEATS
        handshake = Mesa1Handshake(
            keys,
            of_server(keys),
            stores=membership.retention is not None,
            allow_eviction=membership.allow_eviction,
            database=address.database,
        )
        pipelines = Pipelines(address, handshake, timing.timeout)
        commands = Mesa1NodeCommands(keys, node_id, timing.lease, timing.expiry, membership.grace)
        super().__init__(pipelines, commands, watcher, timing, renewal=pause, retry=min(RETRY, pause))
        self._commands = commands
        self._is_counting = False
        self._strange = LimitedWarning()
        self._has_portals = membership.portals
        on_leaving = self._grace_watch.plan
        self.members = Mesa1Members(
            pipelines.main, self.keeper, commands, receive, self._watcher, self.on_doubt, on_leaving
        )
        self.channel = Mesa1Channel(receive, keys, node_id, self.rereads.soon)
        self.portals = PortalDispatch(
            pipelines.main, commands, self._watcher, spreads=spreads, log=self.channel.log
        )
        self.append = self._publish
        others: dict[str, Callable[[bytes], None]] = {
            keys.channel(node_id): self.channel.on_own,
            keys.database(address.database): ignore,
        }
        if membership.portals:
            others[keys.pool] = self.portals.hear
        on_frame, limit = self.channel.on_frame, timing.timeout
        self.subscriber = Subscriber(address, [keys.messages], on_frame, self.on_doubt, limit, others=others)

    async def open(self) -> None:
        """Join the cluster; see `WireNode.open`."""
        await super().open()
        if self._has_portals:
            await self.portals.look()
            self._tasks.start(self.portals.run, "portals")
        self._tasks.start(self.members.look_late, "lists")

    async def leave(self) -> None:
        """Finish shrinking lists, and give up the lease and all ids."""
        await self.members.aclose()
        await super().leave()

    def connected(self, count: int) -> None:
        """Set the number of connections, and write it to Redis soon."""
        self.keeper.connections = count
        if not self._is_counting:
            self._is_counting = True
            asyncio.get_running_loop().call_soon(self._post_count)

    async def on_beat(self, pulse: Pulse) -> None:
        """Handle a heartbeat, which also takes a lease that was lost."""
        await super().on_beat(pulse)
        had_lease, has_cleared, strange = pulse.own
        if not had_lease and self.keeper.joins:
            _log.warning(
                "node %s: its lease ran out, so others treated it as dead; it reads stored messages again",
                self._commands.node,
            )
            self.on_doubt()
        if has_cleared:
            warn_of_another_type(self._commands.keys)
        if strange:
            self._strange.warn(
                _log,
                "%r has another type than 1.x keeps there, so servers of 1.x cannot work; use another "
                "namespace if the key belongs to another application, or delete it",
                strange[0].decode(),
            )

    def on_doubt(self) -> None:
        """Resync at once: the node may have missed messages, or Redis may have lost data."""
        super().on_doubt()
        self.portals.doubt()

    async def _publish(self, given: tuple[InboxEvent, Capacity]) -> AppendResult:
        """Publish an event to a portal; no event waits, so its capacity has no meaning."""
        return await self.portals.append(given[0])

    def _post_count(self) -> None:
        self._is_counting = False
        call = self._commands.recount(self.keeper.connections)
        self.pipelines.main.post([call.command], self.on_doubt)
