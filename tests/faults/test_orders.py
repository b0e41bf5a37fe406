"""Orders to end connections are carried out whatever happens around them, before anything later is delivered.

`make chaos` has two hundred rounds of each fault: of nodes cut off for 3 and for 20 seconds, of suspended
ones, of a restarted Redis and of failovers. A lease is 15 seconds, so that it ends in the longer ones.
"""

import math
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from mesa_ws.backend import orders as giving
from tests.closing_report import ClosingReport

from .orders import faults
from .orders.faults import Fault
from .orders.run import FAULTS, Tally, batch, judge
from .orders.site import Site, staying

SECONDS = float(os.environ.get("MESA_CHAOS_SECONDS") or 0)
IS_CHAOS = SECONDS > 0
SEED = os.environ.get("MESA_CHAOS_SEED") or secrets.token_hex(4)

NODES, LEASE = (20, 15.0) if IS_CHAOS else (4, 1.0)
BATCHES = min(10, math.ceil(SECONDS / 60)) or 1

PLANS: Sequence[tuple[str, Fault, float]] = [
    (f"{name} {fraction * LEASE:.3g} s", fault, fraction * LEASE)
    for name, fault, fraction in (
        ("cut off for", faults.cut, 0.2),
        ("cut off for", faults.cut, 4 / 3),
        *([("suspended for", faults.paused, 0.2)] if IS_CHAOS else []),
        ("suspended for", faults.paused, 4 / 3),
        ("Redis killed within", faults.restarted, 0.2),
    )
]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let receipts come as soon as orders are stored, so that messages follow before nodes have seen them."""
    monkeypatch.setattr(giving, "PATIENCE", 0.0)


async def suffer(site: Site, fault: Fault, seconds: float, dice: Random, first: int) -> Tally:
    """Let a fault happen in some batches, and judge those who stay all the time."""
    tally, began = Tally(), time.monotonic()
    for number in range(first, first + BATCHES):
        await batch(site, fault, seconds, number, dice, tally)
        found = {name: len(some) for name, some in tally.found.items() if some}
        taken = time.monotonic() - began
        print(f"{fault.__name__}, {seconds:g} s: {tally.rounds} rounds in {taken:.0f} s, {found}", flush=True)
    for node in site.nodes:
        await judge(site, node, site.bystanders[node.number], staying(node), fault.__name__, tally)
    return tally


def table(tallies: dict[str, Tally]) -> list[str]:
    """Return a table of what was found."""
    rows: list[tuple[str, ...]] = [("fault", "rounds", "pending", "ended", "stay", "confirmed", *FAULTS)]
    for name, tally in tallies.items():
        figures = (tally.rounds, tally.pending, tally.ended, tally.staying, tally.confirmed)
        rows.append((name, *map(str, figures), *(str(len(tally.found[fault])) for fault in FAULTS)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def evidence(tallies: dict[str, Tally], permitted: Sequence[str] = ()) -> list[str]:
    """Return examples of each fault that was found."""
    return [
        f"{fault}: {each}"
        for tally in tallies.values()
        for fault in FAULTS
        if fault not in permitted
        for each in tally.found[fault][:5]
    ]


@pytest.mark.timeout(3600 if IS_CHAOS else 240)
async def test_no_ordered_connection_stays_or_is_delivered_to(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    dice, tallies = Random(SEED), {}
    async with Site.standing(tmp_path, "redis", LEASE, NODES) as site:
        for number, (name, fault, seconds) in enumerate(PLANS):
            tallies[name] = await suffer(site, fault, seconds, dice, number * BATCHES)
    report(tallies, pytestconfig)


@pytest.mark.skipif(not IS_CHAOS, reason="for make chaos: it takes some minutes")
@pytest.mark.timeout(3600)
async def test_a_failover_lets_no_ordered_connection_stay(
    release: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    async with Site.standing(tmp_path, release, LEASE, NODES, sentinels=True) as site:
        tally = await suffer(site, faults.failed_over, 6.0, Random(SEED), 0)
    report({f"failover of {release}": tally}, pytestconfig, permitted=("doubled",))


def report(tallies: dict[str, Tally], config: pytest.Config, permitted: Sequence[str] = ()) -> None:
    """Print the table at the end of the run, and fail where a promise was broken."""
    ClosingReport.of(config).add("orders", f"seed {SEED}, a lease is {LEASE:g} s:", *table(tallies))
    found = evidence(tallies, permitted)
    assert not found, "\n".join(found)
