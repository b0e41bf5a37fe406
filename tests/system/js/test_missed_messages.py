"""Missed messages of a JavaScript client: it receives them, or reports their loss."""

import asyncio
from pathlib import Path

import redis.asyncio

from mesa_ws import BackendUnavailable, RedisBackend
from tests.redis_server import RedisServer
from tests.system.conftest import LEASE
from tests.system.server.sync import Flaky
from tests.system.waiting import until

from .runtime import Clients, JsClient
from .site import IN_SESSION, ResumeState, Site, believing

pytestmark = IN_SESSION


def told(client: JsClient) -> list[tuple[str, object]]:
    """Return the messages and losses that the client reported, in order."""
    kinds = {"message", "lost", "forked", "reset"}
    return [
        (event.kind, event.value["data"] if event.kind == "message" else event.value)
        for event in client.events
        if event.kind in kinds
    ]


async def test_it_reports_how_many_messages_were_dropped(js: Clients, stand: ResumeState) -> None:
    backend = Flaky()
    site = await stand(believing(backend, sync={"enabled": True, "max_messages": 2}))
    alice = await js.client(site.url, token="alice", watch=True)
    await alice.opened()
    await site.dispatch(1)
    await alice.heard(1)
    await site.until_acknowledged(1)
    backend.is_deaf = True
    await site.dispatch(2, 3, 4, 5)
    await asyncio.sleep(0)  # hints would come only now
    backend.is_deaf = False
    await site.dispatch(6)
    await alice.heard(3)
    [resync] = [frame["d"] for frame in alice.all("received") if frame["op"] == 9]
    assert (resync["lost"], resync["s"]) == (3, 4)
    await site.until_acknowledged(6)
    site.cut()
    await until(lambda: alice.states[-1] != "open")
    await site.dispatch(7, 8, 9, 10)
    site.mend()
    await alice.heard(5)
    assert told(alice) == [
        *[("message", 1), ("lost", 3), ("message", 5), ("message", 6)],
        *[("lost", 2), ("message", 9), ("message", 10)],
    ]


async def test_it_reports_a_store_that_was_emptied_or_restarted(
    js: Clients, stand: ResumeState, own_redis: RedisServer, namespace: str
) -> None:
    site = await stand(believing(RedisBackend(own_redis.url, namespace=namespace, lease=LEASE)))
    alice = await js.client(site.url, token="alice", watch=True)
    await alice.opened()
    await site.dispatch(1)
    await site.dispatch("a", to="*")
    await alice.heard(2)
    async with redis.asyncio.Redis.from_url(own_redis.url) as client:
        await client.flushall()
    await site.dispatch(2)
    await alice.noted("reset", 2)
    await site.dispatch("b", to="*")
    await alice.heard(4)
    await asyncio.to_thread(own_redis.stop)
    await asyncio.to_thread(own_redis.start)
    await until(lambda: is_dispatched(site, 3, to="alice"))
    await until(lambda: is_dispatched(site, "c", to="*"))
    await alice.heard(6)
    [rollback] = alice.all("forked")
    happened = told(alice)
    assert happened[:3] == [("message", 1), ("message", "a"), ("reset", None)]
    assert sorted(happened[3:5], key=str) == [("message", 2), ("reset", None)]
    assert happened[5:7] == [("message", "b"), ("forked", rollback)]
    assert sorted(happened[7:], key=str) == [("message", "c"), ("message", 3)]
    resyncs = [frame["d"] for frame in alice.all("received") if frame["op"] == 9]
    assert sorted((each["status"], "b" in each, each.get("rollback")) for each in resyncs) == [
        ("forked", False, rollback),
        ("forked", True, rollback),
        ("reset", False, None),
        ("reset", True, None),
    ]


async def is_dispatched(site: Site, data: object, to: str) -> bool:
    """Try to send while Redis may be away."""
    try:
        await site.dispatch(data, to=to)
    except BackendUnavailable:
        return False
    return True


async def test_a_new_client_goes_on_where_the_one_before_was_whatever_other_devices_had(
    js: Clients, site: Site, tmp_path: Path
) -> None:
    handler = """
        mesa.on("*", async (data) => {
            note("message", { data });
            if (data == 3) await new Promise(() => {});
        });
    """
    other = await js.client(site.url, token="alice")
    path = str(tmp_path / "positions.json")
    first = await js.client(site.url, handler, token="alice", positions=path)
    await first.opened()
    await site.dispatch(1)
    await site.dispatch("a", to="*")
    await site.dispatch(2, 3, 4)
    await first.heard(4)
    await other.heard(5)
    await site.until_acknowledged(4)
    await first.close()
    saved = first.all("saved")[-1]
    assert (saved["s"], saved["b"]["s"]) == (2, 1)
    await site.dispatch("b", to="*")
    await site.dispatch(5)
    second = await js.client(site.url, token="alice", positions=path, watch=True)
    await second.heard(4)
    await second.close()
    await site.dispatch(6)
    third = await js.client(site.url, token="alice", positions=path)
    assert await third.heard(1) == [6]
    assert first.messages == [1, "a", 2, 3]
    assert sorted(map(str, second.messages)) == ["3", "4", "5", "b"]
    assert [frame["x"]["resume"] for frame in second.all("sent") if frame["op"] == 2] == [saved]
    assert [*told(second), *told(third)] == [("message", data) for data in [*second.messages, 6]]
