"""`dispatch.py` and `portal.py`: odd input that the harness gives them, and their exit codes."""

import json
import signal
import subprocess
import sys
from typing import Any
from uuid import uuid4

import pytest
import redis

from mesa_ws.backend.mesa1.keys import Mesa1Keys
from tests.ports import free_port
from tests.redis_server import RedisServer

from .harness import PY_DISPATCH, PY_PORTAL

LIMIT = 20.0


@pytest.fixture
def url(redis_server: RedisServer) -> str:
    return redis_server.url


def dispatch(url: str, *calls: Any, namespace: str | None, sync: bool = False) -> tuple[int, str]:
    order = {"redis": url, "namespace": namespace, "sync": sync, "calls": calls}
    command = [sys.executable, str(PY_DISPATCH), json.dumps(order)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.stdout == ""
    return done.returncode, done.stderr


def published(url: str, namespace: str | None, *calls: Any) -> list[Any]:
    """Return the recipients and messages that calls publish."""
    with redis.Redis.from_url(url) as client, client.pubsub() as pubsub:
        pubsub.subscribe(Mesa1Keys(namespace).messages)
        assert pubsub.get_message(timeout=LIMIT)
        assert dispatch(url, *calls, {"data": {}, "type": "END"}, namespace=namespace)[0] == 0
        payloads = list[Any]()
        while True:
            found = pubsub.get_message(timeout=LIMIT)
            assert found is not None
            payload = json.loads(found["data"])
            if payload["message"].get("t") == "END":
                return payloads
            payloads.append((payload["recipients"], payload["message"]))


def test_odd_recipients_are_read_as_text_or_ignored(url: str, namespace: str) -> None:
    message = {"op": 0, "d": 1}
    calls = [
        {"data": 1, "recipients": [7, 8, "9", None, True, "", 1.5], "excluding": [8, "*"]},
        {"data": 1, "recipients": None, "excluding": None},
        {"data": 1, "recipients": ["a", "*"], "excluding": ["a"]},
        {"data": 1, "recipients": []},
    ]
    assert published(url, namespace, *calls) == [
        (["7", "9", "1.5"], message),
        (["*"], message),
        (["*"], message),
    ]


def test_options_without_sync_mean_that_it_is_stored(url: str, namespace: str) -> None:
    calls = [{"data": {}, "options": options} for options in ({}, None, {"sync": False})]
    assert [message.get("o") for _, message in published(url, namespace, *calls)] == [
        {"sync": True},
        None,
        {"sync": False},
    ]


@pytest.mark.parametrize("none", [None, ""])
def test_no_namespace_may_be_empty_text(url: str, none: str | None) -> None:
    id = uuid4().hex
    with redis.Redis.from_url(url) as client, client.pubsub() as pubsub:
        pubsub.subscribe("ws")
        assert pubsub.get_message(timeout=LIMIT)
        exit_code, _ = dispatch(
            url, {"data": {}, "recipients": [id]}, namespace=none
        )  # others may have used it
        assert exit_code == 0
        found = pubsub.get_message(timeout=LIMIT)
        assert found is not None
        assert json.loads(found["data"])["recipients"] == [id]


def test_a_call_that_is_refused_stops_no_other_and_is_named(url: str, namespace: str) -> None:
    calls = [{"data": 1, "recipients": ["a"]}, {"op": 5, "data": {}}, {"data": 2, "recipients": ["a"]}]
    exit_code, errors = dispatch(url, *calls, namespace=namespace, sync=True)
    assert exit_code == 1
    assert errors.count("opcode: expected one that the protocol does not use, got 5") == 1
    assert "Traceback" not in errors
    with redis.Redis.from_url(url, decode_responses=True) as client:
        stored = client.hget(Mesa1Keys(namespace).undelivered, "a")
    assert stored == '[{"op":0,"d":1},{"op":0,"d":2}]'


def test_a_redis_that_is_away_is_one_line_and_exit_code_1() -> None:
    exit_code, errors = dispatch(f"redis://127.0.0.1:{free_port()}", {"data": {}}, namespace=None)
    assert (exit_code, len(errors.splitlines())) == (1, 1)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
def test_a_portal_that_is_ready_leaves_the_pool_and_ends_well(
    url: str, namespace: str, signum: signal.Signals
) -> None:
    order = json.dumps({"redis": url, "namespace": namespace, "reportAllEvents": False})
    command = [sys.executable, str(PY_PORTAL), order]
    with (
        redis.Redis.from_url(url, decode_responses=True) as client,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert client.smembers(Mesa1Keys(namespace).pool) == {ready["id"]}
        process.send_signal(signum)
        rest, errors = process.communicate(timeout=LIMIT)
        assert (process.returncode, rest, errors) == (0, "", "")
        assert client.smembers(Mesa1Keys(namespace).pool) == set()
