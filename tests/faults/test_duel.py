"""The duel with 1.x: what the npm package loses, doubles or mixes up, and what becomes of it with ours.

Four columns: their servers and clients, our servers with their clients, our servers and clients, and these
on the Redis wire of 1.x.
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
from .duel.person import Loop, NpmPerson, OurPerson, Person
from .duel.scenarios import SCENARIOS, Scenario
from .duel.stage import Stage

ATTEMPTS = 6
"""Races of 1.x that have not been lost after so many attempts are no defect any more."""

COLUMNS = {
    "npm": "npm",
    "ours, npm clients": "native",
    "ours": "native",
    "ours, 1.x Redis wire": "mesa1",
}
"""And whose servers and dispatchers each has."""


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    try:
        driver = Driver()
    except Unavailable as why:
        pytest.skip(f"there is nobody to duel with: {why}")
    with driver:
        yield driver


@pytest.fixture(scope="module")
def table(pytestconfig: pytest.Config, release: str) -> Iterator[dict[Scenario, dict[str, Verdict]]]:
    """What came out, for the closing report."""
    table: dict[Scenario, dict[str, Verdict]] = {scenario: {} for scenario in SCENARIOS}
    yield table
    ClosingReport.of(pytestconfig).add(
        "faults", f"duel with @cryb/mesa 1.5.8 on {release}: lost/doubled/reordered\n{_shown(table)}"
    )


@pytest.fixture(scope="module", params=COLUMNS)
def column(request: pytest.FixtureRequest, release: str) -> str:
    name: str = request.param
    if name == "npm" and release != "redis":
        pytest.skip("what 1.x gets wrong it gets wrong on one release of Redis as on another")
    return name


@pytest.fixture(scope="module")
def stage(
    request: pytest.FixtureRequest, column: str, either_redis: RedisServer, loop: Loop
) -> Iterator[Stage]:
    make: Callable[[str], Person]
    if column.startswith("ours") and "npm" not in column:
        make = partial(OurPerson, loop=loop)
    else:
        make = partial(NpmPerson, driver=request.getfixturevalue("driver"))
    with ExitStack() as stack:
        yield Stage(COLUMNS[column], make, either_redis, f"duel-{uuid4().hex}", loop, stack)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: f"{scenario.number}-{scenario.name}")
def test_what_1x_gets_wrong_is_right(
    scenario: Scenario, column: str, stage: Stage, table: dict[Scenario, dict[str, Verdict]]
) -> None:
    verdict = table[scenario][column] = Verdict.over(scenario.play(stage))
    if column == "npm":
        for _ in range(ATTEMPTS - 1):
            if not verdict.is_clean:
                return
            verdict = table[scenario][column] = Verdict.over(scenario.play(stage))
        assert not verdict.is_clean, "1.x does it right; does the scenario still show the defect?"
    elif column == "ours":
        assert verdict.is_clean, verdict
    else:  # on the wire of 1.x a client cannot prove all it has got before it leaves
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
