"""Distribution of tests over the processes of a parallel run: which stay together, and in which order."""

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
"""Files that keep the whole machine busy: no two of them run at once."""

IN_A_BROWSER = "in a browser"

BROWSER = ("tests/browser/", "tests/faults/browser/")
"""Folders whose tests share one Chromium, which is started once."""

SPREAD = {"tests/faults/model/test_model.py", "tests/system/transports/test_stopping.py"}
"""Files whose tests are long and share no fixtures, so that each test may run in any process."""

ORDER = (
    *BROWSER,
    "tests/faults/",
    "tests/examples/",
    "tests/interop/",
    "tests/system/cli/",
    "tests/system/",
    "tests/contract/",
)
"""Folders by duration of their files, longest first; short files fill the gaps at the end."""

WORKERS_PER_CORE = 3
"""More than one, as tests wait more than they compute."""

MOST_WORKERS = 12


def worker_count() -> int:
    """Return the number of processes that `-n auto` starts."""
    return min(int(WORKERS_PER_CORE * (os.cpu_count() or 1)), MOST_WORKERS)


def lane_of(nodeid: str) -> str:
    """Return the lane of a test. Tests of one lane run in one process, in order: a file, or several files."""
    file = nodeid.partition("::")[0]
    if file in HEAVY:
        return ONE_BY_ONE
    if file.startswith(BROWSER):
        return IN_A_BROWSER
    return nodeid if file in SPREAD else file


def rank(item: pytest.Item) -> int:
    """Return the sort key of a test: heavy and long files come first, so that the run ends evenly."""
    file = PurePosixPath(item.nodeid.partition("::")[0])
    if str(file) in HEAVY:
        return -1
    return next((n for n, folder in enumerate(ORDER) if str(file).startswith(folder)), len(ORDER))


class Lanes(LoadScopeScheduling):  # type: ignore[misc]
    """Assigns lanes to processes, in the order of the tests."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return lane_of(nodeid)
