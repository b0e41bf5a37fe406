"""Redis is restarted or stopped: connected ids stay online, and ids of a dead server go offline.

`make test` has a short and a long outage of each kind, once, with a short lease, as only the number of
leases in an outage matters. `make chaos` has five of each kind, ten times, with the defaults of a server.
"""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.closing_report import ClosingReport

from .restarts.run import Plan, evidence, run, table
from .restarts.site import LEASE, How, Site
from .restarts.verdict import Verdict

HOWS: tuple[How, How] = ("restarted", "stopped")

IS_CHAOS = bool(os.environ.get("MESA_CHAOS_SECONDS"))


class Kind(NamedTuple):
    """Settings of all outages of a test; the grace leaves a busy machine time to log in again."""

    release: str
    lease: float
    grace: float
    rounds: int


async def suffer(folder: Path, kind: Kind, plans: Sequence[Plan]) -> list[Verdict]:
    """Run outages concurrently, as they mostly wait."""

    async def one(plan: Plan) -> Verdict:
        own = folder / f"{plan.how}-{plan.seconds:g}"
        own.mkdir()
        async with Site.standing(own, kind.release, kind.lease, kind.grace) as site:
            return await run(site, plan, kind.rounds)

    return await asyncio.gather(*map(one, plans))


async def judge(folder: Path, kind: Kind, lengths: Sequence[int], config: pytest.Config) -> None:
    """Print a table at the end of the run, and fail where a promise was broken."""
    plans = [Plan(how, seconds) for how in HOWS for seconds in lengths]
    verdicts = await suffer(folder, kind, plans)
    lines = table(plans, verdicts, kind.lease)
    ClosingReport.of(config).add("faults", f"{kind.release} was away, a lease is {kind.lease:g} s:", *lines)
    found = [line for plan, verdict in zip(plans, verdicts, strict=True) for line in evidence(plan, verdict)]
    assert not found, "\n".join(found)


@pytest.mark.timeout(120)
async def test_who_stays_is_not_taken_for_gone(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    await judge(tmp_path, Kind("redis", 4.0, 2.5, 1), (2, 15), pytestconfig)


@pytest.mark.timeout(3600)
@pytest.mark.skipif(not IS_CHAOS, reason="for make chaos: it takes a quarter of an hour")
async def test_who_stays_is_not_taken_for_gone_by_default(
    release: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    await judge(tmp_path, Kind(release, LEASE, 5.0, 10), (2, 5, 8, 15, 40), pytestconfig)
