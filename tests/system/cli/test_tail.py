"""`mesa tail` with a server."""

import signal
import time

import jwt
import pytest

from .conftest import Site, Starter
from .mesa_process import MesaProcess

SECRET = "0123456789abcdef0123456789abcdef"


def connected(tail: MesaProcess, says: str = "authenticated as") -> MesaProcess:
    tail.wait_for(lambda: says in tail.err, says)
    return tail


def test_it_prints_what_comes_and_ends_after_the_count(mesa: Starter, site: Site) -> None:
    tail = connected(mesa("tail", "--url", site.url, "--id", "1", "--count", "2"))
    site.mesa("dispatch", "HELLO", '{"text": "a\\u001bb"}', "--to", "1")
    site.mesa("dispatch", "HELLO", "2", "--to", "1", "--opcode", "99")
    assert tail.ended() == 0
    first, second = (line.partition(" ")[2] for line in tail.lines)
    assert first == 'HELLO {"text":"a\\u001bb"}'
    assert second == "HELLO (op 99) 2"


def test_it_prints_json_lines(mesa: Starter, site: Site) -> None:
    environment = {"MESA_WS_URL": site.url}
    tail = connected(mesa("tail", "--auth", '{"id": "2"}', "--count", "1", "--json", environment=environment))
    site.mesa("dispatch", "HELLO", '{"n": 1}', "--to", "2")
    assert tail.ended() == 0
    document = tail.document()
    assert document.pop("time").endswith("+00:00")
    assert document == {"opcode": 0, "type": "HELLO", "data": {"n": 1}}


def test_without_credentials_it_gets_what_is_for_everybody(mesa: Starter, site: Site) -> None:
    tail = connected(mesa("tail", "--url", site.url, "--count", "1"), "connected")
    site.mesa("dispatch", "HELLO", "1", "--all")
    assert tail.ended() == 0


def test_it_authenticates_with_a_token(mesa: Starter) -> None:
    server = mesa("serve", "--json", "--port", "0", "--no-api", environment={"MESA_JWT_SECRET": SECRET})
    environment = {"MESA_TOKEN": jwt.encode({"sub": "7", "exp": time.time() + 60}, SECRET, "HS256")}
    tail = connected(mesa("tail", "--url", server.document()["url"], environment=environment))
    assert 'authenticated as {"id":"7"}' in tail.err


def test_what_is_typed_beats_a_token_of_the_environment(mesa: Starter, site: Site) -> None:
    tail = connected(mesa("tail", "--url", site.url, "--id", "3", environment={"MESA_TOKEN": "x"}))
    assert 'authenticated as {"id":"3"}' in tail.err


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_exit_code_0(mesa: Starter, site: Site, signum: signal.Signals) -> None:
    tail = connected(mesa("tail", "--url", site.url, "--id", "1"))
    assert tail.stopped(signum) == 0
    assert "Traceback" not in tail.err


def test_it_comes_back_when_the_connection_was_lost(mesa: Starter, site: Site) -> None:
    tail = connected(mesa("tail", "--url", site.url, "--id", "4"))
    site.mesa("disconnect", "--to", "4")
    connected(tail, "connected again")
    assert "disconnected (1000); connecting again" in tail.err


def test_a_refusal_is_one_line_and_exit_code_1(mesa: Starter, site: Site) -> None:
    tail = mesa("tail", "--url", site.url, "--id", "*")
    assert tail.ended() == 1
    assert tail.err.splitlines()[-1] == "Error: authentication refused by the server (close code 1008)"
