"""Requests of clients that portals answer."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest

from mesa_ws import (
    Client,
    MesaError,
    Message,
    Middleware,
    PortalEvent,
    RequestError,
    RequestFailed,
    TimedOut,
    TooManyRequests,
    Unanswered,
)
from mesa_ws.backend.inbox import reply_recipient
from mesa_ws.messages.envelope import Envelope, new_message_id
from mesa_ws.messages.recipients import Recipients
from mesa_ws.messages.request import Reply
from mesa_ws.portal import handling
from mesa_ws.portal.native import QueueSource
from mesa_ws.server import portal_forwarding
from mesa_ws.server.connection import Connection
from mesa_ws.transports.run import Server
from tests.system.portal.conftest import Site
from tests.system.server.peer import LIMIT
from tests.system.waiting import until

PING = Message(0, {"n": 1}, "PING")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers that raised are called again soon."""
    monkeypatch.setattr(handling, "FIRST_PAUSE", 0.001)


def waiting(server: Server) -> int:
    """Requests of clients that wait for portals."""
    forwarder = server.handlers.forwarder
    assert forwarder is not None
    return sum(len(each.pending) for each in forwarder._connections.values())


async def test_what_a_handler_returns_is_the_answer(site: Site, client: Client) -> None:
    portal, requests = site.portal(), list[bool]()

    @portal.on_message("PING")
    async def on_ping(event: PortalEvent) -> Any:
        assert event.message is not None
        requests.append(event.request is not None)
        return [event.message.data]

    @portal.on_message("MESSAGE")
    def in_thread(event: PortalEvent) -> Message:
        return Message(99, None, "PONG")

    await site.start(portal)
    await client.send(PING)
    for _ in range(2):
        assert await client.request(PING, LIMIT) == Message(0, [{"n": 1}], "PING")
    assert await client.request(Message(0, None, "MESSAGE"), LIMIT) == Message(99, None, "PONG")
    assert requests == [False, True, True]


async def test_the_first_handler_that_returns_something_answers(site: Site, client: Client) -> None:
    portal, called = site.portal(), list[str]()

    @portal.on_message
    async def nothing(event: PortalEvent) -> None:
        called.append("nothing")

    @portal.on_message
    async def something(event: PortalEvent) -> int:
        called.append("something")
        return 0

    @portal.on_message
    async def more(event: PortalEvent) -> int:
        called.append("more")
        return 1

    await site.start(portal)
    assert (await client.request(PING, LIMIT)).data == 0
    assert called == ["nothing", "something"]
    await client.send(PING)
    await until(lambda: called == ["nothing", "something"] * 2 + ["more"])


async def test_a_deliberate_error_is_told_and_the_event_is_done(
    site: Site, client: Client, at_once: None
) -> None:
    portal, seen = site.portal(), list[object]()

    @portal.on_message
    async def refuse(event: PortalEvent) -> None:
        seen.append(event.message and event.message.data)
        raise RequestError("no such room", "no_room")

    await site.start(portal)
    for n in range(2):
        with pytest.raises(RequestFailed) as caught:
            await client.request(Message(0, n), LIMIT)
        assert (caught.value.code, caught.value.text) == ("no_room", "no such room")
    await client.send(Message(0, "message"))
    await client.send(Message(0, "next"))
    await until(lambda: seen[2:] == ["message", "next"])
    assert seen == [0, 1, "message", "next"]


async def test_what_no_handler_answers_is_told(site: Site, client: Client) -> None:
    portal = site.portal()
    portal.on_message("PING")(lambda event: None)
    await site.start(portal)
    for type in ("PING", "OTHER"):
        with pytest.raises(Unanswered, match="no handler"):
            await client.request(Message(0, None, type), LIMIT)


async def test_a_handler_that_raised_may_answer_when_it_is_called_again(
    site: Site, client: Client, at_once: None
) -> None:
    portal = site.portal()

    @portal.on_message
    async def on_message(event: PortalEvent) -> Any:
        if event.deliveries == 1:
            raise ValueError("not yet")
        return object() if event.deliveries == 2 else event.deliveries

    await site.start(portal)
    assert (await client.request(PING, LIMIT)).data == 3


async def test_a_request_that_becomes_a_dead_letter_has_failed(
    site: Site, client: Client, at_once: None
) -> None:
    portal = site.portal()

    @portal.on_message
    async def on_message(event: PortalEvent) -> None:
        raise ValueError("never told")

    await site.start(portal)
    with pytest.raises(RequestFailed, match="the handler failed") as caught:
        await client.request(PING, LIMIT)
    assert caught.value.code == "failed"


