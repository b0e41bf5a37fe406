"""Genuine servers and portals of the npm package, as processes of these tests."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from typing import Any, Self

from .npm_packages import NPM, modules, node

LIMIT = 20.0
"""Seconds after which a test that waits has failed."""

Line = Mapping[str, Any]


class ForeignProcess:
    """A node process, and the lines that it printed; the first one says that it is ready.

    Args:
        program: `server.js`, `portal.js` or `dispatch.js`.
        redis: its Redis.
        namespace: its cluster.
        more: what else the program needs to know.
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
        """What it said first."""
        return self.wait(lambda lines: len(lines) > 0)[0]

    @property
    def messages(self) -> list[Any]:
        """The data of the messages that a portal was told, so far."""
        with self._news:
            return [line["data"] for line in self._lines if "data" in line]

    def wait(self, holds: Callable[[list[Line]], bool]) -> list[Line]:
        """Wait until what it printed is as it should be."""
        with self._news:
            assert self._news.wait_for(lambda: holds(self._lines), LIMIT), self._lines
            return list(self._lines)

    def kill(self) -> None:
        """End it at once, as kill -9 does."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Stop it as an operator would; return the exit code."""
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
