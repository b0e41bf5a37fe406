"""Faults between users and servers; each ends by itself."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from signal import SIGTERM
from time import monotonic

from tests.faults.chaos.proxy import Passage

from .site import Site
from .tabs import KEEPALIVE, Tab

Fault = Callable[[Site, Sequence[Tab], Random], Coroutine[None, None, None]]

AWAY = (0.3, 1.5)
"""Seconds for which a killed or cut part stays away."""

ASLEEP = 3.0
"""Seconds that a tab sleeps."""

ASLEEP_FOR_LONG = 50.0
"""Seconds; longer than a server waits for a sign of life, which is 45."""

SILENT = 2 * KEEPALIVE + 1.0
"""Seconds for which servers receive nothing, but can send."""

NOTICED = 30.0
"""Seconds within which every client has to notice a dead connection; a server would need longer."""


async def first_server_killed(site: Site, tabs: Sequence[Tab], dice: Random) -> None:
    await _kill(site, dice, 0)


async def second_server_killed(site: Site, tabs: Sequence[Tab], dice: Random) -> None:
    await _kill(site, dice, 1)


async def both_servers_killed(site: Site, tabs: Sequence[Tab], dice: Random) -> None:
    await _kill(site, dice, 0, 1)


async def servers_replaced(site: Site, tabs: Sequence[Tab], dice: Random) -> None:
    """Stop one server after the other with SIGTERM, as an upgrade does."""
    for server in site.servers:
        await server.end(SIGTERM)
        await server.start()


async def redis_killed(site: Site, tabs: Sequence[Tab], dice: Random) -> None:
    await asyncio.to_thread(site.redis.stop)
    await asyncio.sleep(dice.uniform(*AWAY))
    await asyncio.to_thread(site.redis.start)


async def redis_emptied(site: Site, tabs: Sequence[Tab], dice: Random) -> None:
    await site.flush()


async def network_cut(site: Site, tabs: Sequence[Tab], dice: Random) -> None:
    site.network.is_down = True
    site.network.cut()
    await asyncio.sleep(dice.uniform(*AWAY))
    site.network.is_down = False


async def network_silent(site: Site, tabs: Sequence[Tab], dice: Random) -> None:
    """Drop everything in both directions without closing: the connections look alive."""
    await _swallow(site, there=True, back=True)


async def network_silent_to_servers(site: Site, tabs: Sequence[Tab], dice: Random) -> None:
    await _swallow(site, there=True, back=False)


async def network_silent_to_tabs(site: Site, tabs: Sequence[Tab], dice: Random) -> None:
    await _swallow(site, there=False, back=True)


async def tab_asleep(site: Site, tabs: Sequence[Tab], dice: Random) -> None:
    await dice.choice(tabs).sleep(ASLEEP, is_told=dice.choice((True, False)))


async def tab_asleep_for_long(site: Site, tabs: Sequence[Tab], dice: Random) -> None:
    await dice.choice(tabs).sleep(ASLEEP_FOR_LONG, is_told=False)


async def leader_asleep(site: Site, tabs: Sequence[Tab], dice: Random) -> None:
    """Suspend a leading tab, without a notice to the tabs that share its connection."""
    await dice.choice(await _leaders(tabs)).sleep(ASLEEP, is_told=False)


async def leader_asleep_for_long(site: Site, tabs: Sequence[Tab], dice: Random) -> None:
    await dice.choice(await _leaders(tabs)).sleep(ASLEEP_FOR_LONG, is_told=False)


async def tab_reloaded(site: Site, tabs: Sequence[Tab], dice: Random) -> None:
    """Reload a tab that is behind the acknowledgements of others."""
    await dice.choice(tabs).reload(2.0)


async def leader_reloaded(site: Site, tabs: Sequence[Tab], dice: Random) -> None:
    """Reload a leading tab while the tabs that share its connection send messages."""
    leader = dice.choice(await _leaders(tabs))
    async with asyncio.TaskGroup() as tasks:
        for tab in tabs:
            tasks.create_task(leader.reload(0.1) if tab is leader else tab.say())


def together(*faults: Fault) -> Fault:
    """Return one fault that consists of several simultaneous ones."""

    async def fault(site: Site, tabs: Sequence[Tab], dice: Random) -> None:
        async with asyncio.TaskGroup() as tasks:
            for each in faults:
                tasks.create_task(each(site, tabs, dice))

    fault.__name__ = " with ".join(each.__name__ for each in faults)
    return fault


async def _leaders(tabs: Sequence[Tab]) -> Sequence[Tab]:
    """Return the tabs that lead others; all tabs if none share a connection."""
    return [tab for tab in tabs if await tab.leads()] or tabs


async def _kill(site: Site, dice: Random, *which: int) -> None:
    for n in which:
        await site.servers[n].end()
    await asyncio.sleep(dice.uniform(*AWAY))
    await asyncio.gather(*(site.servers[n].start() for n in which))


async def _swallow(site: Site, *, there: bool, back: bool) -> None:
    """Block the present connections; new ones work."""
    dead = list(site.network.passages)
    for passage in dead:
        passage.there.is_swallowing, passage.back.is_swallowing = there, back
    if back:
        await _noticed(site, dead)
    else:
        await asyncio.sleep(SILENT)
    for passage in dead:
        passage.cut()


async def _noticed(site: Site, dead: Sequence[Passage]) -> None:
    """Wait until a new connection replaces each dead one."""
    end = monotonic() + NOTICED
    while (returned := len(site.network.passages.difference(dead))) < len(dead):
        assert monotonic() < end, f"{returned} of {len(dead)} clients have noticed the silence"
        await asyncio.sleep(0.05)
