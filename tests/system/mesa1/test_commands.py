"""The commands for a cluster, on the 1.x Redis wire."""

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from mesa_ws.backend.mesa1.keys import Mesa1Keys
from mesa_ws.cli import main

Run = Callable[..., Result]


@pytest.fixture
def run(redis_url: str, namespace: str) -> Run:
    def run(*words: str, **environment: str) -> Result:
        where = ("--url", redis_url, "--namespace", namespace)
        return CliRunner().invoke(main, [*words, *where], env=environment)

    return run


def test_what_is_dispatched_is_stored_as_1x_does_and_shown(run: Run) -> None:
    sent = run("dispatch", "M", '{"n": 1}', "--to", "1", "--sync", "--json", "--wire", "mesa1")
    assert json.loads(sent.output)["deliveries"]["1"]["stored"] is True
    shown = run("outbox", "show", "1", "--json", MESA_WIRE="mesa1")
    document = json.loads(shown.output)
    assert document["outbox"] is None
    assert [each["body"] for each in document["messages"]] == [{"op": 0, "d": {"n": 1}, "t": "M"}]
    assert "1" in run("outbox", "show", "1", "--wire", "mesa1").output
    assert json.loads(run("outbox", "purge", "1", "--json", "--wire", "mesa1").output)["purged"] == 1
    assert "has no outbox" in run("outbox", "show", "1", "--wire", "mesa1").output


def test_the_wires_do_not_meet(run: Run, keys: Mesa1Keys) -> None:
    run("dispatch", "M", "1", "--to", "1", "--sync", "--wire", "mesa1")
    assert json.loads(run("outbox", "show", "1", "--json").output)["messages"] == []


def test_a_variable_that_names_a_wire_is_not_meant_for_an_api() -> None:
    words = ["presence", "--url", "http://127.0.0.1:1", "--key", "0123456789abcdef"]
    by_variable = CliRunner().invoke(main, words, env={"MESA_WIRE": "mesa1"})
    assert "no connection" in by_variable.output or "refused" in by_variable.output.lower()
    typed = CliRunner().invoke(main, [*words, "--wire", "mesa1"])
    assert "wire: expected 'native'" in typed.output


@pytest.mark.parametrize(
    "words",
    [("status",), ("dead-letters", "list"), *(("dead-letters", do, "--all") for do in ("retry", "drop"))],
)
def test_no_events_are_kept(run: Run, words: tuple[str, ...]) -> None:
    words = ("portal", *words)
    for said in (run(*words, "--wire", "mesa1"), run(*words, MESA_WIRE="mesa1")):
        assert said.exit_code == 2
        assert "wire 'mesa1' keeps no events" in " ".join(said.output.split())
