"""A newcomer, who types what a page says into a shell, in a folder and an environment of their own."""

import asyncio
import os
import re
import shlex
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from contextlib import AsyncExitStack
from pathlib import Path

from tests.wheel import uv

IS_TIMED = bool(os.environ.get("MESA_WALK"))
"""Whether `python -m venv` and pip install, as for a newcomer; otherwise uv, or nothing at all."""

OURS = re.compile(r"mesa-ws(\[\w+\])?")


class Walk:
    """The commands of a newcomer, and their durations.

    Args:
        folder: where they are typed.
        stack: stops what runs when it is closed.

    Attributes:
        seconds: durations of steps.
        settings: environment of the commands, in addition to that of the tests.
    """

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.folder = folder
        self.seconds: dict[str, float] = {}
        self.settings: dict[str, str] = {}
        self._programs = Path(sys.executable).parent
        self._stack = stack
        self._last = time.monotonic()

    def done(self, step: str) -> None:
        now = time.monotonic()
        self.seconds[step] = now - self._last
        self._last = now

    async def install(self, line: str, wheel: Path) -> None:
        """Run a `pip install` in a new environment, with the wheel in place of the package's name."""
        pip, install, *names = shlex.split(line)
        assert (pip, install) == ("pip", "install")
        wanted = [
            OURS.sub(lambda found: f"mesa-ws{found[1] or ''} @ {wheel.as_uri()}", name) for name in names
        ]
        assert wanted != names
        environment = self.folder / "environment"
        self._last = time.monotonic()
        if IS_TIMED:
            await self.type(f"{shlex.quote(sys.executable)} -m venv environment")
            self.done("python -m venv")
            self._programs = environment / "bin"
            await self.type(f"pip install --quiet --disable-pip-version-check {shlex.join(wanted)}")
            self.done("pip install")
        else:
            self._programs = environment / "bin"
            await asyncio.to_thread(uv, "venv", "--python", sys.executable, str(environment))
            await asyncio.to_thread(uv, "pip", "install", "--python", str(environment), *wanted)
            self.done("installed by uv")

    async def run(self, line: str, **settings: str) -> Process:
        """Start a command; it is stopped at the end, with all that it has started."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MESA_", "PYTHON"))}
        path = f"{self._programs}:{os.environ['PATH']}"
        process = await asyncio.create_subprocess_shell(
            line,
            cwd=self.folder,
            env=kept | self.settings | settings | {"PATH": path},
            stdout=PIPE,
            start_new_session=True,
        )
        self._stack.push_async_callback(_stop, process)
        return process

    async def type(self, line: str, **settings: str) -> str:
        """Run a line to its end, and return its output."""
        process = await self.run(line, **settings)
        printed, _ = await process.communicate()
        assert process.returncode == 0, (line, printed)
        return printed.decode()


async def _stop(process: Process) -> None:
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGTERM)
    await process.communicate()
