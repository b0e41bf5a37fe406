"""An address whose logins fail again and again: slow for itself, and no id is locked."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from mesa_ws import Connection, Refused, Server, User, serve
from mesa_ws.middleware.prometheus import PrometheusMetrics
from mesa_ws.server import failed_logins
from tests.system.server.peer import Peer
from tests.system.waiting import until


class Guessed:
    """A server that accepts one password.

    Attributes:
        seen: passwords that its authenticator has seen.
        left: connections that have ended.
    """

    def __init__(self, **limits: Any) -> None:
        self.seen: list[str] = []
        self.left = 0
        self.server = Server(limits={"max_failed_logins_per_address": 5} | limits)
        self.server.authenticator(self.authenticate)
        self.server.on_disconnection(self.leave)

    async def authenticate(self, data: Any, _: Connection) -> User | None:
        self.seen.append(data["password"])
        if data["password"] == "right":
            return User(data["id"])
        if len(self.seen) % 2:
            raise Refused
        return None

    async def leave(self, *_: Any) -> None:
        self.left += 1


async def guess(url: str, password: str) -> int:
    """Attempt to log in with a wrong password; return the close code."""
    async with Peer.connect(url) as peer:
        await peer.send(data={"id": "1", "password": password}, op=2)
        return await peer.closed()


async def log_in(url: str) -> None:
    async with Peer.connect(url) as peer:
        await peer.send(data={"id": "1", "password": "right"}, op=2)
        await peer.until(op=22)


async def test_guesses_are_refused_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    guessed, registry = Guessed(exempt_networks=None), CollectorRegistry()
    guessed.server.use(lambda server: PrometheusMetrics(server, registry))
    async with serve(guessed.server) as endpoint:
        with monkeypatch.context() as patch:
            patch.setattr(failed_logins, "LONGEST_WAIT", 0.0)
            codes = [await guess(endpoint.url, f"guess {n}") for n in range(30)]
        assert codes == [1008] * 5 + [1013] * 25
        metric = 'mesa_connections_refused_total{limit="max_failed_logins_per_address"} 25.0'
        assert metric in generate_latest(registry).decode().splitlines()
        async with Peer.connect(endpoint.url) as peer:
            await peer.send(data={"id": "1", "password": "left"}, op=2)
        await until(lambda: guessed.left == 31)
        assert guessed.seen == [f"guess {n}" for n in range(5)]


async def test_a_right_password_waits_for_its_turn_and_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failed_logins, "LONGEST_PAUSE_AFTER_SUCCESS", 0.1)
    guessed = Guessed(exempt_networks=None)
    async with serve(guessed.server) as endpoint:
        await log_in(endpoint.url)
        assert [await guess(endpoint.url, "wrong") for _ in range(8)] == [1008] * 8
        await log_in(endpoint.url)
    assert guessed.seen == ["right"] + ["wrong"] * 8 + ["right"]


async def test_an_exempt_address_may_fail() -> None:
    guessed = Guessed()
    async with serve(guessed.server) as endpoint:
        assert [await guess(endpoint.url, "wrong") for _ in range(10)] == [1008] * 10
