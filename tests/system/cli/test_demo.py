"""`mesa demo` as a process."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redis_server import RedisServer

from .conftest import Starter, here
from .mesa_process import MesaProcess


def children(pid: int) -> list[int]:
    """The processes that a process has started, as Linux tells them."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listed.read_text().split()] if listed.exists() else []


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}/cmdline").exists() and bool(Path(f"/proc/{pid}/cmdline").read_bytes())


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MesaProcess]:
    """A demo where everything that could disturb it is there."""
    directory = tmp_path_factory.mktemp("demo")
    (directory / "mesa.toml").write_text("port = 'x'", encoding="utf-8")
    (directory / "redis.py").write_text("raise ImportError", encoding="utf-8")
    disturbing = {"MESA_PORT": "1", "MESA_URL": "http://127.0.0.1:1", "MESA_API_KEY": "x"}
    with MesaProcess(directory, "demo", environment=disturbing) as demo:
        assert demo.ended() == 0, demo.err
        yield demo


@pytest.fixture(scope="module")
def replicated(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer) -> Iterator[MesaProcess]:
    """A demo over Redis, told as JSON."""
    directory = tmp_path_factory.mktemp("demo")
    with MesaProcess(directory, "demo", "--redis", redis_server.url, "--json") as demo:
        assert demo.ended() == 0, demo.err
        yield demo


def test_it_shows_who_received_what(embedded: MesaProcess) -> None:
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in embedded.lines if "│" in line]
    received = {row[0].split()[0]: [cell != "-" for cell in row[3:]] for row in rows}
    assert received == {
        "STATUS_UPDATE": [True, True, False],
        "NEW_MESSAGE": [True, False, True],
        "GLOBAL_ALERT": [True, True, True],
    }


def test_it_says_what_it_plays_and_that_all_is_well(embedded: MesaProcess) -> None:
    assert embedded.lines[0].startswith("One server on the embedded backend")
    assert embedded.lines[-2:] == [
        "ok: each client received exactly the messages for it.",
        "In a browser: make demo KEEP=1, or mesa demo --keep",
    ]


def test_over_redis_everybody_receives_the_same(replicated: MesaProcess) -> None:
    received = [sorted(each["received_after_ms"]) for each in replicated.document()["dispatches"]]
    assert received == [["0", "1"], ["0", "2"], ["0", "1", "2"]]


def test_over_redis_the_clients_are_spread_over_two_replicas(replicated: MesaProcess) -> None:
    assert len(set(replicated.document()["servers"].values())) == 2


def test_every_dispatch_is_a_process_of_its_own(replicated: MesaProcess) -> None:
    processes = {each["process"] for each in replicated.document()["dispatches"]}
    assert len(processes - {replicated.pid}) == 3


def test_a_redis_that_is_away_is_one_line_and_exit_code_1(mesa: Starter) -> None:
    demo = mesa("demo", "--redis", "redis://127.0.0.1:1")
    assert demo.ended() == 1
    problem = "Error: the server did not start: redis at 127.0.0.1:1: no connection (Connection refused)"
    assert demo.err == f"{problem}\n"


def test_a_wrong_redis_uri_is_a_usage_error() -> None:
    result = here("demo", "--redis", "http://127.0.0.1:1")
    assert result.exit_code == 2
    assert "redis: expected a Redis URI" in result.stderr


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_stops_what_it_has_started(mesa: Starter, signum: signal.Signals, code: int) -> None:
    demo = mesa("demo")
    demo.wait_for(lambda: bool(children(demo.pid)), "a server")
    started = children(demo.pid)
    assert demo.stopped(signum) == code
    assert not any(is_running(child) for child in started)
    assert "Traceback" not in demo.err
