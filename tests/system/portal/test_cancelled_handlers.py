"""Handlers of portals that are cancelled, or raise what is no exception."""

import asyncio
from typing import Any

import pytest

from mesa_ws import PortalEvent
from mesa_ws.portal import handling, worker
from mesa_ws.portal.native import QueueSource
from mesa_ws.transports.run import Portal, serve
from tests.system.cancelling import WAYS, Way, cancels_itself_and_returns, swallows_its_cancellation
from tests.system.portal.conftest import Site
from tests.system.server.conftest import accepting
from tests.system.server.peer import Peer
from tests.system.waiting import until

every_way = pytest.mark.parametrize("fails", WAYS, ids=lambda way: way.__name__)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers that raised are called again soon."""
    monkeypatch.setattr(handling, "FIRST_PAUSE", 0.001)


@pytest.fixture
def memory_site(namespace: str, stack: Any) -> Site:
    return Site(None, namespace, stack)


def failing(portal: Portal, fails: Way, times: int) -> tuple[list[Any], list[BaseException]]:
    """What a portal handled and reported, whose handler fails so often at messages of the type BOOM."""
    handled, reported = list[Any](), list[BaseException]()

    @portal.on_message
    async def on_message(event: PortalEvent) -> None:
        assert event.message is not None
        if event.message.type == "BOOM" and event.deliveries <= times:
            await fails()
            return
        handled.append(event.message.data)

    @portal.on_error
    async def on_error(error: BaseException, event: PortalEvent) -> None:
        reported.append(error)
        await fails()

    return handled, reported


@every_way
async def test_an_event_is_handled_again_and_the_next_ones_after_it(
    memory_site: Site, fails: Way, at_once: None
) -> None:
    await memory_site.serve()
    portal = memory_site.portal()
    handled, reported = failing(portal, fails, 2)
    await memory_site.start(portal)
    peer = await memory_site.join()
    await peer.send("BOOM", 1)
    await peer.send("HI", 2)
    await until(lambda: len(handled) == 2)
    await peer.send("HI", 3)
    await until(lambda: len(handled) == 3)
    assert handled == [1, 2, 3]
    assert len(reported) == 2
    assert all(isinstance(error, Exception) for error in reported)


async def test_it_becomes_a_dead_letter_after_five_times(
    site: Site, at_once: None, caplog: pytest.LogCaptureFixture
) -> None:
    await site.serve()
    portal = site.portal()
    handled, reported = failing(portal, cancels_itself_and_returns, 5)
    await site.start(portal)
    peer = await site.join()
    await peer.send("BOOM", 1)
    await peer.send("HI", 2)
    await until(lambda: handled == [2])
    assert len(reported) == 5
    assert "becomes a dead letter: HandlerCancelled: " in caplog.text


@every_way
async def test_a_portal_that_sees_everything_goes_on(memory_site: Site, fails: Way) -> None:
    await memory_site.serve()
    portal = memory_site.portal(report_all_events=True)
    handled, reported = failing(portal, fails, 9)
    await memory_site.start(portal)
    peer = await memory_site.join()
    await peer.send("BOOM", 1)
    await peer.send("HI", 2)
    await until(lambda: handled == [2])
    assert len(reported) == 1


@every_way
async def test_a_portal_of_the_wire_of_1x_goes_on(redis_url: str, namespace: str, fails: Way) -> None:
    server = accepting(backend=redis_url, namespace=namespace, wire="mesa1", portals=True)
    portal = Portal(redis_url, namespace=namespace, wire="mesa1")
    handled, reported = failing(portal, fails, 9)
    async with portal, serve(server) as endpoint, Peer.connect(endpoint.url) as peer:
        await peer.send("BOOM", 1)
        await peer.send("HI", 2)
        await until(lambda: handled == [2])
    assert len(reported) == 1


@every_way
async def test_a_request_is_answered_all_the_same(memory_site: Site, fails: Way, at_once: None) -> None:
    await memory_site.serve()
    portal, reported = memory_site.portal(), list[BaseException]()

    @portal.on_message("BOOM")
    async def boom(event: PortalEvent) -> Any:
        if event.deliveries == 1:
            await fails()
        return "answer"

    portal.on_error(lambda error, event: reported.append(error))
    await memory_site.start(portal)
    peer = await memory_site.join()
    await peer.log_in("1", wire=2)
    await peer.raw('{"op":0,"t":"BOOM","x":{"r":"1"}}')
    assert (await peer.until(t="BOOM"))["d"] == "answer"
    assert len(reported) == 1


async def test_a_handler_that_deals_with_its_cancellation_has_not_failed(memory_site: Site) -> None:
    await memory_site.serve()
    portal = memory_site.portal()
    handled, reported = failing(portal, swallows_its_cancellation, 9)
    await memory_site.start(portal)
    peer = await memory_site.join()
    await peer.send("BOOM", 1)
    await peer.send("HI", 2)
    await until(lambda: handled == [2])
    assert reported == []


async def test_a_task_that_was_kept_and_is_cancelled_later_goes_on(memory_site: Site) -> None:
    """Between two events of a connection it waits for a slot, which is not the application's code."""
    await memory_site.serve()
    portal = memory_site.portal(concurrency=1)
    tasks, handled, go = list[asyncio.Task[Any]](), list[Any](), asyncio.Event()

    @portal.on_message
    async def on_message(event: PortalEvent) -> None:
        assert event.message is not None
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        if event.message.data == "hold":
            await go.wait()
        handled.append(event.message.data)

    await memory_site.start(portal)
    first, second = await memory_site.join(), await memory_site.join()
    await first.send("HI", 1)
    await until(lambda: handled == [1])
    await second.send("HI", "hold")
    await until(lambda: len(tasks) == 2)
    await first.send("HI", 2)
    assert isinstance(portal._source, QueueSource)
    owned = portal._source._assignment.owned
    await until(lambda: sum(each.events.count for each in owned.values()) == 2)
    for task in {task for each in owned.values() for task in each.events.tasks} - {tasks[1]}:
        task.cancel()
    go.set()
    await until(lambda: len(handled) == 3)
    assert handled == [1, "hold", 2]


@pytest.mark.parametrize("wire", ["native", "mesa1"])
@pytest.mark.parametrize("sees_all", [False, True])
async def test_a_portal_that_stops_ends_a_handler_that_does_not_heed_it(
    wire: str, sees_all: bool, redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "GRACE", 0.05)
    options: Any = {"namespace": namespace, "wire": wire}
    server = accepting(backend=redis_url, portals=True, **options)
    portal = Portal(redis_url, report_all_events=sees_all, **options)
    began, handled = asyncio.Event(), list[Any]()

    @portal.on_message
    async def on_message(event: PortalEvent) -> None:
        assert event.message is not None
        handled.append(event.message.data)
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await cancels_itself_and_returns()

    async with portal, serve(server) as endpoint, Peer.connect(endpoint.url) as peer:
        await peer.send("HI", 1)
        await peer.send("HI", 2)
        await began.wait()
    assert handled == [1]
