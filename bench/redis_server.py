"""A Redis for one benchmark."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import NamedTuple

from .child import cpu_seconds
from .errors import Failed, Skipped

_PATIENCE = 10.0


class RunningRedis(NamedTuple):
    """Address and CPU time of the Redis."""

    url: str
    pid: int

    @property
    def cpu_seconds(self) -> float:
        """CPU time that Redis has used."""
        return cpu_seconds(self.pid)


@contextmanager
def redis_server(*, logs: bool = False) -> Iterator[RunningRedis]:
    """Run a Redis on a free port of the loopback interface.

    Args:
        logs: whether Redis writes an append-only file every second, as one that stores messages should.

    Raises:
        Skipped: there is no redis-server.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise Skipped("redis: redis-server is not on the PATH; install Redis 7 or later to measure it")
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with TemporaryDirectory() as folder:
        log = ["--appendonly", "yes" if logs else "no", "--dir", folder]
        process = subprocess.Popen([*command, *log], stdout=subprocess.DEVNULL)
        try:
            _wait_until_open(port)
            yield RunningRedis(f"redis://127.0.0.1:{port}", process.pid)
        finally:
            process.terminate()
            process.wait()


def free_port() -> int:
    """Return a port of the loopback interface that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _wait_until_open(port: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise Failed(f"redis-server did not listen within {_PATIENCE:g} s")
