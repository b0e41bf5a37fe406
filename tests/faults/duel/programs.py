"""The programs of a duel, which are the same for both sides but for who wrote what they run.

A server prints `up`, `accepted ID` for who has authenticated, and `sent`. Whoever authenticates with
`{"id": X, "wait": seconds}` becomes X after so long; a message with a list of `[number, ids or
null]` makes it send those numbers, one right after the other, null meaning everybody.

A dispatcher prints `up`, takes such a list a line, and prints `done`. For an empty list ours waits
until all it has dispatched is settled; 1.x and its wire know no such thing.
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
"""A number, and the ids it is for; None for everybody."""

HERE = Path(__file__).parent


def command(side: str, program: str) -> list[str]:
    """What starts `server` or `dispatcher` of `npm` or ours, which speak the wire `native` or `mesa1`."""
    if side == "npm":
        packages = modules(NPM / "package.json")
        return ["env", f"NODE_PATH={packages}", node(), str(HERE / "npm" / f"{program}.js")]
    return [sys.executable, "-m", f"tests.faults.duel.{program}", side]


class Process:
    """A running program that is told things on stdin and answers in lines."""

    def __init__(self, command: Sequence[str], *arguments: str) -> None:
        self._command = [*command, *arguments]
        self._process: subprocess.Popen[str]

    def start(self) -> None:
        """Start it, also again, and wait until it is up."""
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
        """Wait until it says so."""
        assert self._process.stdout is not None
        for said in self._process.stdout:
            if said.rstrip() == line:
                return
        raise AssertionError(f"{self._command} ended before it said {line!r}")

    def tell(self, line: str) -> None:
        """Write a line to its stdin."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")

    def kill(self) -> None:
        """End it without any warning."""
        self._process.kill()
        with self._process:
            self._process.wait()

    def terminate(self) -> None:
        """Ask it to end, as an operator would, and wait until it has."""
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
    """A server; it keeps its port when it is started again."""

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
        """Have numbers dispatched, without waiting."""
        self.tell(json.dumps(sendings))

    def dispatch(self, sendings: Sequence[Sending]) -> None:
        """Have numbers dispatched."""
        self.begin(sendings)
        self.until("done")
