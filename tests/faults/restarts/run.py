"""Rounds of outages, and the table of what came of them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from random import Random
from time import monotonic
from typing import NamedTuple

from mesa_ws import BackendError

from .site import LEASE, TALKING, How, Site
from .verdict import LEASES, Cast, Outage, Verdict, judge

PATIENCE = LEASES + 1
"""Leases for which a death is waited for."""

LIMIT = 30.0
"""Seconds for whatever else has to come about."""

PACE = 0.5
"""Seconds between two numbers of one client, where a lease has its default length."""


class Plan(NamedTuple):
    """How Redis goes away.

    Attributes:
        how: `restarted`: Redis is killed, and started again with its log; `stopped`: it does not answer.
        seconds: for how long, where a lease has its default length.
    """

    how: How
    seconds: float


async def run(site: Site, plan: Plan, rounds: int) -> Verdict:
    """Have an outage so often, at another moment each time, and judge."""
    dice = Random(str(plan))
    return Verdict.over([await _round(site, plan, dice) for _ in range(rounds)])


def table(plans: Iterable[Plan], verdicts: Iterable[Verdict], lease: float) -> list[str]:
    """Lines about outages and what came of them."""
    rows: list[tuple[str, ...]] = [
        ("redis was", "for", "leases", "rounds", "deaths told in", *Verdict._fields[2:])
    ]
    for (how, seconds), verdict in zip(plans, verdicts, strict=True):
        counts = (str(len(found)) for found in verdict[2:])
        away = (f"{seconds * lease / LEASE:.1f} s", f"{seconds / LEASE:.2f}", str(verdict.rounds))
        rows.append((how, *away, f"{verdict.told_in:.1f} leases", *counts))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def evidence(plan: Plan, verdict: Verdict) -> list[str]:
    """Some of what was wrong, by name."""
    lists = zip(verdict._fields[2:-1], verdict[2:-1], strict=True)
    return [f"{plan.how} {plan.seconds:g}: {name}: {', '.join(found[:5])}" for name, found in lists if found]


async def _round(site: Site, plan: Plan, dice: Random) -> Verdict:
    site.journal.clear()
    seconds = site.scaled(plan.seconds)
    async with site.mortal() as (cast, process), asyncio.TaskGroup() as tasks:
        talk = tasks.create_task(_talk(site))
        await asyncio.sleep(dice.uniform(0, site.lease / 3))  # heartbeats come at their own times
        for visitor in site.returning:
            await visitor.leave()
        assert await _comes_about(lambda: _are_online(site, cast.returning, 0), LIMIT)
        gone = monotonic()
        outing = tasks.create_task(site.disturb(plan.how, seconds))
        coming = [tasks.create_task(site.come_back(visitor)) for visitor in site.returning]
        await asyncio.sleep(dice.uniform(0, seconds))
        process.kill()
        await outing
        back = monotonic()
        await _comes_about(lambda: _is_told(site, cast), PATIENCE * site.lease)
        await asyncio.sleep(max(0.0, back + site.lease - monotonic()))  # what is false may still come
        await asyncio.wait(coming, timeout=LIMIT)
        talk.cancel()
    await _comes_about(lambda: _is_handled(site), LIMIT)
    here = (*cast.staying, *cast.returning)
    absent = [] if await _comes_about(lambda: _are_online(site, here, 1), LIMIT) else here
    return judge(site.journal, cast, Outage(gone, back, site.lease, site.grace), absent)


async def _talk(site: Site) -> None:
    while True:
        for visitor in site.staying[:TALKING]:
            await visitor.talk()
        await asyncio.sleep(site.scaled(PACE))


async def _are_online(site: Site, ids: tuple[str, ...], connections: int) -> bool:
    try:
        return set((await site.online(ids)).values()) == {connections}
    except BackendError:
        return False


async def _is_told(site: Site, cast: Cast) -> bool:
    told = {(event.kind, event.id) for event in site.journal if event.id in cast.dying}
    return {(kind, id) for kind in ("offline", "disconnected") for id in cast.dying} <= told


async def _is_handled(site: Site) -> bool:
    sent, handled = (
        {(event.id, event.number) for event in site.journal if event.kind == kind}
        for kind in ("sent", "handled")
    )
    return sent <= handled


async def _comes_about(holds: Callable[[], Awaitable[bool]], limit: float) -> bool:
    """Wait for a condition; tell whether it came to hold."""
    end = monotonic() + limit
    while not await holds():
        if monotonic() > end:
            return False
        await asyncio.sleep(0.05)
    return True
