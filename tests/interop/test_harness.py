"""The cases of the interop harness: on the WebSocket wire, and all of them over the 1.x Redis wire."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.closing_report import ClosingReport
from tests.redis_server import RedisServer

from . import harness
from .harness import ALL, CHOSEN, LEFT_OUT, Run
from .npm_packages import Unavailable
from .served import ServerProcess

pytestmark = pytest.mark.timeout(240)

NAMESPACE = "interop"
MESA1 = "the 1.x Redis wire"
BACKENDS: Mapping[str, Sequence[str]] = {
    "native Redis": CHOSEN,
    "the embedded backend": CHOSEN,
    MESA1: ALL,
}
"""The chosen cases of each backend."""


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, redis_server: RedisServer) -> Mapping[str, Run]:
    """Run the chosen cases against a server on each backend, concurrently, as they mostly wait."""

    def run(backend: str, *shared: str) -> Run:
        with ServerProcess(*shared) as server:
            # The harness needs a Redis even where the server has none.
            namespace = f"{NAMESPACE}-1x" if backend == MESA1 else NAMESPACE
            return harness.run(BACKENDS[backend], server.url, redis_server.url, namespace)

    try:
        harness.prepare()
    except Unavailable as why:
        pytest.skip(f"the interop harness does not run here: {why}")
    with ThreadPoolExecutor() as pool:
        native, embedded, mesa1 = BACKENDS
        redis = ("--redis", redis_server.url, "--namespace")
        running = {
            native: pool.submit(run, native, *redis, NAMESPACE),
            embedded: pool.submit(run, embedded),
            mesa1: pool.submit(run, mesa1, *redis, f"{NAMESPACE}-1x", "--wire", "mesa1"),
        }
        runs = {backend: each.result() for backend, each in running.items()}
    lines = [f"{name}: {_where(name, runs)}" for name in ALL]
    ClosingReport.of(request.config).add(f"interop harness: {len(ALL)} cases ran", *lines)
    return runs


def _where(case: str, runs: Mapping[str, Run]) -> str:
    passed = [backend for backend, run in runs.items() if case in run.cases("ok")]
    return f"passed on {' and '.join(passed)}" if passed else "failed"


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_chosen_case_passes(runs: Mapping[str, Run], backend: str) -> None:
    outcome, chosen = runs[backend], BACKENDS[backend]
    assert outcome.cases("not ok", "skip") == []
    assert sorted(outcome.cases("ok")) == sorted(chosen)
    assert outcome.output.splitlines()[-1] == f"{len(chosen)} passed, 0 failed"
    assert outcome.exit_code == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_other_case_is_left_out_for_a_reason_we_know(runs: Mapping[str, Run], backend: str) -> None:
    known = [] if backend == MESA1 else [name for names in LEFT_OUT.values() for name in names]
    assert sorted(runs[backend].cases("left")) == sorted(known)
