"""`server.py`: accepted ids, and its errors."""

import socket
import subprocess
import sys

import pytest

from .served import APPLICATION, ServerProcess
from .wire import Closing, opened


def run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(APPLICATION), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_the_wire_of_1x_without_redis_is_one_clear_line_and_exit_code_1() -> None:
    done = run("--port", "0", "--wire", "mesa1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "backend: expected a Redis URI (--redis), or a Mesa1Backend, with wire 'mesa1'"
    )


def test_a_port_in_use_is_one_clear_line_and_exit_code_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("--port", port)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert f"127.0.0.1:{port}" in line


def test_an_id_that_is_a_number_is_taken_as_text(server: ServerProcess) -> None:
    with opened(server.url) as wire:
        wire.frame()
        wire.send('{"op":2,"d":{"id":7}}')
        assert wire.frame() == '{"op":22,"d":{"id":7}}'
        wire.send('{"op":0,"d":{"recipients":[7],"data":1},"t":"SEND"}')
        wire.send('{"op":0,"d":{"recipients":["7"],"data":2},"t":"SEND"}')
        assert wire.frames(2) == ['{"op":0,"d":1}', '{"op":0,"d":2}']


@pytest.mark.parametrize("data", ["{}", "null", "5", '{"id":null}', '{"id":""}', '{"id":0}', '{"id":true}'])
def test_who_says_no_usable_id_is_refused(server: ServerProcess, data: str) -> None:
    with opened(server.url) as wire:
        wire.frame()
        wire.send(f'{{"op":2,"d":{data}}}')
        assert wire.rest() == ([], Closing(1008, ""))
