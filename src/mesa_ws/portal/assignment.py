"""Which queues this portal owns: made so at the backend, as portals come and go."""

import asyncio
import logging
from collections.abc import Collection
from contextlib import suppress
from hashlib import sha1

from ..backend.inbox import PARTITIONS, PortalConsumer
from ..concurrency.retry import retry_after
from ..errors import BackendError
from .commits import Ledger, Owned


def share(portals: Collection[str], portal: str) -> frozenset[int]:
    """The queues that one of the living portals should own.

    Rendezvous hashing: each queue goes to the portal that draws the highest lot for it, as long as
    that has less than its part. Parts differ by one at most, so sixteen portals have one each.
    """
    if portal not in portals:
        return frozenset()
    part, larger = divmod(PARTITIONS, len(portals))
    loads = dict.fromkeys(sorted(portals), 0)
    mine = set()
    for number in range(PARTITIONS):
        free = [each for each, load in loads.items() if load < part + (larger > 0)]
        owner = max(free, key=lambda each: _lot(each, number))
        loads[owner] += 1
        larger -= loads[owner] > part
        if owner == portal:
            mine.add(number)
    return frozenset(mine)


def _lot(portal: str, number: int) -> bytes:
    return sha1(f"{portal}:{number}".encode(), usedforsecurity=False).digest()


BEAT = 1.0
"""Seconds between two signs of life, unless a third of the lease is less."""

HASTE = 0.1
"""Seconds between them while a queue is about to change hands."""

log = logging.getLogger("mesa_ws.portal")


class Holdings:
    """Looks after what one portal owns.

    A queue that another portal should own is let go of when nothing of it is being handled any
    more, and everything that was is noted: so whoever owns it next begins with the next letter. After
    some time it is let go of all the same, or one handler that hangs would hold up the whole queue.

    Args:
        attendance: the portal's seat.
        ledger: what has to be noted first.
        lease: seconds without a sign of life after which others take over.

    Attributes:
        owned: what is owned, by number; some of it may be closed.
        portals: who takes part.
    """

    def __init__(self, attendance: PortalConsumer, ledger: Ledger, lease: float) -> None:
        self.owned: dict[int, Owned] = {}
        self.portals: tuple[str, ...] = ()
        self._attendance = attendance
        self._ledger = ledger
        self._beat = min(BEAT, lease / 3)
        self._retry = retry_after(lease)
        self._is_leaving = False
        self._is_cut_off = False

    @property
    def is_settled(self) -> bool:
        """Whether this portal owns what it should, and nothing else."""
        return self._share == self.owned.keys() and all(owned.is_open for owned in self.owned.values())

    async def tend(self) -> None:
        """Show up, and own what should be owned.

        Raises:
            BackendError: the backend did not answer.
        """
        while True:
            wanted = self._share
            for number, owned in self.owned.items():
                if number not in wanted:
                    owned.close()
            busy = {number: owned for number, owned in self.owned.items() if not owned.is_idle}
            overdue = {number for number, owned in busy.items() if owned.is_overdue}
            ownership = await self._attendance.tend((wanted | busy.keys()) - overdue)
            for number in set(self.owned) | set(ownership.tokens):
                self._accept(number, ownership.tokens.get(number))
            if ownership.portals == self.portals:
                return
            log.info("%d portals share the work", len(ownership.portals))
            self.portals = ownership.portals

    async def run(self) -> None:
        """Show up again and again; never ends."""
        while True:
            pause = self._beat if self.is_settled else min(HASTE, self._beat)
            await asyncio.sleep(min(pause, self._retry) if self._is_cut_off else pause)
            try:
                await self.tend()
                self._is_cut_off = False
            except BackendError as error:
                if not self._is_cut_off:
                    self._is_cut_off = True
                    log.warning("this portal cannot show that it lives: %s", error)

    async def leave(self) -> None:
        """Let go of everything, each queue as soon as nothing of it is being handled."""
        self._is_leaving = True
        for owned in self.owned.values():
            owned.close()
        while busy := [task for owned in self.owned.values() for task in owned.tasks]:
            await asyncio.wait(busy, timeout=HASTE)
            with suppress(BackendError):  # the backend is away; handlers finish all the same
                await self.tend()
        await self._ledger.settled()

    async def depart(self) -> None:
        """Let go of everything at once, and take part no more.

        Raises:
            BackendError: the backend did not answer; others take over when the lease is over.
        """
        self.owned.clear()
        await self._attendance.tend((), stays=False)

    @property
    def _share(self) -> frozenset[int]:
        if self._is_leaving:
            return frozenset()
        return share(self.portals, self._attendance.portal_id)

    def _accept(self, number: int, token: int | None) -> None:
        """Make one entry of `owned` what the backend says."""
        known = self.owned.get(number)
        if known is not None and known.token == token:
            if not known.is_open and known.is_idle:  # it was about to be let go of, or believed lost
                self.owned[number] = Owned(number, token)
            return
        if known is not None:
            known.close()
            del self.owned[number]
        if token is not None:
            self.owned[number] = Owned(number, token)
