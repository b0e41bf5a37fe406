"""Handlers with unexpected faults, and the fate of their events and of the events of others."""

import asyncio
import gc
from typing import Any

import pytest

from mesa_ws import Message, Portal, PortalEvent
from mesa_ws.backend.inbox import WEIGHT_UNIT
from mesa_ws.errors import BackendUnavailable, InvalidSettings
from mesa_ws.portal import handling
from mesa_ws.portal.assignment import assigned_queues
from mesa_ws.portal.calls import MAX_REASON
from tests.system.portal.conftest import Record, Site
from tests.system.server.peer import LIMIT
from tests.system.waiting import until


class Odd(BaseException):
    """Not meant to be caught, as some libraries have it of their timeouts."""


class Unspeakable(Exception):
    """Says nothing about itself."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers that raised are called again soon."""
    monkeypatch.setattr(handling, "FIRST_PAUSE", 0.001)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("half of \ud83d"), "ValueError: half of ?"),
        (ValueError("x" * 1_000_000), "ValueError: " + "x" * (MAX_REASON - 12)),
        (Unspeakable(), "Unspeakable"),
        (Odd(), "RuntimeError: test_whatever_a_handler_raises_is_a_reason.<locals>.on_bad raised Odd"),
    ],
    ids=["a lone surrogate", "a long text", "no text", "no exception"],
)
async def test_whatever_a_handler_raises_is_a_reason(
    site: Site, at_once: None, error: BaseException, reason: str
) -> None:
    await site.serve()
    portal = site.portal()

    @portal.on_message("BAD")
    async def on_bad(event: PortalEvent) -> None:
        raise error

    @portal.on_message("GOOD")
    async def on_good(event: PortalEvent) -> None:
        await event.reply(Message(0, None, "DONE"))

    await site.start(portal)
    peer = await site.join("alice")
    await peer.send("BAD")
    await peer.send("GOOD")
    await peer.until(t="DONE")
    [dead] = await _consumer(portal).dead_letters(10)
    assert dead.reason == reason


async def test_what_an_observer_sends_is_no_repetition_of_what_a_portal_sends(redis_site: Site) -> None:
    await redis_site.serve()
    dispatcher = await redis_site.dispatcher()
    for name, sees_all in (("OBSERVER", True), ("PORTAL", False)):
        portal = redis_site.portal(report_all_events=sees_all)

        @portal.on_message
        async def on_message(event: PortalEvent, name: str = name) -> None:
            await dispatcher.dispatch(Message(0, None, name), ["alice"])
            await event.reply(Message(0, None, f"{name} REPLIES"))

        await redis_site.start(portal)
    peer = await redis_site.join("alice")
    await peer.send("HI")
    wanted = {"OBSERVER", "PORTAL", "OBSERVER REPLIES", "PORTAL REPLIES"}
    while wanted - {frame.get("t") for frame in peer.frames}:
        await peer.receive()


