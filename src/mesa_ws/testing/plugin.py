"""Fixtures for pytest. Turn them on in `conftest.py`: `pytest_plugins = ["mesa_ws.testing.plugin"]`.

They are not registered as an entry point: every run of pytest in an environment with Mesa would
import it, before coverage is measured, whether a test uses it or not.
"""

from collections.abc import Iterator

import pytest

from ..backend.memory import MemoryHub
from .recording import AsyncRecordingDispatcher, RecordingDispatcher


@pytest.fixture
def memory_hub() -> MemoryHub:
    """A `MemoryHub`, which takes the place of Redis for all parts of the application in this test."""
    return MemoryHub()


@pytest.fixture
def recording_dispatcher() -> Iterator[RecordingDispatcher]:
    """A `RecordingDispatcher` with sync."""
    with RecordingDispatcher(sync=True) as dispatcher:
        yield dispatcher


@pytest.fixture
def async_recording_dispatcher() -> AsyncRecordingDispatcher:
    """An `AsyncRecordingDispatcher` with sync."""
    return AsyncRecordingDispatcher(sync=True)
