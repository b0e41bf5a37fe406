"""Genuine servers, portals and dispatchers of the npm package, in processes of their own."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from typing import Any, Self

from .npm_packages import NPM, modules, node

LIMIT = 20.0
"""Seconds after which a waiting test fails."""

Line = Mapping[str, Any]


class ForeignProcess:
    """A Node process, and the lines that it printed; the first line says that it is ready.

    Args:
        program: `server.js`, `portal.js` or `dispatch.js`.
        redis: URL of its Redis.
        namespace: its namespace.
        more: further settings of the program.
    """

    def __init__(self, program: str, redis: str, namespace: str, **more: Any) -> None:
        order = json.dumps({"redis": redis, "namespace": namespace, **more})
        self._process = subprocess.Popen(
            [node(), str(NPM / program), order],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"NODE_PATH": str(modules(NPM / "package.json"))},
        )
        self._lines: list[Line] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, name=program)
        self._reader.start()

    @property
    def ready(self) -> Line:
        """The first line."""
        return self.wait(lambda lines: len(lines) > 0)[0]

    @property
    def messages(self) -> list[Any]:
        """Data of the messages that a portal has received so far."""
        with self._news:
            return [line["data"] for line in self._lines if "data" in line]

    def wait(self, holds: Callable[[list[Line]], bool]) -> list[Line]:
        """Wait until the output satisfies a condition."""
        with self._news:
            assert self._news.wait_for(lambda: holds(self._lines), LIMIT), self._lines
            return list(self._lines)

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Stop the process with SIGTERM; return the exit code."""
        return self._end(signal.SIGTERM)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _end(self, signum: signal.Signals) -> int:
        self._process.send_signal(signum)
        self._reader.join(LIMIT)
        with self._process:
            return self._process.wait(LIMIT)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self._lines.append(json.loads(line))
                self._news.notify_all()
