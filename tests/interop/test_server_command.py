"""`server.py` itself: what it says when it cannot do what was asked."""

import socket
import subprocess
import sys

from .served import APPLICATION


def run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(APPLICATION), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_the_wire_of_1x_without_redis_is_one_clear_line_and_exit_code_1() -> None:
    done = run("--port", "0", "--wire", "mesa1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "backend: expected a Redis URI or a Mesa1Backend with wire 'mesa1', got None\n"


def test_a_port_in_use_is_one_clear_line_and_exit_code_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("--port", port)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert f"127.0.0.1:{port}" in line
