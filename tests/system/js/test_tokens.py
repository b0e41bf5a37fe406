"""Tokens of a JavaScript client: fixed ones, and functions that return new ones."""

import asyncio
import time
from typing import Any

import pytest

from mesa_ws import Connection, Server, User
from tests.system.waiting import until

from .runtime import Clients, JsError
from .site import IN_SESSION, ResumeState, Site

pytestmark = IN_SESSION


async def test_a_function_is_called_for_every_connection_and_three_times_more_after_refusals(
    js: Clients, site: Site
) -> None:
    expired = [f"bad {n}" for n in range(7)]
    alice = await js.client(site.url, token=["alice", *expired[:3], "alice", *expired[3:], "alice"])
    await alice.opened()
    site.connection.disconnect()
    await site.dispatch(1)
    assert await alice.heard(1) == [1]
    assert await alice.evaluate("return mesa.user") == {"id": "alice"}
    assert alice.all("token") == ["alice", *expired[:3], "alice"]
    site.connection.disconnect()
    await until(lambda: alice.states[-1] != "open")
    sending = alice.send("N", 1)
    [ended] = await alice.noted("closed")
    assert (ended["code"], ended["error"]["name"], ended["error"]["code"]) == (1008, "MesaError", "refused")
    assert alice.all("token") == ["alice", *expired[:3], "alice", *expired[3:]]
    assert alice.states[-1] == "closed"
    for late in (sending, alice.send("N", 2), alice.request("N", 3)):
        with pytest.raises(JsError) as raised:
            await late
        assert raised.value.code == "refused"
    assert site.received == []


@pytest.mark.parametrize("token", ["bad", {"token": "bad"}])
async def test_a_fixed_token_that_is_refused_is_the_end_at_once(js: Clients, site: Site, token: Any) -> None:
    client = await js.client(site.url, token=token)
    [ended] = await client.noted("closed")
    assert (ended["code"], ended["error"]["code"]) == (1008, "refused")
    assert client.states == ["connecting", "closed"]


async def test_logins_that_fail_are_tried_again(js: Clients, stand: ResumeState) -> None:
    server = Server()
    attempts: list[str] = []
    released = asyncio.Event()

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        attempts.append(data["token"])
        if data["token"] == "fails":
            raise RuntimeError("the database is away")
        if data["token"] == "waits":
            await released.wait()
        return User("alice")

    site = await stand(server)
    alice = await js.client(site.url, token=[None, "fails", "waits", "works"], timeout=2)
    await alice.opened()
    assert attempts == ["fails", "waits", "works"]
    assert [(error["name"], error["code"]) for error in alice.all("error")] == [
        ("MesaError", "invalid"),
        ("MesaError", "timeout"),
    ]
    ended = [state["code"] for state in alice.all("state") if state["state"] == "waiting"]
    assert ended == [1000, 1011, 1000]
    released.set()


async def test_a_login_that_ends_is_renewed_in_place_and_without_a_function_on_another_connection(
    js: Clients, stand: ResumeState
) -> None:
    server = Server()
    attempts: list[str] = []

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        attempts.append(data["token"])
        lasts = {"first": 3.0, "fixed": 1.0}.get(data["token"])
        return User(data["token"][0], expires_at=None if lasts is None else time.time() + lasts)

    site = await stand(server)
    renewing = await js.client(site.url, token=["first", "second"])
    fixed = await js.client(site.url, token="fixed")
    await until(lambda: "second" in attempts and attempts.count("fixed") == 2)
    assert renewing.states == ["connecting", "open"]
    assert fixed.states[:5] == ["connecting", "open", "waiting", "connecting", "open"]
    assert next(state["code"] for state in fixed.all("state") if state["state"] == "waiting") == 4004