async def test_another_portal_answers_for_one_that_died(redis_site: Site, stack: AsyncExitStack) -> None:
    """A portal whose tasks are cancelled shows no life any more, like one whose process is gone."""
    server = await redis_site.serve()
    client = await stack.enter_async_context(Client(redis_site.url))
    portal, began, ends = redis_site.portal(), asyncio.Event(), asyncio.Event()

    @portal.on_message
    async def on_message(event: PortalEvent) -> str:
        began.set()
        await ends.wait()
        return "too late"

    await redis_site.start(portal)
    asking = asyncio.create_task(client.request(PING, LIMIT))
    await began.wait()
    assert isinstance(portal._source, QueueSource)
    await portal._source._tasks.aclose(LIMIT)
    other = redis_site.portal()
    other.on_message(lambda event: f"at delivery {event.deliveries}")
    await redis_site.start(other)
    assert (await asking).data == "at delivery 2"
    ends.set()
    assert waiting(server) == 0
    assert (await client.request(PING, LIMIT)).data == "at delivery 1"


async def test_a_portal_that_stops_answers_what_it_has_begun(site: Site, client: Client) -> None:
    portal, began, go = site.portal(), asyncio.Event(), asyncio.Event()

    @portal.on_message
    async def on_message(event: PortalEvent) -> str:
        began.set()
        await go.wait()
        return "the first"

    await site.start(portal)
    begun = asyncio.create_task(client.request(PING, LIMIT))
    later = asyncio.create_task(client.request(PING, LIMIT))
    await began.wait()
    stopping = asyncio.create_task(portal.stop())
    other = site.portal()
    other.on_message(lambda event: "the other")
    await site.start(other)
    await until(lambda: portal.queues == ())
    go.set()
    assert [(await each).data for each in (begun, later)] == ["the first", "the other"]
    await stopping


async def test_a_handler_of_the_server_answers_before_portals(site: Site, stack: AsyncExitStack) -> None:
    server = await site.serve()
    server.on_message("PING")(lambda message, connection: "the server")
    client = await stack.enter_async_context(Client(site.url))
    portal, seen = site.portal(), list[str | None]()

    @portal.on_message
    async def on_message(event: PortalEvent) -> str:
        seen.append(event.message.type if event.message else None)
        return "the portal"

    await site.start(portal)
    assert (await client.request(PING, LIMIT)).data == "the server"
    assert (await client.request(Message(0, None, "OTHER"), LIMIT)).data == "the portal"
    assert seen == ["OTHER"]


async def test_what_portals_send_is_told_to_middleware(site: Site, stack: AsyncExitStack) -> None:
    told = list[tuple[Any, bool]]()

    class Sent(Middleware):
        def on_message_sent(
            self, message: Message, connections: Sequence[Connection], from_this_node: bool
        ) -> None:
            told.append((message.data, from_this_node))

    server = await site.serve()
    server.use(Sent)
    client = await stack.enter_async_context(Client(site.url))
    portal = site.portal()

    @portal.on_message
    async def on_message(event: PortalEvent) -> str:
        await event.reply(Message(0, "a reply"))
        return "an answer"

    await site.start(portal)
    assert (await client.request(PING, LIMIT)).data == "an answer"
    assert told == [("a reply", False), ("an answer", False)]


async def test_what_a_portal_sends_too_late_is_not_told(site: Site, stack: AsyncExitStack) -> None:
    told, replied, may_end = list[Any](), list[str | None](), asyncio.Event()

    class Sent(Middleware):
        def on_message_sent(
            self, message: Message, connections: Sequence[Connection], from_this_node: bool
        ) -> None:
            told.append(message.data)

    server = await site.serve()
    server.use(Sent)
    stack.callback(may_end.set)

    @server.on_message("LEAVE")
    async def leave(message: Message, connection: Connection) -> None:
        connection.disconnect()
        await may_end.wait()  # so that portals do not hear of its end before

    portal = site.portal()

    @portal.on_message
    async def on_message(event: PortalEvent) -> None:
        await until(lambda: len(server.connections) == 1)
        assert event.message is not None
        await event.reply(Message(0, event.message.type))
        replied.append(event.message.type)

    await site.start(portal)
    staying, leaving = await site.join(), await site.join()
    await leaving.send("LEAVE")
    await until(lambda: replied == ["LEAVE"])
    await staying.send("STAY")
    await staying.messages(1)
    assert told == ["STAY"]


async def test_who_sees_everything_never_answers(site: Site, client: Client) -> None:
    observer, seen = site.portal(report_all_events=True), list[str | None]()

    @observer.on_message
    async def observe(event: PortalEvent) -> str:
        seen.append(event.request)
        return "the observer"

    await site.start(observer)
    asking = asyncio.create_task(client.request(PING, LIMIT))
    await until(lambda: seen == [None])
    portal = site.portal()
    portal.on_message(lambda event: "the portal")
    await site.start(portal)
    assert (await asking).data == "the portal"


