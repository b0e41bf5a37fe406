"""Fixtures for every test: a real Redis, and a namespace that no other test uses."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.certificates import make_certificate
from tests.redis_server import RedisServer


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for the whole run; tests that harm it have to start their own."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The address of the Redis of this run."""
    return redis_server.url


@pytest.fixture
def namespace() -> str:
    """A namespace that is new."""
    return f"test-{uuid4().hex}"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for this machine, and its key, in one file; only what names it trusts it."""
    return make_certificate(tmp_path_factory.mktemp("tls") / "certificate.pem")
