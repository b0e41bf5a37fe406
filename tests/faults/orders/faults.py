"""Faults around orders. Each ends when everything is as before."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import get_args

import redis.asyncio
from redis.exceptions import RedisError

from tests.faults.failovers.kinds import KINDS
from tests.faults.failovers.redises import until

from .gate import Cut, How, Part
from .site import Node, Site

Fault = Callable[[Site, float, Random], Awaitable[None]]


def cuts(site: Site, dice: Random, share: float = 1.0) -> dict[Node, Cut]:
    """Return how a share of the nodes are cut off."""
    parts = ("all", "all", *get_args(Part))
    return {
        node: Cut(dice.choice(get_args(How)), dice.choice(parts))
        for node in site.nodes
        if dice.random() < share
    }


async def cut(site: Site, seconds: float, dice: Random) -> None:
    """Cut the nodes off from Redis, each in a way of its own."""
    some = cuts(site, dice)
    for node, how in some.items():
        assert node.gate is not None
        node.gate.shut(how)
    await asyncio.sleep(seconds)
    for node in some:
        assert node.gate is not None
        node.gate.open()


async def paused(site: Site, seconds: float, dice: Random) -> None:
    """Suspend the nodes."""
    site.program.pause()
    await asyncio.sleep(seconds)
    site.program.resume()


async def restarted(site: Site, seconds: float, dice: Random) -> None:
    """Stop Redis and start it again from its append-only file; half of the nodes are cut off longer."""
    assert site.redis is not None
    async with asyncio.TaskGroup() as tasks:
        for node, how in cuts(site, dice, 0.5).items():
            tasks.create_task(_cut_off(node, how, dice.uniform(0, 2 * seconds)))
        await asyncio.sleep(dice.uniform(0, seconds))
        if dice.random() < 0.5:
            with suppress(RedisError):
                async with redis.asyncio.Redis.from_url(site.redis.url) as client:
                    await client.shutdown(nosave=True)
        await asyncio.to_thread(site.redis.stop)  # kill -9, if it has not ended
        await asyncio.sleep(dice.uniform(0, seconds))
        await asyncio.to_thread(site.redis.start)


async def failed_over(site: Site, seconds: float, dice: Random) -> None:
    """Let the master fail, in one of four ways; every second time the nodes are suspended."""
    assert site.redises is not None
    is_paused = dice.random() < 0.5
    if is_paused:
        site.program.pause()
        await asyncio.sleep(dice.uniform(0, seconds / 2))
    await KINDS[dice.choice(sorted(KINDS))](site.redises, site.redises.master)
    site.program.resume()
    await until(site.redises.is_whole)


async def _cut_off(node: Node, how: Cut, seconds: float) -> None:
    assert node.gate is not None
    node.gate.shut(how)
    await asyncio.sleep(seconds)
    node.gate.open()
