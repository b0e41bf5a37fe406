"""Injection of faults into a site, as Jepsen's nemesis does; each fault ends by itself."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from random import Random

import redis.asyncio
from redis.exceptions import RedisError

from .journal import write
from .proxy import Way
from .site import LEASE, Site

PAUSE = (0.4, 1.6)
"""Seconds between the beginnings of two faults; many last longer, so that faults overlap."""

Fault = Callable[[Site, Random], Coroutine[None, None, None]]


async def node_killed(site: Site, dice: Random) -> None:
    dice.choice(site.nodes).kill()


async def node_stopped(site: Site, dice: Random) -> None:
    dice.choice(site.nodes).terminate()


async def node_paused_past_its_lease(site: Site, dice: Random) -> None:
    node = dice.choice(site.nodes)
    node.pause()
    await asyncio.sleep(LEASE * dice.uniform(1.2, 2))
    node.resume()


async def dispatcher_killed(site: Site, dice: Random) -> None:
    dice.choice(site.dispatchers).kill()


async def redis_killed(site: Site, dice: Random) -> None:
    async with site.redis_lock:
        site.redis.stop()
        await asyncio.sleep(dice.uniform(0, 1))
        await asyncio.to_thread(site.redis.start)


async def redis_frozen(site: Site, dice: Random) -> None:
    async with site.redis_lock:
        site.redis.freeze()
        await asyncio.sleep(dice.uniform(0.5, 3))
        site.redis.thaw()


async def subscribers_killed(site: Site, dice: Random) -> None:
    await _client_kill(site, "pubsub")


async def redis_connections_killed(site: Site, dice: Random) -> None:
    await _client_kill(site, "normal")


async def redis_way_cut(site: Site, dice: Random) -> None:
    dice.choice(site.redis_ways).cut()


async def redis_way_down(site: Site, dice: Random) -> None:
    way = dice.choice(site.redis_ways)
    way.is_down = True
    way.cut()
    await asyncio.sleep(LEASE * dice.uniform(0.2, 2))
    way.is_down = False


async def redis_way_slow(site: Site, dice: Random) -> None:
    way = dice.choice(site.redis_ways)
    way.delay = dice.uniform(0.02, 0.3)
    await asyncio.sleep(dice.uniform(1, 3))
    way.delay = 0.0


async def redis_replies_lost(site: Site, dice: Random) -> None:
    passages = dice.choice(site.redis_ways).some(dice, 1)
    await _swallow([passage.back for passage in passages], dice)
    for passage in passages:
        passage.cut()


async def redis_way_half_closed(site: Site, dice: Random) -> None:
    for passage in dice.choice(site.redis_ways).some(dice, 0.5):
        dice.choice([passage.there, passage.back]).end()


async def clients_cut(site: Site, dice: Random) -> None:
    for passage in site.client_way.some(dice, dice.uniform(0.05, 0.5)):
        passage.cut()


async def clients_slowed(site: Site, dice: Random) -> None:
    site.client_way.delay = dice.uniform(0.02, 0.3)
    await asyncio.sleep(dice.uniform(1, 3))
    site.client_way.delay = 0.0


async def frames_lost(site: Site, dice: Random) -> None:
    passages = site.client_way.some(dice, dice.uniform(0.05, 0.5))
    await _swallow([dice.choice([passage.there, passage.back]) for passage in passages], dice)
    for passage in passages:
        passage.cut()


async def clients_half_closed(site: Site, dice: Random) -> None:
    passages = site.client_way.some(dice, dice.uniform(0.05, 0.3))
    for passage in passages:
        dice.choice([passage.there, passage.back]).end()
    await asyncio.sleep(dice.uniform(0, 3))
    for passage in passages:
        passage.cut()


async def readers_stalled(site: Site, dice: Random) -> None:
    passages = site.client_way.some(dice, dice.uniform(0.05, 0.3))
    for passage in passages:
        passage.back.flows.clear()
    await asyncio.sleep(dice.uniform(1, 4))
    for passage in passages:
        passage.back.flows.set()


FAULTS: tuple[Fault, ...] = (
    node_killed,
    node_stopped,
    node_paused_past_its_lease,
    dispatcher_killed,
    redis_killed,
    redis_frozen,
    subscribers_killed,
    redis_connections_killed,
    redis_way_cut,
    redis_way_down,
    redis_way_slow,
    redis_replies_lost,
    redis_way_half_closed,
    clients_cut,
    clients_slowed,
    frames_lost,
    clients_half_closed,
    readers_stalled,
)


class Nemesis:
    """Injects faults in an order determined by its random numbers.

    Attributes:
        injected: number of injected faults of each kind.
    """

    def __init__(self, site: Site, dice: Random) -> None:
        self._site = site
        self._dice = dice
        self.injected: Counter[str] = Counter()

    async def rage(self, seconds: float) -> None:
        """Inject faults for so many seconds, each kind before any repeats; return when all have ended."""
        deck: list[Fault] = []
        async with asyncio.TaskGroup() as tasks:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while True:
                        deck = deck or self._dice.sample(FAULTS, len(FAULTS))
                        fault = deck.pop()
                        self._note(fault.__name__.replace("_", " "))
                        # Its own random numbers, so that a fault does not depend on the timing of others.
                        tasks.create_task(fault(self._site, Random(self._dice.random())))
                        await asyncio.sleep(self._dice.uniform(*PAUSE))

    def _note(self, name: str) -> None:
        self.injected[name] += 1
        with self._site.log("nemesis").open("ab") as log:
            write(["fault", name], log.fileno())


async def _swallow(ways: list[Way], dice: Random) -> None:
    for way in ways:
        way.is_swallowing = True
    await asyncio.sleep(dice.uniform(0, 1))


async def _client_kill(site: Site, kind: str) -> None:
    with suppress(RedisError, OSError, TimeoutError):
        async with redis.asyncio.Redis.from_url(site.redis.url, socket_timeout=2.0) as client:
            await client.client_kill_filter(_type=kind)
