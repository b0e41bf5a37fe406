"""A program under supervision: it is restarted whenever it ends."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.interop.npm_packages import PROJECT

RESTART = 0.3
"""Seconds between the end of a program and its next start."""


class Program:
    """Runs a command; its stdout is appended to `log`, and its stderr to `errors`.

    Args:
        name: name of its files.
        command: command to run.
        folder: folder of its files.
        environment: variables in addition to our own.

    Attributes:
        starts: number of times that it was started.
        codes: exit codes of those that have ended.
    """

    def __init__(self, name: str, command: Sequence[str], folder: Path, **environment: str) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.errors = folder / f"{name}.errors"
        self.starts = 0
        self.codes: list[int] = []
        self._command = command
        # Killed processes cannot report coverage, and measuring costs half of the CPU.
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
        self._environment = inherited | environment
        self._process: asyncio.subprocess.Process | None = None
        self._is_wanted = True

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Program"]:
        """Run and restart the program until the end of the context."""
        supervisor = asyncio.create_task(self._supervise())
        try:
            yield self
        finally:
            self._is_wanted = False
            self.kill()
            await supervisor

    def kill(self) -> None:
        """Kill the program with SIGKILL."""
        self._signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._signal(signal.SIGTERM)

    def pause(self) -> None:
        """Suspend the program; the kernel still accepts connections for it."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume the program."""
        self._signal(signal.SIGCONT)

    async def finish(self, limit: float) -> None:
        """Send SIGTERM as soon as the program handles it, and wait until it has ended with status 0.

        It may have been restarted just now.
        """
        self._is_wanted = False
        async with asyncio.timeout(limit):
            while self._process is None or not _handles_sigterm(self._process.pid):
                await asyncio.sleep(0.01)
            self.terminate()
            code = await self._process.wait()
        assert code == 0, f"{self.name} ended with {code}: {self.errors.read_text()[-2000:]}"

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _supervise(self) -> None:
        with self.log.open("ab") as log, self.errors.open("ab") as errors:
            while self._is_wanted:
                self.starts += 1
                self._process = await asyncio.create_subprocess_exec(
                    *self._command, stdout=log, stderr=errors, cwd=PROJECT, env=self._environment
                )
                self.codes.append(await self._process.wait())
                if self._is_wanted:
                    await asyncio.sleep(RESTART)


def _handles_sigterm(pid: int) -> bool:
    """Whether a process handles SIGTERM by itself, or has ended (proc(5), `SigCgt`)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True
    [handled] = re.findall(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return bool(int(handled, 16) >> (signal.SIGTERM - 1) & 1)
