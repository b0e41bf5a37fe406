"""The benchmarks run as their documentation says. Tests assert no measured value."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bench import install, wire
from bench.errors import Failed, Skipped
from bench.figures import Sample, Target
from bench.interpreter import describe, find_build
from bench.load.counting_client import CountingClient
from bench.load.dialects import DIALECTS
from bench.load.handshake import Handshake
from bench.page import Results, page
from bench.rig import take_turns

ROOT = Path(__file__).parents[2]
WORK = ["--connections", "20", "--messages", "20", "--peers", "none"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks read /proc and use epoll")


def run_bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def printed(results: Path) -> str:
    done = run_bench("--quick", "fanout", *WORK, "--results", str(results))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_prints_a_table(printed: str) -> None:
    assert "20 messages of 100 bytes to everybody, one a turn, 20 clients" in printed
    assert "│ mesa-ws" in printed


def test_it_writes_json(printed: str, results: Path) -> None:
    written = json.loads((results / "fanout.json").read_text())
    assert written["machine"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {peer: rounds[0]["units"] for peer, rounds in written["raw"].items()} == {
        "picows": 400,
        "mesa-ws": 400,
    }


def test_it_sends_many_messages_a_turn(printed: str, results: Path) -> None:
    written = json.loads((results / "joined.json").read_text())
    assert {peer: rounds[0]["units"] for peer, rounds in written["raw"].items()} == {
        "picows": 80 * 20,
        "mesa-ws": 80 * 20,
    }


def test_it_says_what_is_left_out(printed: str) -> None:
    assert "SKIPPED Centrifugo: left out by --peers" in printed
    assert "16 a turn, server: mesa-ws relative to uWebSockets: at most 1.5: not measured" in printed


def test_it_says_how_python_was_built(printed: str, results: Path) -> None:
    build = find_build()
    assert json.loads((results / "fanout.json").read_text())["machine"]["built with"] == build.text
    assert ("built without a profile" in printed) is not build.is_optimised


@pytest.mark.parametrize(
    ("options", "flags", "distance", "text", "is_optimised"),
    [
        ("'--enable-optimizations' '--with-lto=full'", "", 50_000, "PGO, LTO", True),
        ("'--enable-optimizations'", "", 50_000, "PGO, no LTO", True),
        ("'--with-lto' '--with-lto=no' '--enable-shared'", "", 50_000, "no PGO, no LTO", False),
        ("", "-O3 -flto -fprofile-use", 50_000, "PGO, LTO", True),
        ("", "", 50_000, "no PGO, no LTO", False),
        ("", "", 1_000_000, "PGO, as its functions are laid out by a profile", True),
    ],
)
def test_a_build_is_known_by_its_options_or_its_layout(
    options: str, flags: str, distance: int, text: str, is_optimised: bool
) -> None:
    build = describe({"CONFIG_ARGS": options, "PY_CORE_CFLAGS": flags}, distance)
    assert (build.text, build.is_optimised) == (text, is_optimised)


SMALL = ["--rounds", "1", "--connections", "10", "--singles", "50", "--peers", "none"]


def test_it_says_what_sync_costs_the_server(results: Path) -> None:
    done = run_bench("--quick", "sync", *SMALL, "--results", str(results))
    assert done.returncode == 0, done.stderr
    rounds = json.loads((results / "sync.json").read_text())["raw"]
    assert [samples[0]["units"] for samples in rounds.values()] == [50, 50, 50, 10, 10, 10]
    assert "server CPU of a message, sync, 1.x, 50 each, relative to sync off" in done.stdout


def test_it_counts_the_commands_of_a_dispatch(results: Path) -> None:
    done = run_bench("--quick", "outbox", *SMALL, "--results", str(results))
    assert done.returncode == 0, done.stderr
    rows = json.loads((results / "outbox.json").read_text())["rows"]
    commands = {row[0]: row[1] for row in rows}
    assert commands["one id online, sync"] == commands["one id away, sync"] == "1"
    assert commands["200 ids online, sync"] == "4"
    assert commands["1,000 ids online, sync"] == "20"


def test_it_says_what_sync_costs_dispatchers(results: Path) -> None:
    done = run_bench("--quick", "dispatch", *SMALL, "--results", str(results))
    assert done.returncode == 0, done.stderr
    assert "│ async, 64 under way, sync" in done.stdout
    assert "│ blocking, one by one, sync" in done.stdout


def test_it_counts_messages_through_redis(results: Path) -> None:
    done = run_bench("--quick", "stored", "blocking", *SMALL[:-1], "redis-py", "--results", str(results))
    assert done.returncode == 0, done.stderr
    rounds = {
        name: json.loads((results / f"{name}.json").read_text())["raw"]
        for name in ("stored", "blocking", "batches")
    }
    units = {
        name: {peer: samples[0]["units"] for peer, samples in raw.items()} for name, raw in rounds.items()
    }
    assert units == {
        "stored": {"mesa-ws, sync": 50},
        "blocking": {"mesa-ws": 12, "redis-py": 12},
        "batches": {"mesa-ws": 50, "redis-py": 50},
    }
    assert set(rounds["stored"]["mesa-ws, sync"][0]["cpu"]) == {"server", "load", "dispatcher", "redis"}


def test_it_looks_for_the_longest_script(results: Path) -> None:
    done = run_bench("--quick", "longest", *SMALL, "--results", str(results))
    assert done.returncode == 0, done.stderr
    raw = json.loads((results / "longest.json").read_text())["raw"]
    assert {each["failure"] for each in raw.values()} == {""}
    assert all(each["dispatches"] >= 1 and each["ping"] > 0 for each in raw.values())
    assert raw["1000 x 1048576"]["script"] > 0
    table = (results / "targets.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in table[2:]] == [
        "| longest script, 100 B to 100 KiB, ms",
        "| longest script, 1 MiB, ms",
        "| PING p99 in all of these rows, ms",
        "| dispatches that failed",
    ]


def test_it_measures_the_turns_of_the_event_loop(results: Path) -> None:
    done = run_bench("--quick", "turns", "--crowd", "20", "--peers", "none", "--results", str(results))
    assert done.returncode == 0, done.stderr
    turns = json.loads((results / "turns.json").read_text())["raw"]
    assert set(turns) == {"logins", "idle", "*, stored", "*, not stored", "SIGTERM"}
    assert all(turn["cpu"] > 0 for turn in turns.values())


def test_it_counts_what_a_portal_handles(results: Path) -> None:
    done = run_bench("--quick", "portal", *SMALL, "--results", str(results))
    assert done.returncode == 0, done.stderr
    rounds = json.loads((results / "portal.json").read_text())["raw"]
    assert {peer: samples[0]["units"] for peer, samples in rounds.items()} == {
        "mesa-ws": 50,
        "mesa-ws, wire mesa1": 50,
    }
    assert set(rounds["mesa-ws"][0]["cpu"]) == {"server", "load", "portal", "redis"}


def test_it_says_how_clients_come_back_to_a_server_that_was_killed(results: Path) -> None:
    few = ["--returning", "20", "--busy", "0.5", "--peers", "none"]
    done = run_bench("--quick", "recovery", *few, "--results", str(results))
    assert done.returncode == 0, done.stderr
    written = json.loads((results / "recovery.json").read_text())
    assert written["raw"]["progress"][-1]["back"] == 20
    assert [target["found"] for target in written["targets"]][1:] == [0, 0]


def test_clients_of_any_server_count_messages_however_they_are_cut() -> None:
    handshake = Handshake.__new__(Handshake)
    handshake.socket, handshake.number = socket.socket(), 7
    received = b"".join(
        b'{"push":{"pub":{"data":%s}}}\n' % json.dumps(wire.data()).encode() for _ in range(3)
    )
    for size in range(1, len(received)):
        client = CountingClient(handshake)
        parts = [received[start : start + size] for start in range(0, len(received), size)]
        assert sum(client.take(part) for part in parts) == client.count == 3
    handshake.socket.close()


def test_a_client_that_is_not_subscribed_is_not_ready() -> None:
    conversation = DIALECTS["centrifugo"].converse("7")
    assert b'"connect":{"token":"' in next(conversation)
    with pytest.raises(Failed, match="client 7: expected to be subscribed"):
        conversation.send(b'{"id":1,"connect":{"subs":{"everybody":{}}}}')


def test_a_program_that_cannot_be_installed_is_left_out_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "CACHE", tmp_path)
    with pytest.raises(Skipped, match=r"Other: 'python -m' failed: ERROR: .*/no/such/folder"):
        install.python_with("Other", "--no-index", "/no/such/folder")
    assert not list(tmp_path.glob("*/complete"))


def test_a_page_shows_ratios_with_their_quartiles_and_what_was_left_out(tmp_path: Path) -> None:
    def rounds(*costs: float) -> list[dict[str, object]]:
        return [{"units": 1, "wall": 1.0, "cpu": {"server": cost / 1e6}} for cost in costs]

    outcome = {
        "machine": {"date": "2026-01-01", "python": "3.11", "load before": "9"},
        "left out": ["Centrifugo: go is not on the PATH", "Channels: left out by --peers"],
        "notes": ["Socket.IO failed: its server closed client 0"],
        "raw": {"mesa-ws": rounds(2, 3, 4), "picows": rounds(2, 2, 2)},
        "targets": [Target.of("to all", 1.15, [1.0, 1.5, 2.0])._asdict()],
    }
    (tmp_path / "fanout.json").write_text(json.dumps(outcome))
    lines = page(Results(tmp_path)).splitlines()
    assert lines[0] == "date 2026-01-01, python 3.11"
    assert "Left out: Centrifugo: go is not on the PATH." in lines
    assert " Socket.IO failed: its server closed client 0." in lines
    assert "| picows | 2.00 | 1.50 (1.25–1.75) |  |  |" in lines
    assert "| to all | 1.5 (1.25–1.75) | at most 1.15 | missed |" in lines


def test_a_peer_whose_server_does_not_start_is_left_out_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = tmp_path / "node"
    node.write_text("#!/bin/sh\nexit 3\n")
    node.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "npm").symlink_to("/bin/true")
    monkeypatch.setenv("MESA_BENCH_CACHE", str(tmp_path))
    done = run_bench("--quick", "fanout", *WORK[:-1], "Socket.IO", "--results", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "SKIPPED Socket.IO: its server does not work here: Socket.IO server has ended" in done.stdout
    assert set(json.loads((tmp_path / "joined.json").read_text())["raw"]) == {"picows", "mesa-ws"}


def test_a_peer_of_others_that_fails_is_dropped_and_the_rest_goes_on() -> None:
    turns: list[str] = []

    def work(name: str) -> Sample:
        turns.append(name)
        if turns.count(name) == 3 and name == "Channels":
            raise Failed("its server closed client 0")
        return Sample(1, 1.0, {"server": 1.0})

    series = take_turns(["mesa-ws", "Channels"], 3, "message", work)
    assert turns == ["mesa-ws", "Channels", "mesa-ws", "Channels", "mesa-ws", "Channels", "mesa-ws"]
    assert {name: len(rounds) for name, rounds in series.rounds.items()} == {"mesa-ws": 3}
    assert series.failures == {"Channels": "its server closed client 0"}
    with pytest.raises(Failed, match="ours is down"):
        take_turns(["mesa-ws"], 1, "message", lambda name: fail("ours is down"))


def fail(why: str) -> Sample:
    raise Failed(why)


def test_an_unknown_peer_is_named() -> None:
    done = run_bench("fanout", "--peers", "Faster")
    assert done.returncode == 2
    assert "'Faster' is not one of @cryb/mesa, " in done.stderr


def test_an_unknown_benchmark_is_named() -> None:
    done = run_bench("speed")
    assert done.returncode == 2
    assert "'speed' is not one of 'fanout', 'asgi', 'one'" in done.stderr


def test_it_says_what_asgi_costs(results: Path) -> None:
    done = run_bench(
        "--quick",
        "asgi",
        "--rounds",
        "1",
        "--connections",
        "10",
        "--peers",
        "none",
        "--results",
        str(results),
    )
    assert done.returncode == 0, done.stderr
    rounds = json.loads((results / "asgi.json").read_text())["raw"]
    assert {peer: samples[0]["units"] for peer, samples in rounds.items()} == {
        f"{peer}, {work}": units
        for peer in ("mesa-ws", "mesa-ws over uvicorn")
        for work, units in (("to everybody", 20_000), ("to one", 3000), ("login", 200))
    }
