"""Fixtures for tests of the examples."""

import shutil
import subprocess
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


@pytest.fixture
def node() -> str:
    """Return the command of Node with a WebSocket class: from version 22 on, or earlier with an option."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node on the PATH")
    has_one = (node, "--experimental-websocket", "-e", "process.exit(typeof WebSocket == 'function' ? 0 : 1)")
    if subprocess.run(has_one, capture_output=True, check=False).returncode:
        pytest.skip(f"{node} has no WebSocket; it needs version 20.10 or later")
    return node
