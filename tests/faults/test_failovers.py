"""Failovers behind Sentinel: no silent loss, no disorder, and no connected client reported as offline.

`make chaos` lets thirty masters of each Redis fail, with each durability: MESA_FAILOVERS sets the number.
"""

import os
from itertools import cycle, islice
from pathlib import Path

import pytest

from tests.closing_report import ClosingReport

from .failovers.kinds import KINDS
from .failovers.run import run
from .failovers.site import Durability

COUNT = int(os.environ.get("MESA_FAILOVERS") or 0)

EACH = 60.0
"""Longest duration of one failover in seconds."""


SHORT: dict[str, tuple[str, Durability]] = {
    "redis": ("SIGSTOP", "memory"),
    "redis-8": ("partition", "replicated"),
}
"""Failover and durability of each Redis without `make chaos`."""


@pytest.mark.timeout(240)
async def test_a_failover_keeps_every_promise(
    release: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    kind, durability = SHORT[release]
    report = await run(tmp_path, release, durability, [kind], waits=False)
    ClosingReport.of(pytestconfig).add("failovers", str(report))
    assert not report.broken, str(report)


@pytest.mark.skipif(COUNT == 0, reason="takes half an hour: make chaos")
@pytest.mark.timeout(240 + COUNT * EACH)
@pytest.mark.parametrize("durability", ["memory", "replicated"])
async def test_many_failovers_keep_every_promise(
    durability: Durability, release: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    report = await run(tmp_path, release, durability, list(islice(cycle(KINDS), COUNT)))
    ClosingReport.of(pytestconfig).add("failovers", str(report))
    assert not report.broken, str(report)
