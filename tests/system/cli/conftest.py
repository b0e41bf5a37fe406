"""Fixtures: `mesa` as processes, in a directory of the test's own."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner, Result

from mesa_ws.cli import main

from .mesa_process import MesaProcess

KEY = "0123456789abcdef"


class Starter:
    """Starts `mesa`; what still runs when the test ends is stopped."""

    def __init__(self, directory: Path, running: ExitStack) -> None:
        self.directory = directory
        self._running = running

    def __call__(self, *arguments: str, **options: Any) -> MesaProcess:
        return self._running.enter_context(MesaProcess(self.directory, *arguments, **options))

    def serve(self, *arguments: str, **options: Any) -> MesaProcess:
        """A server with demo authentication, on free ports."""
        ports = ("--port", "0", "--api-port", "0")
        return self("serve", "--insecure-demo-auth", "--json", *ports, *arguments, **options)


@pytest.fixture
def mesa(tmp_path: Path) -> Iterator[Starter]:
    with ExitStack() as running:
        yield Starter(tmp_path, running)


def here(*arguments: str, stdin: str | None = None, **environment: str) -> Result:
    """Run `mesa` in this process, which is faster; what it prints is the same."""
    return CliRunner().invoke(main, arguments, input=stdin, env=environment, prog_name="mesa")


class Site(NamedTuple):
    """A server that runs, and what `mesa dispatch` needs to reach it."""

    url: str
    api_url: str

    def mesa(self, *arguments: str, stdin: str | None = None, **environment: str) -> Result:
        """Run `mesa` for this server, in this process."""
        known = {"MESA_URL": self.api_url, "MESA_API_KEY": KEY}
        return here(*arguments, stdin=stdin, **{**known, **environment})

    async def run(
        self, *arguments: str, stdin: str | None = None, code: int = 0, **environment: str
    ) -> Result:
        """Run `mesa` while clients of this event loop listen; it has to end with `code`."""
        result = await asyncio.to_thread(self.mesa, *arguments, stdin=stdin, **environment)
        assert result.exit_code == code, result.output
        return result


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server for the tests of one module, which leave it as they found it."""
    with ExitStack() as running:
        start = Starter(tmp_path_factory.mktemp("site"), running)
        server = start.serve("--reconnect-interval", "0.1", environment={"MESA_API_KEY": KEY})
        started = server.document()
        yield Site(started["url"], started["api_url"])
