"""Rounds of outages, and the table of their verdicts."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from random import Random
from time import monotonic
from typing import NamedTuple

from mesa_ws import BackendError

from .site import LEASE, TALKING, How, Site
from .verdict import LEASES, IdGroups, Outage, Verdict, judge

PATIENCE = LEASES + 1
"""Leases within which a death has to be noticed."""

LIMIT = 30.0
"""Seconds for all other conditions."""

PACE = 0.5
"""Seconds between two numbers of a client, for a lease of default length."""


class Plan(NamedTuple):
    """A kind of outage.

    Attributes:
        how: `restarted`: Redis is killed, and restarted with its data; `stopped`: it does not answer.
        seconds: duration, for a lease of default length.
    """

    how: How
    seconds: float


async def run(site: Site, plan: Plan, rounds: int) -> Verdict:
    """Cause an outage `rounds` times, each at another moment, and judge."""
    dice = Random(str(plan))
    return Verdict.over([await _round(site, plan, dice) for _ in range(rounds)])


def table(plans: Iterable[Plan], verdicts: Iterable[Verdict], lease: float) -> list[str]:
    """Return a table of outages and verdicts."""
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
    """Return some examples of each fault, by name."""
    lists = zip(verdict._fields[2:-1], verdict[2:-1], strict=True)
    return [f"{plan.how} {plan.seconds:g}: {name}: {', '.join(found[:5])}" for name, found in lists if found]


async def _round(site: Site, plan: Plan, dice: Random) -> Verdict:
    site.journal.clear()
    seconds = site.scaled(plan.seconds)
    async with site.dying_server() as (groups, process), asyncio.TaskGroup() as tasks:
        talk = tasks.create_task(_talk(site))
        await asyncio.sleep(dice.uniform(0, site.lease / 3))  # at a random moment between heartbeats
        for client in site.returning:
            await client.leave()
        assert await _holds_in_time(lambda: _are_online(site, groups.returning, 0), LIMIT)
        gone = monotonic()
        outing = tasks.create_task(site.disturb(plan.how, seconds))
        coming = [tasks.create_task(site.come_back(client)) for client in site.returning]
        await asyncio.sleep(dice.uniform(0, seconds))
        process.kill()
        await outing
        back = monotonic()
        await _holds_in_time(lambda: _is_told(site, groups), PATIENCE * site.lease)
        await asyncio.sleep(max(0.0, back + site.lease - monotonic()))  # time for false notifications
        await asyncio.wait(coming, timeout=LIMIT)
        talk.cancel()
    await _holds_in_time(lambda: _is_handled(site), LIMIT)
    here = (*groups.staying, *groups.returning)
    absent = [] if await _holds_in_time(lambda: _are_online(site, here, 1), LIMIT) else here
    return judge(site.journal, groups, Outage(gone, back, site.lease, site.grace), absent)


async def _talk(site: Site) -> None:
    while True:
        for client in site.staying[:TALKING]:
            await client.talk()
        await asyncio.sleep(site.scaled(PACE))


async def _are_online(site: Site, ids: tuple[str, ...], connections: int) -> bool:
    try:
        return set((await site.online(ids)).values()) == {connections}
    except BackendError:
        return False


async def _is_told(site: Site, groups: IdGroups) -> bool:
    told = {(event.kind, event.id) for event in site.journal if event.id in groups.dying}
    return {(kind, id) for kind in ("offline", "disconnected") for id in groups.dying} <= told


async def _is_handled(site: Site) -> bool:
    sent, handled = (
        {(event.id, event.number) for event in site.journal if event.kind == kind}
        for kind in ("sent", "handled")
    )
    return sent <= handled


async def _holds_in_time(holds: Callable[[], Awaitable[bool]], limit: float) -> bool:
    """Wait until a condition holds; return whether it does."""
    end = monotonic() + limit
    while not await holds():
        if monotonic() > end:
            return False
        await asyncio.sleep(0.05)
    return True
