"""Three nodes are restarted one after another: clients lose nothing, and no id counts as gone."""

import os
from pathlib import Path

import pytest

from tests.closing_report import ClosingReport

from .rolling.run import CLIENTS, LIMIT, NODES, most_in_a_second, run


@pytest.mark.timeout((NODES + 2) * LIMIT)
@pytest.mark.skipif(not os.environ.get("MESA_CHAOS_SECONDS"), reason="for make chaos: it takes two minutes")
@pytest.mark.parametrize("clients", [CLIENTS, 30_000])
async def test_a_rolling_restart_is_not_noticed(
    clients: int, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    report = await run(tmp_path, clients)
    ClosingReport.of(pytestconfig).add("faults", str(report))
    assert report.verdict.is_clean, str(report)
    assert report.verdict.checked > CLIENTS
    assert (report.missing, report.complaints, report.offline, report.online) == ([], [], [], []), str(report)
    assert report.codes == [0] * NODES, str(report)
    assert sum(report.handshakes) >= CLIENTS, str(report)


def test_the_most_in_a_second_is_found_wherever_the_second_begins() -> None:
    assert most_in_a_second([]) == 0
    assert most_in_a_second([5.0, 0.0, 0.9, 1.0, 1.8, 3.0]) == 3
