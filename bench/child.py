"""A process that obeys orders in JSON lines, and answers each with a JSON line."""

import json
import os
import re
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from .errors import Failed

ROOT = Path(__file__).parent.parent
PATIENCE = 60.0
"""Seconds to wait for an answer."""


class Child:
    """A started process. It ends when its standard input is closed, so that none is left running.

    Args:
        name: for errors.
        command: program and arguments.
        environment: variables in addition to our own.

    Attributes:
        measured: id of the process whose CPU time and memory are read: another one where this only starts it.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.measured = self._process.pid
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def tell(self, order: str, **details: Any) -> None:
        """Give an order without waiting for its answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"order": order, **details}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise Failed(f"{self.name} has ended; its last words are above") from error

    def answer(self, patience: float = PATIENCE) -> dict[str, Any]:
        """Wait for the next answer."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + patience
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise Failed(f"{self.name}: expected an answer within {patience:g} s, got none")
            received = os.read(self._process.stdout.fileno(), 1 << 20)
            if not received:
                raise Failed(f"{self.name} has ended; its last words are above")
            self._unread += received
        line, _, self._unread = self._unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Failed(f"{self.name}: {answer['error']}")
        return answer

    def ask(self, order: str, **details: Any) -> dict[str, Any]:
        """Give an order and wait for its answer."""
        self.tell(order, **details)
        return self.answer()

    @property
    def cpu_seconds(self) -> float:
        """CPU time that all threads of the process used, in user and system mode."""
        return cpu_seconds(self.measured)

    @property
    def resident_bytes(self) -> int:
        """Memory of the process that is in RAM."""
        rollup = Path(f"/proc/{self.measured}/smaps_rollup").read_text()
        [kibibytes] = re.findall(r"^Rss:\s+(\d+) kB", rollup, re.MULTILINE)
        return int(kibibytes) * 1024

    def terminate(self) -> None:
        """Ask the process to end, by SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """End the process with SIGKILL."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End the process, and wait until it has ended."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def cpu_seconds(pid: int) -> float:
    """CPU time that a process used, to the nanosecond; /proc/PID/stat counts in hundredths.

    The clock of another process is the one that clock_getcpuclockid(3) names on Linux.
    """
    return time.clock_gettime((~pid << 3) | 2)
