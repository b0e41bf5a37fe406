"""A pytest plugin for `asyncio.eager_task_factory`, which begins a task before its creator goes on.

It needs Python 3.12: pytest --eager-tasks tests/system/server tests/system/client tests/system/portal
"""

import asyncio
import sys
from collections.abc import Callable, Generator, Mapping
from functools import partial
from typing import Any

import pytest

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Factories = Mapping[str, LoopFactory]

OPTION = "--eager-tasks"


class EagerTasks:
    """The plugin: every event loop of a test gets the task factory."""

    @pytest.hookimpl(wrapper=True)
    def pytest_asyncio_loop_factories(self) -> Generator[None, Factories | None, Factories]:
        factories = (yield) or {"asyncio": asyncio.new_event_loop}
        return {name: partial(_eager, factory) for name, factory in factories.items()}


def _eager(new_event_loop: LoopFactory) -> asyncio.AbstractEventLoop:
    if not hasattr(asyncio, "eager_task_factory"):
        raise pytest.UsageError(f"{OPTION}: expected Python 3.12 or later, got {sys.version.split()[0]}")
    loop = new_event_loop()
    loop.set_task_factory(_factory)
    return loop


def _factory(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> "asyncio.Task[Any]":
    # uvloop passes `eager_start`, which asyncio's factory does not accept before Python 3.13.3.
    options.pop("eager_start", None)
    task: asyncio.Task[Any] = vars(asyncio)["eager_task_factory"](loop, work, **options)
    return task
