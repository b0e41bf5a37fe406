"""Ways in which a master fails. Each ends when another master is in charge and the old one is back."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from .redises import INSIDE, Member, Redises, until

AWAY = 1.0
"""Seconds that an old master stays away after Sentinel reported another one."""


async def killed(redises: Redises, old: Member) -> float:
    """Kill the master, and start it again, empty."""
    old.server.stop()
    switched = await _switched(redises, old)
    await asyncio.to_thread(old.start)
    return switched


async def stopped(redises: Redises, old: Member) -> float:
    """Suspend the master for a while, and resume it."""
    old.server.freeze()
    switched = await _switched(redises, old)
    old.server.thaw()
    return switched


async def planned(redises: Redises, old: Member) -> float:
    """Request a failover from a Sentinel."""
    await asyncio.to_thread(redises.fail_over)
    return await _switched(redises, old)


async def split(redises: Redises, old: Member) -> float:
    """Cut the master off from replicas and Sentinels, but not from other processes."""
    old.way.bar(INSIDE)
    switched = await _switched(redises, old)
    old.way.heal()
    return switched


Kind = Callable[[Redises, Member], Awaitable[float]]

KINDS: dict[str, Kind] = {"kill -9": killed, "SIGSTOP": stopped, "planned": planned, "partition": split}
"""Each returns the time when the first Sentinel reported another master, by the clock of journals."""


async def _switched(redises: Redises, old: Member) -> float:
    await until(lambda: redises.successor(old) is not None)
    at = time.time()
    await asyncio.sleep(AWAY)
    return at
