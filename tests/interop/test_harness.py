"""The interop harness, where it is: its cases that concern the WebSocket wire alone."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.redis_server import RedisServer

from . import harness
from .conftest import RAN
from .harness import CHOSEN, LEFT_OUT, Run
from .npm_packages import Unavailable
from .served import ServerProcess

pytestmark = pytest.mark.timeout(240)

NAMESPACE = "interop"
BACKENDS = ("native Redis", "the embedded backend")


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, redis_server: RedisServer) -> Mapping[str, Run]:
    """The chosen cases against a server on each backend, both at once: they mostly wait."""

    def run(*shared: str) -> Run:
        with ServerProcess(*shared) as server:
            # The harness wants a Redis also where the server has none.
            return harness.run(CHOSEN, server.url, redis_server.url, NAMESPACE)

    try:
        harness.prepare()
    except Unavailable as why:
        pytest.skip(f"the interop harness does not run here: {why}")
    with ThreadPoolExecutor() as pool:
        on_redis = pool.submit(run, "--redis", redis_server.url, "--namespace", NAMESPACE)
        embedded = pool.submit(run)
        runs = dict(zip(BACKENDS, (on_redis.result(), embedded.result()), strict=True))
    request.config.stash[RAN] = {backend: run.cases("ok") for backend, run in runs.items()}
    return runs


@pytest.fixture(params=BACKENDS)
def outcome(request: pytest.FixtureRequest, runs: Mapping[str, Run]) -> Run:
    """The run on one backend."""
    return runs[request.param]


def test_every_chosen_case_passes(outcome: Run) -> None:
    assert outcome.cases("not ok", "skip") == []
    assert outcome.cases("ok") == list(CHOSEN)
    assert outcome.output.splitlines()[-1] == f"{len(CHOSEN)} passed, 0 failed"
    assert outcome.exit_code == 0


def test_every_other_case_is_left_out_for_a_reason_we_know(outcome: Run) -> None:
    assert sorted(outcome.cases("left")) == sorted(name for names in LEFT_OUT.values() for name in names)
