"""How a master is lost. Each has ended when the master is another one, and the old one is back."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from .redises import INSIDE, Member, Redises, until

AWAY = 1.0
"""Seconds that an old master stays away after another one was named."""


async def killed(redises: Redises, old: Member) -> float:
    """It ends at once, and is started again, empty."""
    old.server.stop()
    switched = await _switched(redises, old)
    await asyncio.to_thread(old.start)
    return switched


async def stopped(redises: Redises, old: Member) -> float:
    """It does nothing for a while, and then goes on as if nothing had been."""
    old.server.freeze()
    switched = await _switched(redises, old)
    old.server.thaw()
    return switched


async def planned(redises: Redises, old: Member) -> float:
    """A Sentinel is asked for another master."""
    await asyncio.to_thread(redises.fail_over)
    return await _switched(redises, old)


async def split(redises: Redises, old: Member) -> float:
    """Replicas and Sentinels cannot reach it; all others can."""
    old.way.bar(INSIDE)
    switched = await _switched(redises, old)
    old.way.heal()
    return switched


Kind = Callable[[Redises, Member], Awaitable[float]]

KINDS: dict[str, Kind] = {"kill -9": killed, "SIGSTOP": stopped, "planned": planned, "partition": split}
"""Each returns when the first Sentinel named another master, by the clock of journals."""


async def _switched(redises: Redises, old: Member) -> float:
    await until(lambda: redises.successor(old) is not None)
    at = time.time()
    await asyncio.sleep(AWAY)
    return at
