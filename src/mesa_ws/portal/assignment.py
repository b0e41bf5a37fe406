"""Which queues a portal should own, and owning them at the backend as portals come and go."""

import asyncio
import logging
from collections.abc import Collection
from contextlib import suppress
from hashlib import sha1

from ..backend.inbox import PARTITIONS, PortalConsumer
from ..concurrency.retry import retry_after
from ..errors import BackendError
from .handling import Handling

HEARTBEAT = 1.0
"""Seconds between two heartbeats, unless a third of the lease is less."""

HURRIED_HEARTBEAT = 0.1
"""Seconds between two heartbeats while a queue is about to change its owner."""

log = logging.getLogger("mesa_ws.portal")


def assigned_queues(portals: Collection[str], portal: str) -> frozenset[int]:
    """Return the queues that one of the living portals should own.

    Rendezvous hashing: each queue goes to the portal with the highest hash for it, among those that
    have less than their share. Shares differ by one at most, so sixteen portals have one queue each.
    """
    if portal not in portals:
        return frozenset()
    share, larger = divmod(PARTITIONS, len(portals))
    loads = dict.fromkeys(sorted(portals), 0)
    assigned = set()
    for number in range(PARTITIONS):
        free = [each for each, load in loads.items() if load < share + (larger > 0)]
        owner = max(free, key=lambda each: _hash(each, number))
        loads[owner] += 1
        larger -= loads[owner] > share
        if owner == portal:
            assigned.add(number)
    return frozenset(assigned)


def _hash(portal: str, number: int) -> bytes:
    return sha1(f"{portal}:{number}".encode(), usedforsecurity=False).digest()


class Assignment:
    """Owns the queues that are assigned to one portal.

    A queue that another portal should own is given up when none of its events is being handled any
    more, and everything that was is recorded: so the next owner begins with the next event. After
    `HAND_OVER` seconds it is given up all the same, or one handler that hangs would stop the queue.

    Args:
        consumer: the portal's end of the inbox.
        handling: handles the events of the queues.
        lease: seconds without a heartbeat after which other portals take over.

    Attributes:
        owned: the queues that are owned, by number; some may be closed.
        portals: all portals that take part.
    """

    def __init__(self, consumer: PortalConsumer, handling: Handling, lease: float) -> None:
        self.owned = handling.owned
        self.portals: tuple[str, ...] = ()
        self._consumer = consumer
        self._handling = handling
        self._heartbeat = min(HEARTBEAT, lease / 3)
        self._retry = retry_after(lease)
        self._is_leaving = False
        self._is_cut_off = False

    @property
    def is_settled(self) -> bool:
        """Whether this portal owns the queues that are assigned to it, and no others."""
        return self._assigned == self.owned.keys() and all(queue.is_open for queue in self.owned.values())

    async def heartbeat(self) -> None:
        """Send a heartbeat, and own the queues that are assigned.

        Raises:
            BackendError: the backend did not answer.
        """
        while True:
            assigned = self._assigned
            for number, queue in self.owned.items():
                if number not in assigned:
                    queue.close()
            busy = {number: queue for number, queue in self.owned.items() if not queue.is_idle}
            overdue = {number for number, queue in busy.items() if queue.is_overdue}
            ownership = await self._consumer.heartbeat((assigned | busy.keys()) - overdue)
            for number in set(self.owned) | set(ownership.tokens):
                self._update(number, ownership.tokens.get(number))
            if ownership.portals == self.portals:
                return
            log.info("%d portals share the queues", len(ownership.portals))
            self.portals = ownership.portals

    async def run(self) -> None:
        """Send heartbeats; never ends."""
        while True:
            pause = self._heartbeat if self.is_settled else min(HURRIED_HEARTBEAT, self._heartbeat)
            await asyncio.sleep(min(pause, self._retry) if self._is_cut_off else pause)
            try:
                await self.heartbeat()
                self._is_cut_off = False
            except BackendError as error:
                if not self._is_cut_off:
                    self._is_cut_off = True
                    log.warning("the heartbeat of this portal failed; others may take over: %s", error)

    async def leave(self) -> None:
        """Give up all queues, each as soon as none of its events is being handled."""
        self._is_leaving = True
        for queue in self.owned.values():
            queue.close()
        while busy := [task for queue in self.owned.values() for task in queue.events.tasks]:
            await asyncio.wait(busy, timeout=HURRIED_HEARTBEAT)
            with suppress(BackendError):  # the backend is away; handlers finish all the same
                await self.heartbeat()
        await self._handling.settled()

    async def depart(self) -> None:
        """Give up all queues at once, and take part no more.

        Raises:
            BackendError: the backend did not answer; other portals take over when the lease is over.
        """
        self.owned.clear()
        await self._consumer.heartbeat((), stays=False)

    @property
    def _assigned(self) -> frozenset[int]:
        if self._is_leaving:
            return frozenset()
        return assigned_queues(self.portals, self._consumer.portal_id)

    def _update(self, number: int, token: int | None) -> None:
        """Make one entry of `owned` agree with the backend."""
        known = self.owned.get(number)
        if known is not None and known.token == token:
            if not known.is_open and known.is_idle:  # it was about to be given up, or believed lost
                self._handling.own(number, token)
            return
        if known is not None:
            known.close()
            del self.owned[number]
        if token is not None:
            self._handling.own(number, token)
