"""Processes of one namespace that use different wires."""

import logging

import pytest

from mesa_ws import AsyncDispatcher, Message, serve
from mesa_ws.backend.mesa1.keys import Mesa1Keys
from mesa_ws.backend.redis.keys import Keys as NativeKeys
from mesa_ws.settings import Wire
from tests.system.server.conftest import Serving, accepting


def test_both_wires_know_where_the_leases_of_the_other_are() -> None:
    for namespace in (None, "api"):
        assert NativeKeys(namespace).leases_of_1x == Mesa1Keys(namespace).leases


@pytest.mark.parametrize(("server", "dispatcher"), [("native", "mesa1"), ("mesa1", "native")])
async def test_who_speaks_another_wire_than_the_servers_is_warned_once(
    redis_url: str,
    namespace: str,
    serving: Serving,
    server: Wire,
    dispatcher: Wire,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await serving(accepting(backend=redis_url, namespace=namespace, wire=server))
    with caplog.at_level(logging.WARNING, "mesa_ws.backend"):
        async with AsyncDispatcher(redis_url, namespace=namespace, wire=server) as same:
            await same.dispatch(Message(0, 1))
        assert "do not reach each other" not in caplog.text
        async with AsyncDispatcher(redis_url, namespace=namespace, wire=dispatcher) as other:
            await other.dispatch(Message(0, 1))
    assert f"1 servers of this namespace use wire {server!r}, and this process" in caplog.text


async def test_nobody_is_warned_of_servers_that_have_ended(
    redis_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(accepting(backend=redis_url, namespace=namespace, wire="mesa1")):
        pass
    with caplog.at_level(logging.WARNING, "mesa_ws.backend"):
        async with AsyncDispatcher(redis_url, namespace=namespace) as dispatcher:
            await dispatcher.dispatch(Message(0, 1))
    assert "do not reach each other" not in caplog.text
