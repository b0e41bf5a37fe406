"""What portals are given."""

import asyncio
import threading
import time

import pytest

from mesa_ws import Message, Portal, PortalEvent, Unsupported
from mesa_ws.errors import InvalidSettings, MesaError
from mesa_ws.messages.recipients import User
from tests.system.portal.conftest import Site
from tests.system.server.peer import Peer
from tests.system.waiting import until


async def test_a_life_of_a_connection_is_told_in_its_order(site: Site) -> None:
    server, record = await site.serve(), await site.record()
    peer = await site.join("alice")
    await peer.send("HI", {"n": 1})
    [connection] = server.connections
    connection_id = connection.connection_id
    await record.until(3)
    await peer.socket.close(4321, "bye")
    events = await record.until(4)
    assert record.types == ["connection", "authentication", "message", "disconnection"]
    assert [event.id for event in events] == [None, "alice", "alice", "alice"]
    assert {event.connection_id for event in events} == {connection_id}
    assert {event.node for event in events} == {server.backend.node_id}
    assert events[2].message == Message(0, {"n": 1}, "HI")
    assert [event.message for event in events if event.type != "message"] == [None] * 3
    assert (events[3].code, events[3].reason, events[0].code) == (4321, "bye", None)
    assert {event.deliveries for event in events} == {1}
    assert len({event.key for event in events}) == 4
    assert abs(events[0].time - time.time()) < 60


async def test_protocol_frames_are_not_told_and_other_opcodes_are(site: Site) -> None:
    await site.serve()
    record, peer = await site.record(), await site.join("alice")
    await peer.raw('{"op":11,"d":{}}')
    await peer.raw('{"op":99,"d":[1]}')
    await peer.raw("{}")
    events = await record.until(4)
    assert [event.message for event in events[2:]] == [Message(99, [1]), Message(0, None)]


async def test_handlers_of_the_server_run_as_well(site: Site) -> None:
    server, record = await site.serve(), await site.record()
    seen: list[object] = []

    @server.on_message
    async def on_message(message: Message, connection: object) -> None:
        seen.append(message.data)

    peer = await site.join("alice")
    await peer.send("HI", 7)
    await record.until(3)
    await until(lambda: seen == [7])
    assert record.data == [7]


async def test_another_user_of_a_connection_is_told_as_an_authentication(site: Site) -> None:
    server, record = await site.serve(), await site.record()
    peer = await site.join("alice")
    [connection] = server.connections
    connection.update_user(User("bob"))
    await record.until(3)
    await peer.authenticate("carol")
    events = await record.until(4)
    assert [(event.type, event.id) for event in events[1:]] == [
        ("authentication", "alice"),
        ("authentication", "bob"),
        ("authentication", "carol"),
    ]


async def test_an_update_that_keeps_the_id_is_not_told(site: Site) -> None:
    server, record = await site.serve(), await site.record()
    peer = await site.join("alice")
    [connection] = server.connections
    connection.update_user(User("alice", {"name": "Alice"}))
    await peer.send("HI", 1)
    await record.until(3)
    assert record.types == ["connection", "authentication", "message"]


async def test_without_portals_nothing_is_kept_for_them(site: Site) -> None:
    await site.serve(portals=False)
    record, peer = await site.record(), await site.join("alice")
    await peer.send("HI")
    await site.serve()
    await site.join("bob")
    await record.until(2)
    assert {event.id for event in record.events} == {None, "bob"}


async def test_what_happened_before_a_portal_came_waits_for_it(site: Site) -> None:
    await site.serve()
    peer = await site.join("alice")
    for n in range(10):
        await peer.send("HI", n)
    record = await site.record()
    await record.until(12)
    assert record.data == list(range(10))


async def test_handlers_are_chosen_by_type(site: Site) -> None:
    await site.serve()
    portal, seen = site.portal(), list[tuple[str, object]]()

    @portal.on_message("A")
    async def on_a(event: PortalEvent) -> None:
        assert event.message is not None
        seen.append(("A", event.message.data))

    @portal.on_message
    async def on_all(event: PortalEvent) -> None:
        assert event.message is not None
        seen.append(("all", event.message.data))

    await site.start(portal)
    peer = await site.join()
    await peer.send("A", 1)
    await peer.send("B", 2)
    await until(lambda: len(seen) == 3)
    assert seen == [("A", 1), ("all", 1), ("all", 2)]


async def test_plain_functions_run_in_threads_and_can_reply(site: Site) -> None:
    await site.serve()
    portal, threads = site.portal(handler_threads=2), list[int]()

    @portal.on_message
    def on_message(event: PortalEvent) -> None:
        threads.append(threading.get_ident())
        event.reply_blocking(Message(0, event.id, "ANSWER"))

    await site.start(portal)
    peer = await site.join("alice")
    await peer.send("HI")
    assert (await peer.until(t="ANSWER"))["d"] == "alice"
    assert threads != [threading.get_ident()]


