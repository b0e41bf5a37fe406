"""Messages that the npm package 1.x loses, doubles or reorders, compared with the same scenarios in Mesa.

Four columns: npm servers and clients, our servers with npm clients, our servers and clients, and our
servers and clients on the Redis wire of 1.x.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from uuid import uuid4

import pytest

from tests.closing_report import ClosingReport
from tests.interop.genuine import Driver
from tests.interop.npm_packages import Unavailable
from tests.redis_server import RedisServer

from .chaos.checker import Verdict
from .comparison.device import Device, Loop, NpmDevice, OurDevice
from .comparison.scenarios import SCENARIOS, Scenario
from .comparison.site import Site

ATTEMPTS = 6
"""Attempts after which a race of 1.x that did no harm counts as a defect that is gone."""

COLUMNS = {
    "npm": "npm",
    "ours, npm clients": "native",
    "ours": "native",
    "ours, 1.x Redis wire": "mesa1",
}
"""Name of each column, and the side of its servers and dispatchers."""


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    try:
        driver = Driver()
    except Unavailable as why:
        pytest.skip(f"no npm package to compare with: {why}")
    with driver:
        yield driver


@pytest.fixture(scope="module")
def table(pytestconfig: pytest.Config, release: str) -> Iterator[dict[Scenario, dict[str, Verdict]]]:
    """Verdicts of all scenarios, for the closing report."""
    table: dict[Scenario, dict[str, Verdict]] = {scenario: {} for scenario in SCENARIOS}
    yield table
    ClosingReport.of(pytestconfig).add(
        "faults", f"comparison with @cryb/mesa 1.5.8 on {release}: lost/doubled/reordered\n{_shown(table)}"
    )


@pytest.fixture(scope="module", params=COLUMNS)
def column(request: pytest.FixtureRequest, release: str) -> str:
    name: str = request.param
    if name == "npm" and release != "redis":
        pytest.skip("the defects of 1.x do not depend on the release of Redis")
    return name


@pytest.fixture(scope="module")
def site(
    request: pytest.FixtureRequest, column: str, either_redis: RedisServer, loop: Loop
) -> Iterator[Site]:
    make: Callable[[str], Device]
    if column.startswith("ours") and "npm" not in column:
        make = partial(OurDevice, loop=loop)
    else:
        make = partial(NpmDevice, driver=request.getfixturevalue("driver"))
    with ExitStack() as stack:
        yield Site(COLUMNS[column], make, either_redis, f"comparison-{uuid4().hex}", loop, stack)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: f"{scenario.number}-{scenario.name}")
def test_a_scenario_that_1x_fails_loses_doubles_and_reorders_nothing(
    scenario: Scenario, column: str, site: Site, table: dict[Scenario, dict[str, Verdict]]
) -> None:
    verdict = table[scenario][column] = Verdict.over(scenario.run(site))
    if column == "npm":
        for _ in range(ATTEMPTS - 1):
            if not verdict.is_clean:
                return
            verdict = table[scenario][column] = Verdict.over(scenario.run(site))
        assert not verdict.is_clean, "1.x passed; does the scenario still show the defect?"
    elif column == "ours":
        assert verdict.is_clean, verdict
    else:  # on the wire of 1.x a client cannot acknowledge everything before it leaves
        assert verdict._replace(doubled=()).is_clean, verdict


def _shown(table: dict[Scenario, dict[str, Verdict]]) -> str:
    lines = [f"{'':32}" + "".join(f"{name:>22}" for name in COLUMNS)]
    for scenario, row in table.items():
        figures = "".join(f"{_figures(row.get(name)):>22}" for name in COLUMNS)
        lines.append(f"{scenario.number} {scenario.name:29}{figures}")
    return "\n".join(lines)


def _figures(verdict: Verdict | None) -> str:
    if verdict is None:
        return "-"
    return f"{len(verdict.lost)}/{len(verdict.doubled)}/{len(verdict.reordered)}"
