"""Servers for interop cases: `server.py` as a process, or any server in a thread of this one."""

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Self
from urllib.parse import urlsplit

from mesa_ws import Endpoint, Server, serve

APPLICATION = Path(__file__).with_name("server.py")
LIMIT = 20.0
"""Seconds within which a server has to start or stop."""


class ServerProcess:
    """`server.py` on a free port of 127.0.0.1, which it keeps over restarts.

    Attributes:
        url: URL for clients.
    """

    def __init__(self, *options: str) -> None:
        self._options = options
        self._process: subprocess.Popen[str]
        self.url = "ws://127.0.0.1:0/ws"

    def start(self) -> None:
        """Start the server, and wait until it accepts connections."""
        port = str(urlsplit(self.url).port)
        command = [sys.executable, str(APPLICATION), "--path", "/ws", "--port", port, *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        assert self.url, f"the server did not start; exit code {self._process.wait(LIMIT)}"

    def stop(self) -> int:
        """Stop the server with SIGTERM; return the exit code."""
        self._process.send_signal(signal.SIGTERM)
        with self._process:
            return self._process.wait(LIMIT)

    def kill(self) -> None:
        """Kill the server with SIGKILL, and wait for its end."""
        self._process.kill()
        with self._process:
            self._process.wait(LIMIT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self.stop()


@contextmanager
def served(server: Server, path: str | None = "/ws") -> Iterator[Endpoint]:
    """Serve in a thread with its own event loop until the end of the context."""
    started: Queue[Endpoint | BaseException] = Queue()
    stop = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        loops.append(asyncio.get_running_loop())
        try:
            async with serve(server, path=path) as endpoint:
                started.put(endpoint)
                await stop.wait()
        except BaseException as error:
            started.put(error)
            raise

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="served")
    thread.start()
    outcome = started.get(timeout=LIMIT)
    if isinstance(outcome, BaseException):
        raise outcome
    try:
        yield outcome
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(LIMIT)
