"""One run: failover after failover, then calm, and the judgement."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mesa_ws import AsyncDispatcher
from tests.faults.chaos.dispatcher import TIMEOUT, aconfirm
from tests.faults.chaos.journal import Journal
from tests.faults.chaos.plan import Order
from tests.faults.chaos.program import Program
from tests.faults.chaos.run import until as holds_in_time

from .failover import Failover, Failovers
from .kinds import KINDS
from .messages import heard_by, judge_messages, sent_to
from .outages import calls_of, outages
from .portal_events import judge_events
from .presence import judge_presence
from .redises import until
from .report import PERMITTED, PERMITTED_REPLICATED, Report
from .site import LEASE, NAMESPACE, Durability, Site

CALM = 1.0
"""Seconds before the first failover, and after each of them."""

DRAIN = 30.0
"""Seconds within which everything has to arrive."""

LAST = "last"
"""Source of the last message to everybody."""


async def run(
    folder: Path, release: str, durability: Durability, kinds: Sequence[str], *, waits: bool = True
) -> Report:
    """Let masters fail in several ways, and judge. The logs are in `folder`.

    Args:
        folder: folder for logs.
        release: which redis-server.
        durability: durability of dispatches.
        kinds: names of `KINDS`.
        waits: whether to wait until Sentinel makes the old master a replica, 8 to 11 seconds.
    """
    async with Site.standing(folder, release, durability) as site:
        failovers = [await _fail_over(site, kind, waits=waits) for kind in kinds]
        await asyncio.sleep(CALM)
        await _end(site)
        return judge(site, folder, release, durability, Failovers(failovers))


async def _fail_over(site: Site, kind: str, *, waits: bool) -> Failover:
    old = site.redises.master
    site.leave()
    await asyncio.sleep(CALM)
    began = time.time()
    switched = await KINDS[kind](site.redises, old)
    if not waits:
        await asyncio.sleep(LEASE / 2)
        await asyncio.to_thread(old.follow, site.redises.master.way.port)
    await until(site.redises.is_whole)
    await site.come_back()
    return Failover(kind, began, switched)


async def _end(site: Site) -> None:
    """Stop the senders, and wait until everything has arrived or the limit is over."""
    await _finish(site.logins, *site.dispatchers)
    async with AsyncDispatcher(site.redises.url, namespace=NAMESPACE, sync=True, timeout=TIMEOUT) as last:
        await aconfirm(Order(LAST, 0, (*site.ids, *site.travellers), 0), last.dispatch)
    client_programs = (site.clients, site.away)
    journals = [Journal(each.log) for each in client_programs]
    missing = {*site.ids, *site.travellers}

    def all_have_the_last() -> bool:
        missing.difference_update(record[1] for each in journals for record in each.news() if LAST in record)
        return not missing

    await holds_in_time(all_have_the_last, DRAIN)
    await _finish(*client_programs)
    await _finish(*site.nodes)
    await _quiet(site)
    await _finish(*site.portals)


async def _finish(*programs: Program) -> None:
    async with asyncio.TaskGroup() as tasks:
        for program in programs:
            tasks.create_task(program.finish(DRAIN))


async def _quiet(site: Site) -> None:
    """Wait until portals have been idle for a while."""

    def sizes() -> list[int]:
        return [portal.log.stat().st_size for portal in site.portals]

    before: list[int] = []
    async with asyncio.timeout(DRAIN):
        while before != sizes():
            before = sizes()
            await asyncio.sleep(CALM)


def judge(site: Site, folder: Path, release: str, durability: Durability, failovers: Failovers) -> Report:
    """Return the report, from the journals."""
    dispatches = site.records(*site.dispatchers)
    clients = site.records(site.clients)
    nodes = site.records(*site.nodes)
    findings = [
        *judge_presence(site.ids, clients, nodes),
        *judge_events(clients, nodes, site.records(*site.portals)),
    ]
    everybody = [*site.ids, *site.travellers]
    heard = heard_by(everybody, site.records(site.clients, site.away))
    for id, sent in sent_to(everybody, dispatches).items():
        got = [(time, label) for time, label in heard[id].got if label[0] != LAST]
        findings += judge_messages(id, sent, heard[id]._replace(got=got), failovers)
    return Report.of(
        f"failovers on {release}, durability {durability}: {len(failovers.all)} times",
        failovers,
        outages(calls_of(dispatches), failovers),
        outages(calls_of(site.records(site.logins)), failovers),
        Counter(failovers.at(record[0]) for record in dispatches if record[1] == "confirmed"),
        findings,
        PERMITTED if durability == "memory" else PERMITTED_REPLICATED,
        folder,
    )
