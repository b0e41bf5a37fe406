"""Servers and dispatchers of both sides of the comparison, with one interface.

A server prints `up`, `accepted ID` for each client that has authenticated, and `sent`. A client that
authenticates with `{"id": X, "wait": seconds}` becomes X after that time. A message with a list of
`[number, ids or null]` makes the server send those numbers in a row; null stands for every client.

A dispatcher prints `up`, reads one such list a line, and prints `done`. At an empty list, the
dispatcher of the native wire waits until all it has dispatched is settled; 1.x and its wire cannot tell.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.interop.npm_packages import NPM, PROJECT, modules, node
from tests.ports import free_port

Sending = tuple[int, Sequence[str] | None]
"""A number and its recipients; None for every client."""

HERE = Path(__file__).parent


def command(side: str, program: str) -> list[str]:
    """Return the command of a `server` or `dispatcher`; `side` is `npm`, or the wire of ours."""
    if side == "npm":
        packages = modules(NPM / "package.json")
        return ["env", f"NODE_PATH={packages}", node(), str(HERE / "npm" / f"{program}.js")]
    return [sys.executable, "-m", f"tests.faults.comparison.{program}", side]


class Process:
    """A program that reads commands from stdin and answers in lines."""

    def __init__(self, command: Sequence[str], *arguments: str) -> None:
        self._command = [*command, *arguments]
        self._process: subprocess.Popen[str]

    def start(self) -> None:
        """Start or restart the program, and wait until it is up."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=PROJECT,
            env=environment,
        )
        self.until("up")

    def until(self, line: str) -> None:
        """Wait until the program prints `line`."""
        assert self._process.stdout is not None
        for said in self._process.stdout:
            if said.rstrip() == line:
                return
        raise AssertionError(f"{self._command} ended before it said {line!r}")

    def tell(self, line: str) -> None:
        """Write a line to the program's stdin."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")

    def kill(self) -> None:
        """Kill the program with SIGKILL."""
        self._process.kill()
        with self._process:
            self._process.wait()

    def terminate(self) -> None:
        """Stop the program with SIGTERM, and wait for its end."""
        self._process.terminate()
        with self._process:
            self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self.kill()


class ServerProcess(Process):
    """A server that keeps its port over restarts."""

    def __init__(self, side: str, redis_url: str, namespace: str, redelivery: float) -> None:
        self._port = free_port()
        super().__init__(command(side, "server"), str(self._port), redis_url, namespace, str(redelivery))

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._port}/"


class DispatcherProcess(Process):
    """A dispatcher."""

    def __init__(self, side: str, redis_url: str, namespace: str) -> None:
        super().__init__(command(side, "dispatcher"), redis_url, namespace)

    def begin(self, sendings: Sequence[Sending]) -> None:
        """Start to dispatch numbers, without waiting."""
        self.tell(json.dumps(sendings))

    def dispatch(self, sendings: Sequence[Sending]) -> None:
        """Dispatch numbers, and wait until that is done."""
        self.begin(sendings)
        self.until("done")
