"""A storm of faults over a whole cluster: confirmed messages are received, once and in order.

`make chaos` runs it for longer: MESA_CHAOS_SECONDS sets the duration, MESA_CHAOS_SEED the storm.
"""

import os
import secrets
from pathlib import Path

import pytest

from tests.closing_report import ClosingReport

from .chaos.run import DRAIN, START, run

SECONDS = float(os.environ.get("MESA_CHAOS_SECONDS") or 15)
SEED = os.environ.get("MESA_CHAOS_SEED") or secrets.token_hex(4)


@pytest.mark.timeout(START * 2 + SECONDS + DRAIN * 3)
async def test_what_was_confirmed_is_received_once_and_in_order(
    release: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    print(f"chaos on {release}: seed {SEED}, {SECONDS:g} s; logs in {tmp_path}", flush=True)
    report = await run(tmp_path, release, SEED, SECONDS)
    ClosingReport.of(pytestconfig).add("faults", str(report))
    assert report.is_clean, str(report)
