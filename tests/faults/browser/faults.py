"""What breaks between users and servers; each fault ends by itself."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from signal import SIGTERM

from .site import Site
from .tabs import KEEPALIVE, Tab

Fault = Callable[[Site, Sequence[Tab], Random], Coroutine[None, None, None]]

AWAY = (0.3, 1.5)
"""Seconds for which something that was killed or cut stays away."""

ASLEEP = 3.0
"""Seconds that a tab sleeps."""

SILENT = 2 * KEEPALIVE + 1.0
"""Seconds after which every client has noticed that its connection is dead."""


async def first_server_killed(site: Site, tabs: Sequence[Tab], dice: Random) -> None:
    await _kill(site, dice, 0)


async def second_server_killed(site: Site, tabs: Sequence[Tab], dice: Random) -> None:
    await _kill(site, dice, 1)


async def both_servers_killed(site: Site, tabs: Sequence[Tab], dice: Random) -> None:
    await _kill(site, dice, 0, 1)


async def servers_replaced(site: Site, tabs: Sequence[Tab], dice: Random) -> None:
    """SIGTERM for one server after the other, as an upgrade does."""
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
    """Lose what is sent either way, and close nothing: the connections look alive."""
    await _swallow(site, there=True, back=True)


async def network_silent_to_servers(site: Site, tabs: Sequence[Tab], dice: Random) -> None:
    await _swallow(site, there=True, back=False)


async def network_silent_to_tabs(site: Site, tabs: Sequence[Tab], dice: Random) -> None:
    await _swallow(site, there=False, back=True)


async def tab_asleep(site: Site, tabs: Sequence[Tab], dice: Random) -> None:
    await dice.choice(tabs).sleep(ASLEEP)


async def tab_reloaded(site: Site, tabs: Sequence[Tab], dice: Random) -> None:
    """Reload one that keeps its positions; without them it would begin where others are."""
    await dice.choice([tab for tab in tabs if tab.keeps]).reload()


async def _kill(site: Site, dice: Random, *which: int) -> None:
    for n in which:
        await site.servers[n].end()
    await asyncio.sleep(dice.uniform(*AWAY))
    await asyncio.gather(*(site.servers[n].start() for n in which))


async def _swallow(site: Site, *, there: bool, back: bool) -> None:
    """Let nothing pass on the connections that there are; new ones are not concerned."""
    dead = list(site.network.passages)
    for passage in dead:
        passage.there.is_swallowing, passage.back.is_swallowing = there, back
    await asyncio.sleep(SILENT)
    returned = len(site.network.passages.difference(dead))
    assert returned >= len(dead) or not back, f"{returned} of {len(dead)} clients have noticed the silence"
    for passage in dead:
        passage.cut()
