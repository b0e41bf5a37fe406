"""Fixtures for tests of the examples."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.examples.programs import Programs
from tests.redis_server import RedisServer


@pytest.fixture
async def programs() -> AsyncIterator[Programs]:
    async with AsyncExitStack() as stack:
        yield Programs(stack)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    redis = RedisServer(tmp_path)
    redis.start()
    yield redis
    redis.stop()