async def test_a_plain_function_cannot_await_a_reply(site: Site) -> None:
    await site.serve()
    portal, errors = site.portal(), list[Exception]()

    @portal.on_message
    def on_message(event: PortalEvent) -> None:
        event.reply(Message(0, event.id, "ANSWER"))  # type: ignore[unused-coroutine]

    @portal.on_error
    async def on_error(error: Exception, event: PortalEvent) -> None:
        errors.append(error)

    await site.start(portal)
    peer = await site.join("alice")
    await peer.send("HI")
    await until(lambda: bool(errors))
    assert str(errors[0]).startswith("event.reply does nothing in a `def` handler")
    assert "use event.reply_blocking" in str(errors[0])


async def test_a_reply_reaches_the_connection_alone(site: Site) -> None:
    await site.serve()
    portal = site.portal()

    @portal.on_message
    async def on_message(event: PortalEvent) -> None:
        assert await event.reply(Message(0, 1, "ANSWER"))
        with pytest.raises(MesaError, match="expected a thread"):
            event.reply_blocking(Message(0, 2, "ANSWER"))

    await site.start(portal)
    first, second = await site.join("alice"), await site.join("alice")
    await first.send("HI")
    await first.until(t="ANSWER")
    await second.send("HI")
    await second.until(t="ANSWER")
    await second.send("HI")
    await second.until(t="ANSWER")
    assert len([frame for frame in first.frames if frame.get("t") == "ANSWER"]) == 1


async def test_different_connections_are_handled_at_the_same_time(site: Site) -> None:
    await site.serve()
    portal, both = site.portal(), asyncio.Barrier(2)

    @portal.on_message
    async def on_message(event: PortalEvent) -> None:
        await both.wait()
        await event.reply(Message(0, None, "BOTH"))

    await site.start(portal)
    first, second = await site.join("alice"), await site.join("bob")
    await first.send("HI")
    await second.send("HI")
    await first.until(t="BOTH")
    await second.until(t="BOTH")


async def test_an_observer_sees_everything_and_takes_nothing(site: Site) -> None:
    await site.serve()
    observer = await site.record(report_all_events=True)
    record = await site.record()
    peer = await site.join("alice")
    for n in range(20):
        await peer.send("HI", n)
    await record.until(22)
    await observer.until(22)
    assert record.data == observer.data == list(range(20))
    assert observer.portal.queues == ()


async def test_one_portal_gets_everything_where_load_is_not_distributed(site: Site) -> None:
    await site.serve(portals={"enabled": True, "distribute_load": False})
    records = [await site.record(), await site.record()]
    await until(lambda: all(len(record.portal.queues) == 8 for record in records))
    for n in range(10):
        await site.join(str(n))
    await until(lambda: max(len(record.events) for record in records) == 20)
    assert min(len(record.events) for record in records) == 0


async def test_a_full_backlog_stops_the_reading_of_a_client_and_loses_nothing(site: Site) -> None:
    server = await site.serve(
        portals={"enabled": True, "backlog_max": 32, "distribute_load": False}, limits={"max_queued": 4}
    )
    peer = await site.join("alice")
    sending = asyncio.create_task(_send(peer, 600))
    await until(lambda: bool(server.connections) and server.connections[0].protocol.deadline is None)
    record = await site.record()
    await record.until(602)
    await sending
    assert [data["n"] for data in record.data] == list(range(600))


async def _send(peer: Peer, count: int) -> None:
    for n in range(count):
        await peer.send("HI", {"n": n, "padding": "x" * 1000})


async def test_a_server_that_stops_ends_its_connections(site: Site) -> None:
    record = await site.record()
    server = await site.serve()
    await site.join("alice")
    await record.until(2)
    await server.stop()
    events = await record.until(3)
    assert (events[2].type, events[2].code) == ("disconnection", 1001)


def test_portals_do_not_work_over_http() -> None:
    with pytest.raises(Unsupported, match="redis://"):
        Portal("http://127.0.0.1:4001")


@pytest.mark.parametrize(
    ("option", "value"), [("concurrency", 0), ("handler_threads", 0), ("lease", 0.1), ("timeout", 0)]
)
def test_a_wrong_option_is_named(option: str, value: object) -> None:
    with pytest.raises(InvalidSettings, match=option):
        Portal("redis://localhost", **{option: value})  # type: ignore[arg-type]


async def test_a_portal_runs_once_at_a_time(site: Site) -> None:
    record = await site.record()
    assert record.portal.is_running
    with pytest.raises(MesaError, match="already"):
        await record.portal.start()
