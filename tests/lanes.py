"""How a parallel run spreads the tests: which of them stay together, and what comes first."""

import os
from pathlib import PurePosixPath
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

ONE_BY_ONE = "one by one"

HEAVY = {
    "tests/faults/test_chaos.py",
    "tests/faults/test_portals.py",
    "tests/system/test_bench.py",
}
"""Files that keep a whole machine busy: never two of them run at once."""

IN_A_BROWSER = "in a browser"

BROWSER = ("tests/browser/", "tests/faults/browser/")
"""Folders whose tests share one Chromium, which is started once."""

SPREAD = {"tests/faults/model/test_model.py", "tests/system/transports/test_stopping.py"}
"""Files whose tests are long and share nothing, so that each test may run anywhere."""

ORDER = (
    *BROWSER,
    "tests/faults/",
    "tests/examples/",
    "tests/interop/",
    "tests/system/cli/",
    "tests/system/",
    "tests/contract/",
)
"""Folders by the length of their files, longest first; the short ones fill the gaps at the end."""

WORKERS_PER_CORE = 3
"""Tests wait more than they compute."""

MOST_WORKERS = 12


def worker_count() -> int:
    """How many processes `-n auto` starts."""
    return min(int(WORKERS_PER_CORE * (os.cpu_count() or 1)), MOST_WORKERS)


def lane_of(nodeid: str) -> str:
    """Name what runs in one process, in order: a file, as its fixtures are made once, or some files."""
    file = nodeid.partition("::")[0]
    if file in HEAVY:
        return ONE_BY_ONE
    if file.startswith(BROWSER):
        return IN_A_BROWSER
    return nodeid if file in SPREAD else file


def rank(item: pytest.Item) -> int:
    """Sort what is heavy or long to the front: what comes last should not be waited for."""
    file = PurePosixPath(item.nodeid.partition("::")[0])
    if str(file) in HEAVY:
        return -1
    return next((n for n, folder in enumerate(ORDER) if str(file).startswith(folder)), len(ORDER))


class Lanes(LoadScopeScheduling):  # type: ignore[misc]
    """Gives processes one lane after the other, in the order of the tests."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return lane_of(nodeid)
