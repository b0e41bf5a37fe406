"""Fixtures for every test: a real Redis, and a namespace of its own."""

import gc
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests import compiling
from tests.browser import fixtures
from tests.certificates import make_certificate
from tests.closing_report import NAME, ClosingReport
from tests.eager_tasks import OPTION, EagerTasks
from tests.lanes import Lanes, rank, worker_count
from tests.measuring import CoreGate
from tests.redis_server import RELEASES, RedisServer


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for each process of the run; tests that disturb Redis start their own."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_8_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis 8 for each process of the run; skips the test where Redis 8 is missing."""
    skip_without("redis-8")
    server = RedisServer(tmp_path_factory.mktemp("redis"), release="redis-8")
    server.start()
    yield server
    server.stop()


def skip_without(release: str) -> None:
    """Skip a test where a release of Redis is missing; without the one on the PATH it fails."""
    try:
        RELEASES[release]()
    except RuntimeError as why:
        if release == "redis":
            raise
        pytest.skip(str(why))


@pytest.fixture(scope="session", params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    """Each release of Redis that tests run on: for tests with a `RedisServer` of their own."""
    name: str = request.param
    skip_without(name)
    return name


@pytest.fixture(scope="session")
def either_redis(request: pytest.FixtureRequest, release: str) -> RedisServer:
    """The Redis of this process, of each release."""
    server: RedisServer = request.getfixturevalue("redis_server" if release == "redis" else "redis_8_server")
    return server


@pytest.fixture
def redis_8_url(redis_8_server: RedisServer) -> str:
    """The address of the Redis 8 of this process."""
    return redis_8_server.url


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The address of the Redis of this process."""
    return redis_server.url


@pytest.fixture
def namespace() -> str:
    """A new namespace."""
    return f"test-{uuid4().hex}"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for this machine, and its key, in one file; clients trust it only by its path."""
    return make_certificate(tmp_path_factory.mktemp("tls") / "certificate.pem")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cov-core", metavar="FILE", help="what unit tests alone have to cover, as coverage settings"
    )
    parser.addoption(OPTION, action="store_true", help="run with asyncio.eager_task_factory")


def pytest_configure(config: pytest.Config) -> None:
    # In the background of a shell SIGINT is ignored, and programs that tests start would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.pluginmanager.register(ClosingReport(config), NAME)
    config.pluginmanager.register(compiling, "compiling-in-shares")
    config.pluginmanager.register(fixtures, "tests-in-a-browser")
    if settings := config.getoption("--cov-core"):
        config.pluginmanager.register(CoreGate(config, settings))
    if config.getoption(OPTION):
        config.pluginmanager.register(EagerTasks())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=rank)


def pytest_collection_finish() -> None:
    """Exclude the thousands of collected tests from every garbage collection."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    return worker_count()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Lanes:
    return Lanes(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, dict[str, Any] | None, dict[str, Any] | None]:
    """Send reports with lone surrogates, as strange input leaves them in logs, between processes."""
    return _encodable((yield))  # type: ignore[no-any-return]


def _encodable(value: Any) -> Any:
    """Return `value` with lone surrogates of every text escaped."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_encodable, value))
    return value
