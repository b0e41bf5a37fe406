"""Messages that are kept for portals, chosen by their type."""

import asyncio
from contextlib import AsyncExitStack
from enum import StrEnum
from typing import Any

import pytest

from mesa_ws import Client, Message, PortalEvent, Server, Unanswered
from mesa_ws.backend.mesa1 import Mesa1Backend
from mesa_ws.errors import InvalidSettings
from mesa_ws.server.connection import Connection
from tests.system.portal.conftest import Site
from tests.system.server.peer import LIMIT
from tests.system.waiting import until


class Kind(StrEnum):
    SAVE = "SAVE"


async def test_only_messages_of_the_types_that_are_named_are_kept(site: Site) -> None:
    server = await site.serve(portals={"enabled": True, "types": ["SAVE", "SEND"]})
    seen = list[object]()

    @server.on_message
    async def on_message(message: Message, connection: Connection) -> None:
        seen.append(message.type)

    record, peer = await site.record(), await site.join("alice")
    for type in ("SAVE", "TYPING", None, "SAVE ", "SEND"):
        await peer.send(type, type)
    await peer.socket.close(1000)
    events = await record.until(5)
    assert record.types == ["connection", "authentication", "message", "message", "disconnection"]
    assert [event.message and event.message.type for event in events[2:4]] == ["SAVE", "SEND"]
    assert seen == ["SAVE", "TYPING", None, "SAVE ", "SEND"]


async def test_an_observer_sees_what_is_kept(site: Site) -> None:
    await site.serve(portals={"enabled": True, "types": ["SAVE"]})
    record, peer = await site.record(report_all_events=True), await site.join("alice")
    await peer.send("TYPING", 1)
    await peer.send("SAVE", 2)
    await record.until(3)
    assert record.data == [2]


async def test_what_is_left_out_does_not_wait_for_portals_that_do_not_keep_up(site: Site) -> None:
    server = await site.serve(portals={"enabled": True, "types": ["SAVE"], "backlog_max": 32})
    seen = list[object]()

    @server.on_message("TYPING")
    async def typing(message: Message, connection: Connection) -> None:
        seen.append(message.data)

    peer = await site.join("alice")
    for n in range(100):
        await peer.send("TYPING", n)
    await until(lambda: seen == list(range(100)))
    await peer.send("SAVE", 100)
    await peer.send("TYPING", 101)
    record = await site.record()
    await record.until(3)
    assert record.data == [100]


async def test_nothing_but_comings_and_goings_may_be_kept(site: Site) -> None:
    await site.serve(portals={"enabled": True, "types": []})
    record, peer = await site.record(), await site.join("alice")
    await peer.send("SAVE", 1)
    await peer.socket.close(1000)
    await record.until(3)
    assert record.types == ["connection", "authentication", "disconnection"]


async def test_what_a_middleware_makes_of_a_message_decides(site: Site) -> None:
    class Renaming:
        async def before_message(self, message: Message, connection: Connection) -> Message:
            return Message(0, message.data, "SAVE" if message.type == "OLD" else "TYPING")

    server = await site.serve(portals={"enabled": True, "types": ["SAVE"]})
    server.use(Renaming())
    record, peer = await site.record(), await site.join("alice")
    await peer.send("SAVE", 1)
    await peer.send("OLD", 2)
    await record.until(3)
    assert record.data == [2]


async def test_a_request_of_another_type_is_answered_by_the_server_or_not_at_all(
    site: Site, stack: AsyncExitStack
) -> None:
    server = await site.serve(portals={"enabled": True, "types": [Kind.SAVE]})
    server.on_message("TIME")(lambda message, connection: "now")
    portal, asked = site.portal(), list[str | None]()

    @portal.on_message
    async def on_message(event: PortalEvent) -> Any:
        assert event.message is not None
        asked.append(event.message.type)
        return "saved"

    await site.start(portal)
    client = await stack.enter_async_context(Client(site.url))
    assert (await client.request(Message(0, None, "TIME"), LIMIT)).data == "now"
    with pytest.raises(Unanswered, match="no handler"):
        await client.request(Message(0, None, "TYPING"), LIMIT)
    with pytest.raises(Unanswered, match="no handler"):
        await client.request(Message(0), LIMIT)
    assert (await client.request(Message(0, None, "SAVE"), LIMIT)).data == "saved"
    assert asked == ["SAVE"]


async def test_a_request_of_another_type_is_not_answered_while_portals_are_away(
    site: Site, stack: AsyncExitStack
) -> None:
    await site.serve(portals={"types": ["SAVE"]})
    client = await stack.enter_async_context(Client(site.url))
    waiting = asyncio.create_task(client.request(Message(0, None, "SAVE"), LIMIT))
    with pytest.raises(Unanswered):
        await client.request(Message(0, None, "TYPING"), LIMIT)
    portal = site.portal()
    portal.on_message(lambda event: "saved")
    await site.start(portal)
    assert (await waiting).data == "saved"


async def test_to_name_types_is_to_want_portals(site: Site) -> None:
    named = await site.serve(portals={"types": ["SAVE"]})
    assert named.handlers.forwarder is not None
    off = await site.serve(portals={"enabled": False, "types": ["SAVE"]})
    assert off.handlers.forwarder is None
    await until(lambda: off.is_ready)


def test_the_wire_of_1x_tells_portals_of_everything() -> None:
    with pytest.raises(InvalidSettings, match=r"portals\.types: expected None with wire 'mesa1'") as caught:
        Server("redis://localhost", wire="mesa1", portals={"enabled": True, "types": ["SAVE"]})
    assert caught.value.got == ("SAVE",)
    with pytest.raises(InvalidSettings, match=r"portals\.types"):
        Server(Mesa1Backend("redis://localhost"), wire="mesa1", portals={"types": []})