async def test_a_second_answer_and_one_to_nothing_are_ignored(
    server: Server, site: Site, client: Client
) -> None:
    portal, tokens = site.portal(), list[str | None]()

    @portal.on_message
    async def on_message(event: PortalEvent) -> int:
        assert event.request is not None
        tokens.append(event.request)
        for reply in (Reply(event.request, b'{"op":0,"d":1}'), Reply(tokens[0] or "", b'{"op":0,"d":9}')):
            await event._send(answer(event, reply.write()), event.node)
        await event._send(answer(event, b"none"), event.node)
        return 2

    await site.start(portal)
    for _ in range(3):
        assert (await client.request(PING, LIMIT)).data == 1
    assert len(tokens) == 3
    assert waiting(server) == 0


async def test_requests_and_messages_reach_portals_in_order(site: Site, client: Client) -> None:
    portal, seen = site.portal(), list[object]()

    @portal.on_message
    async def on_message(event: PortalEvent) -> int:
        seen.append(event.message and event.message.data)
        return len(seen)

    await site.start(portal)
    asking = []
    for n in range(0, 16, 2):  # as many requests as a guest may have
        asking.append(asyncio.create_task(client.request(Message(0, n), LIMIT)))
        await asyncio.sleep(0)  # the task writes its request
        await client.send(Message(0, n + 1))
    assert [(await each).data for each in asking] == list(range(1, 17, 2))
    await until(lambda: seen == list(range(16)))


async def test_a_connection_that_waits_for_a_portal_goes_on(site: Site, stack: AsyncExitStack) -> None:
    server, seen = await site.serve(), list[object]()

    @server.on_message("NEXT")
    async def on_next(message: Message, connection: Connection) -> str:
        seen.append(message.data)
        return "next"

    client = await stack.enter_async_context(Client(site.url))
    with pytest.raises(TimedOut):
        await client.request(PING, 0.05)
    assert (await client.request(Message(0, 1, "NEXT"), LIMIT)).data == "next"
    assert (seen, waiting(server)) == ([1], 1)


async def test_what_waits_is_bounded(site: Site, stack: AsyncExitStack) -> None:
    server = await site.serve(limits={"max_requests": 2})
    client = await stack.enter_async_context(Client(site.url))
    asking = [asyncio.create_task(client.request(PING, LIMIT)) for _ in range(2)]
    await until(lambda: waiting(server) == 2)
    with pytest.raises(TooManyRequests):
        await client.request(Message(0, None, "THIRD"), LIMIT)
    portal, seen = site.portal(), list[str | None]()

    @portal.on_message
    async def on_message(event: PortalEvent) -> str:
        seen.append(event.message.type if event.message else None)
        return "at last"

    await site.start(portal)
    assert [(await each).data for each in asking] == ["at last"] * 2
    assert seen == ["PING"] * 2


async def test_a_request_that_no_portal_answers_fails_in_the_end(
    site: Site, client: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portal_forwarding, "PATIENCE", 0.05)
    with pytest.raises(RequestFailed, match="no portal has answered in time"):
        await client.request(PING, LIMIT)
    assert waiting(server) == 0


async def test_nothing_is_left_of_a_connection_that_ended(site: Site, client: Client, server: Server) -> None:
    portal, began, go = site.portal(), asyncio.Event(), asyncio.Event()

    @portal.on_message
    async def on_message(event: PortalEvent) -> str:
        began.set()
        await go.wait()
        return "too late"

    ended = asyncio.Event()
    portal.on_disconnection(lambda event: ended.set())
    await site.start(portal)
    asking = asyncio.create_task(client.request(PING, LIMIT))
    await began.wait()
    await client.aclose()
    with pytest.raises(MesaError, match="closed"):
        await asking
    await until(lambda: waiting(server) == 0)
    go.set()
    await until(ended.is_set)


async def test_a_handler_may_ask_the_client_whose_request_it_answers(
    redis_site: Site, stack: AsyncExitStack
) -> None:
    await redis_site.serve()
    client = await stack.enter_async_context(Client(redis_site.url))
    client.on_request(lambda message: message.data + 1)
    await client.authenticate({"id": "alice"})
    portal, dispatcher = redis_site.portal(), await redis_site.dispatcher()

    @portal.on_message
    async def on_message(event: PortalEvent) -> Any:
        return (await dispatcher.request("alice", Message(0, 1), LIMIT)).data + 1

    await redis_site.start(portal)
    assert (await client.request(PING, LIMIT)).data == 3


def answer(event: PortalEvent, body: bytes) -> Envelope:
    """An envelope with what a portal says to a request."""
    who = Recipients(False, (reply_recipient(event.connection_id),), frozenset())
    return Envelope(who, body, "connection", new_message_id())
