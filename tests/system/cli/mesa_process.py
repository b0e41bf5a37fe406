"""`mesa` as a process of its own, with its output in files."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

LIMIT = 60.0
"""Seconds within which a process has to do what is waited for."""


class MesaProcess:
    """One run of `mesa`. Leaving the block ends it.

    Args:
        directory: where it runs; without a `mesa.toml` of another user.
        arguments: of its command line.
        environment: variables beside those of this process that name no setting.
        program: what runs instead of `python -m mesa_ws`.
    """

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        program: tuple[str, ...] = ("-m", "mesa_ws"),
        stdin: str = "",
    ) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MESA_")}
        number = len(list(directory.glob("*.out")))
        self._out, self._err = directory / f"{number}.out", directory / f"{number}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-P", *program, *arguments],
                cwd=directory,
                env={**kept, **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        assert self._process.stdin is not None
        self._process.stdin.write(stdin.encode())
        self._process.stdin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(LIMIT)
        finally:
            self._process.kill()
            self._process.wait(LIMIT)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def out(self) -> str:
        return self._out.read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        return self._err.read_text(encoding="utf-8")

    @property
    def lines(self) -> list[str]:
        """Whole lines of stdout."""
        return self.out.splitlines() if self.out.endswith("\n") else self.out.splitlines()[:-1]

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until it has done something."""
        end = time.monotonic() + LIMIT
        while not condition():
            assert self._process.poll() is None or condition(), f"ended before {what}: {self.err}"
            assert time.monotonic() < end, f"no {what} in time: {self.out} {self.err}"
            time.sleep(0.01)

    def line(self) -> str:
        """The first line of stdout, once it is there."""
        self.wait_for(lambda: bool(self.lines), "a line")
        return self.lines[0]

    def document(self) -> Any:
        """The first line of stdout as JSON."""
        return json.loads(self.line())

    def send(self, signum: signal.Signals) -> None:
        self._process.send_signal(signum)

    def ended(self) -> int:
        """Wait for its end; return its exit code."""
        return self._process.wait(LIMIT)

    def stopped(self, signum: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; return the exit code."""
        self.send(signum)
        return self.ended()