async def test_a_portal_that_stops_lets_its_handlers_finish_although_the_backend_is_away(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.serve()
    portal, began, go, done = site.portal(), asyncio.Event(), asyncio.Event(), list[object]()

    @portal.on_message
    async def on_message(event: PortalEvent) -> None:
        began.set()
        await go.wait()
        done.append(event.type)

    await site.start(portal)
    peer = await site.join()
    await peer.send("HI")
    await began.wait()
    calls = 0

    async def away(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        raise BackendUnavailable("away")

    monkeypatch.setattr(_consumer(portal), "heartbeat", away)
    stopping = asyncio.create_task(portal.stop())
    await until(lambda: calls >= 3 or stopping.done())
    go.set()
    await stopping
    assert done == ["message"]


async def test_a_task_that_a_handler_leaves_behind_is_named_after_nothing(redis_site: Site) -> None:
    """Else a message that it sends after an error would count as a repetition, and not be delivered."""
    await redis_site.serve()
    portal, dispatcher = redis_site.portal(), await redis_site.dispatcher()
    left: list[asyncio.Task[None]] = []
    go = asyncio.Event()

    async def later(n: int) -> None:
        await go.wait()
        await dispatcher.dispatch(Message(0, n, "LATER"), ["alice"])

    @portal.on_message
    async def on_message(event: PortalEvent) -> None:
        left.append(asyncio.create_task(later(event.deliveries)))
        if event.deliveries == 1:
            raise ValueError("the first time")

    await redis_site.start(portal)
    peer = await redis_site.join("alice")
    await peer.send("HI")
    await until(lambda: len(left) == 2)
    await until(lambda: all(not each.events.count for each in _assignment(portal).owned.values()))
    go.set()
    got = [(await peer.until(t="LATER"))["d"] for _ in range(2)]
    assert sorted(got) == [1, 2]


async def test_what_is_read_ahead_of_one_queue_is_bounded_in_bytes(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handling, "MAX_BYTES", 100_000)
    await site.serve()
    portal, go, seen = site.portal(), asyncio.Event(), list[object]()

    @portal.on_message
    async def on_message(event: PortalEvent) -> None:
        await go.wait()
        assert event.message is not None
        seen.append(event.message.data[0])

    peer = await site.join()
    for n in range(300):
        await peer.send("HI", [n, "x" * 10_000])
    await peer.send("PING")
    await site.start(portal)
    await until(lambda: any(not each.has_room for each in _assignment(portal).owned.values()))
    most = max(each.events.count for each in _assignment(portal).owned.values())
    assert most <= 32 + 10
    go.set()
    await until(lambda: len(seen) == 300)
    assert seen == list(range(300))


@pytest.mark.parametrize("call", ["heartbeat", "read", "settle"])
async def test_a_fault_does_not_leave_a_portal_deaf(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    await site.serve()
    record, calls = await site.record(), list[str]()
    right = getattr(_consumer(record.portal), call)

    async def faulty(*arguments: Any, **options: Any) -> Any:
        calls.append(call)
        if len(calls) == 1:
            raise ValueError("a fault of ours")
        return await right(*arguments, **options)

    monkeypatch.setattr(_consumer(record.portal), call, faulty)
    peer = await site.join("alice")
    await peer.send("HI", 1)
    await record.until(3)
    await until(lambda: len(calls) > 1)
    assert "a fault of ours" in caplog.text


@pytest.mark.parametrize("returns", [False, True], ids=["to another portal", "and comes back"])
async def test_a_handler_that_hangs_does_not_keep_a_queue_from_being_handed_over(
    site: Site, monkeypatch: pytest.MonkeyPatch, returns: bool
) -> None:
    monkeypatch.setattr(handling, "HAND_OVER", 0.1)
    await site.serve(portals={"enabled": True, "distribute_load": False})
    first, began, ended = site.portal(), asyncio.Event(), list[int]()

    @first.on_message("HANG")
    async def hang(event: PortalEvent) -> None:
        if event.deliveries == 1:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(1)

    await site.start(first)
    peer = await site.join("alice")
    await peer.send("HANG")
    await began.wait()
    record = await rival(site, first)
    await until(lambda: 0 not in first.queues)
    if returns:
        await record.portal.stop()
        record = Record(first)
    await (await site.join("bob")).send("HI", "bob")
    await until(lambda: "bob" in record.data)
    await until(lambda: 2 in [event.deliveries for event in record.events])
    gc.collect()
    assert ended == []  # no queue waits for it any more, and it goes on until its portal stops


async def rival(site: Site, first: Portal) -> Record:
    """Another portal, which has to be given the first queue."""
    while True:
        record = await site.record()
        if 0 not in assigned_queues([first.portal_id, record.portal.portal_id], first.portal_id):
            return record
        await record.portal.stop()


async def test_a_client_that_floods_holds_up_nobody_else(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    await site.serve(portals={"enabled": True, "distribute_load": False})
    portal, go, seen = site.portal(), asyncio.Event(), list[object]()

    @portal.on_message
    async def on_message(event: PortalEvent) -> None:
        if event.id == "flood":
            await go.wait()
        assert event.message is not None
        seen.append(event.message.data[0])

    await site.start(portal)
    flood, other = await site.join("flood"), await site.join("other")

    async def send_all() -> None:
        for n in range(600):
            await flood.send("HI", [n, "x" * 10 * WEIGHT_UNIT])  # in all more than one client may have wait

    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as flooding:
        flooding.create_task(send_all())  # which may have to wait until the server reads on
        await until(lambda: "backlog of portals is full" in caplog.text)
        await other.send("HI", ["other"])
        await until(lambda: seen == ["other"])
        go.set()
    await until(lambda: len(seen) == 601)
    assert seen[1:] == list(range(600))


async def test_letters_with_lower_places_than_before_are_read(
    redis_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Redis that lost data, and whose clock is behind that of its predecessor, gives lower numbers."""
    await redis_site.serve()
    record, peer = await redis_site.record(), await redis_site.join("alice")
    await record.until(2)
    monkeypatch.setattr(handling, "LOOK_BACK", 3600.0)
    consumer, places = _consumer(record.portal), list[str]()
    read = consumer.read

    async def watched(after: dict[int, str]) -> Any:
        places[:] = set(after.values())
        return await read(after)

    monkeypatch.setattr(consumer, "read", watched)
    for each in _assignment(record.portal).owned.values():
        each.cursor = "99999999999999-0"
    await until(lambda: places == ["99999999999999-0"])
    monkeypatch.setattr(handling, "LOOK_BACK", 0.1)
    await peer.send("HI", 1)
    await record.until(3)
    assert record.data == [1]


def test_what_is_registered_has_to_be_callable(site: Site) -> None:
    portal = site.portal()
    for register in (portal.on_connection, portal.on_message("A"), portal.on_disconnection, portal.on_error):
        with pytest.raises(InvalidSettings, match="a function"):
            register("not a function")  # type: ignore[type-var]


def test_whether_all_is_seen_is_true_or_false(site: Site) -> None:
    with pytest.raises(InvalidSettings, match="report_all_events"):
        site.portal(report_all_events="no")


def _consumer(portal: Any) -> Any:
    return portal._source._consumer


def _assignment(portal: Any) -> Any:
    return portal._source._assignment
