"""Fixtures for tests of the examples."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.examples.programs import Programs


@pytest.fixture
async def programs() -> AsyncIterator[Programs]:
    async with AsyncExitStack() as stack:
        yield Programs(stack)
