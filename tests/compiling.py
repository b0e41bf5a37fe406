"""Compile each test file in one process of a parallel run, which shares the result with the others."""

from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest


def pytest_collection(session: pytest.Session) -> None:
    """Import this process's share of the test files before all of them are collected.

    pytest rewrites the asserts of a file when it first imports it, which takes longer than collecting it, and
    keeps the result in `__pycache__`. Processes that collect at the same time would all do so with all files.
    """
    place = getattr(session.config, "workerinput", None)
    if place is None:
        return
    number, count = int(place["workerid"].removeprefix("gw")), place["workercount"]
    files = list(_files(session.config, "test_*.py"))
    for file in [*_files(session.config, "conftest.py"), *files[number::count]]:
        with suppress(Exception, pytest.skip.Exception):  # the collection of tests reports it
            import_module(".".join(file.with_suffix("").parts))


def _files(config: pytest.Config, pattern: str) -> Iterator[Path]:
    """Return the test files among the arguments, relative to the project."""
    for argument in config.args:
        path = Path(config.invocation_params.dir, argument.partition("::")[0])
        for file in sorted(path.rglob(pattern)) if path.is_dir() else []:
            yield file.relative_to(config.rootpath)
