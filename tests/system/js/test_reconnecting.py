"""Reconnection of a JavaScript client, and the cases in which it stays closed."""

import asyncio
from typing import Any

import pytest

from mesa_ws import Message
from tests.system.waiting import until

from .runtime import Clients, JsClient, JsError
from .site import IN_SESSION, ResumeState, Site, believing

pytestmark = IN_SESSION


def of_type(client: JsClient, type: str) -> list[int]:
    return [message["data"] for message in client.all("message") if message["type"] == type]


async def test_messages_sent_in_both_directions_while_it_was_away_arrive_once_and_in_order(
    js: Clients, site: Site
) -> None:
    site.server.on_message("DOUBLE")(lambda message, connection: message.data * 2)
    alice = await js.client(site.url, token="alice")
    await alice.opened()
    for n in range(1, 6):
        await site.dispatch(3 * n)
        site.cut()
        await until(lambda: alice.states[-1] != "open")
        await site.dispatch(3 * n + 1)
        await site.dispatch(n, to="*", type="ALL")
        sending = [alice.send("N", 2 * n), alice.send("N", 2 * n + 1)]
        asking = alice.request("DOUBLE", n)
        await alice.noted("state", len(alice.states) + 2)  # its attempts fail
        assert len(site.received) == 2 * n - 2
        site.mend()
        assert await asking == 2 * n
        await asyncio.gather(*sending)
        site.connection.disconnect()
        await site.dispatch(3 * n + 2)
        await alice.opened(2 * n + 1)
    await alice.heard(20)
    assert of_type(alice, "M") == list(range(3, 18))
    assert of_type(alice, "ALL") == [1, 2, 3, 4, 5]
    assert site.received == list(range(2, 12))
    assert alice.all("lost", "reset", "forked", "error") == []


async def test_what_waits_to_be_sent_is_bounded(js: Clients, site: Site) -> None:
    alice = await js.client(site.url, token="alice", queueSize=2)
    await alice.opened()
    site.cut()
    await until(lambda: alice.states[-1] != "open")
    sending = [alice.send("N", 1), alice.send("N", 2)]
    for refused in (alice.send("N", 3), alice.request("N", 3)):
        with pytest.raises(JsError) as raised:
            await refused
        assert (raised.value.name, raised.value.code) == ("MesaError", "queue_full")
    site.mend()
    await asyncio.gather(*sending)
    await alice.send("N", 4)
    await until(lambda: len(site.received) == 3)
    assert site.received == [1, 2, 4]


async def test_silence_is_probed_and_then_ends_the_connection(js: Clients, stand: ResumeState) -> None:
    site = await stand(believing(heartbeat=False))
    options: dict[str, Any] = {"keepalive": {"interval": 0.5, "timeout": 2}, "watch": True}
    clients = [await js.client(site.url, token="alice", socket=name, **options) for name in ("ws", "global")]
    for client in clients:
        await client.opened()
    before = [len(client.states) for client in clients]
    await until(lambda: all(answered_probes(client) >= 2 for client in clients))
    assert [len(client.states) for client in clients] == before
    site.silence()
    await site.dispatch(1)
    for client, count in zip(clients, before, strict=True):
        assert await client.heard(1) == [1]
        ended = client.all("state")[count]
        assert (ended["state"], ended["code"], ended["reason"]) == ("waiting", 4001, "no keepalive")
    await site.dispatch(2)
    for client in clients:
        assert await client.heard(2) == [1, 2]


def answered_probes(client: JsClient) -> int:
    return [frame["op"] for frame in client.all("received")].count(11)


async def test_it_reconnects_after_every_code_that_allows_it(js: Clients, site: Site) -> None:
    codes = [1000, 1001, 1003, 1005, 1010, 1011, 1012, 1013, 1014, 3000, 4000, 4001, 4002, 4999]
    alice = await js.client(site.url, token="alice")
    for n, code in enumerate(codes, 1):
        await alice.opened(n)
        site.connection.disconnect(code, "because" if code != 1005 else "")
        await site.dispatch(n)
    assert await alice.heard(len(codes)) == list(range(1, len(codes) + 1))
    ended = [(state["code"], state["reason"]) for state in alice.all("state") if state["state"] == "waiting"]
    assert ended == [(code, "because" if code != 1005 else "") for code in codes]


@pytest.mark.parametrize("token", ["alice", ["alice"]], ids=["fixed", "function"])
async def test_it_stays_closed_after_a_code_that_forbids_reconnecting(
    js: Clients, site: Site, token: str | list[str]
) -> None:
    setup = "try { for await (const message of mesa); } catch (error) { note('thrown', error.code); }"
    asked, never = asyncio.Event(), asyncio.Event()

    @site.server.on_message("WAIT")
    async def wait(message: Message, connection: object) -> None:
        asked.set()
        await never.wait()

    for code in (1002, 1007, 1008, 1009, 4003):
        alice = await js.client(site.url, setup, token=token)
        await alice.opened()
        asking = alice.request("WAIT")
        await asked.wait()
        asked.clear()
        site.connection.disconnect(code, "because")
        [ended] = await alice.noted("closed")
        assert (ended["code"], ended["reason"], ended["error"]["code"]) == (code, "because", "closed")
        assert alice.states == ["connecting", "open", "closed"]
        loop = alice.evaluate("for await (const message of mesa);")
        for late in (asking, alice.send("N", 1), alice.request("N", 1), loop):
            with pytest.raises(JsError, match="closed"):
                await late
        assert await alice.noted("thrown") == ["closed"]
    never.set()
    assert site.received == []


async def test_it_stays_closed_after_a_violation_of_the_protocol(js: Clients, stand: ResumeState) -> None:
    site = await stand(
        believing(rules={"enforce_equal_versions": True, "version": "9"}, limits={"max_message": 100})
    )
    of_another_version = await js.client(site.url)
    [ended] = await of_another_version.noted("closed")
    assert ended["code"] == 1002
    site = await stand(believing(limits={"max_message": 100}))
    alice = await js.client(site.url, token="alice")
    await alice.send("N", "x" * 100)
    [ended] = await alice.noted("closed")
    assert ended["code"] == 1009
    once = await js.client(site.url, token="alice", reconnect=False)
    await once.opened()
    site.cut()
    [ended] = await once.noted("closed")
    assert (ended["code"], ended["error"]["code"]) == (1006, "closed")
