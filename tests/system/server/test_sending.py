"""Messages from the server and from its cluster to the right connections."""

import asyncio
from typing import Any

import pytest

from mesa_ws.backend.memory import MemoryBackend, MemoryHub
from mesa_ws.backend.outbox import Page, Start
from mesa_ws.errors import InvalidRecipients, MesaError
from mesa_ws.messages.envelope import prepare
from mesa_ws.messages.message import DispatchEvent, Message
from mesa_ws.messages.receipt import Delivery
from mesa_ws.messages.recipients import User
from mesa_ws.server.connection import Connection
from mesa_ws.transports.run import Server

from .conftest import Joining, Serving, accepting


def answering(**options: Any) -> Server:
    server = accepting(**options)

    @server.on_message("PING")
    async def pong(message: Message, connection: Connection) -> None:
        connection.send(Message(0, {}, "PONG"))

    return server


async def test_ids_receive_and_nobody_else(serving: Serving, join: Joining) -> None:
    server = answering()
    endpoint = await serving(server)
    peers = [await join(endpoint, id) for id in ("0", "1", "2", None)]
    await server.send(Message(0, "hi", "HI"), ["0", "1"])
    assert [await peer.received("HI") for peer in peers] == [["hi"], ["hi"], [], []]


async def test_everybody_receives_authenticated_or_not(serving: Serving, join: Joining) -> None:
    server = answering()
    endpoint = await serving(server)
    peers = [await join(endpoint, id) for id in ("0", "1", None)]
    await server.send(Message(0, "hi", "HI"))
    assert [await peer.received("HI") for peer in peers] == [["hi"], ["hi"], ["hi"]]


async def test_everybody_but_the_excluded_receives(serving: Serving, join: Joining) -> None:
    server = answering()
    endpoint = await serving(server)
    peers = [await join(endpoint, id) for id in ("0", "1", None)]
    await server.send(Message(0, "hi", "HI"), ["*"], ["1"])
    assert [await peer.received("HI") for peer in peers] == [["hi"], [], ["hi"]]


async def test_where_authentication_is_required_the_anonymous_receive_nothing(
    serving: Serving, join: Joining
) -> None:
    server = answering(authentication={"required": True})
    endpoint = await serving(server)
    peers = [await join(endpoint, id) for id in ("0", None)]
    await server.send(Message(0, "hi", "HI"))
    assert [await peer.received("HI") for peer in peers] == [["hi"], []]


async def test_every_device_of_an_id_receives_once(serving: Serving, join: Joining) -> None:
    server = answering()
    endpoint = await serving(server)
    peers = [await join(endpoint, "0") for _ in range(3)]
    receipt = await server.send(Message(0, "hi", "HI"), ["0", "0"])
    assert [await peer.received("HI") for peer in peers] == [["hi"]] * 3
    assert receipt.deliveries == {"0": Delivery(False, 3, None)}


async def test_a_device_that_left_counts_no_more(serving: Serving, join: Joining) -> None:
    server = answering()
    endpoint = await serving(server)
    phone, laptop = [await join(endpoint, "0") for _ in range(2)]
    await phone.socket.close()
    while (await server.presence.online(["0"]))["0"] != 1:
        await asyncio.sleep(0)
    await server.send(Message(0, "hi", "HI"), ["0"])
    assert await laptop.received("HI") == ["hi"]
    await laptop.socket.close()
    while (await server.presence.online(["0"]))["0"]:
        await asyncio.sleep(0)


async def test_the_receipt_says_who_is_offline(serving: Serving, join: Joining) -> None:
    server = answering()
    await serving(server)
    receipt = await server.send(Message(), ["absent"])
    assert receipt.deliveries == {"absent": Delivery(False, 0, "offline")}
    assert receipt.nodes == 0


async def test_disconnect_client_closes_every_device_with_1000(serving: Serving, join: Joining) -> None:
    server = answering()
    endpoint = await serving(server)
    phone, laptop, other = [await join(endpoint, id) for id in ("0", "0", "1")]
    await server.send(DispatchEvent("DISCONNECT_CLIENT"), ["0"])
    assert [await phone.closed(), await laptop.closed()] == [1000, 1000]
    assert await other.received("X") == []


async def test_an_event_needs_named_recipients(serving: Serving) -> None:
    server = answering()
    await serving(server)
    with pytest.raises(InvalidRecipients, match="DISCONNECT_CLIENT needs them"):
        await server.send(DispatchEvent("DISCONNECT_CLIENT"))


async def test_a_client_that_leaves_while_it_authenticates_leaves_no_ghost(
    serving: Serving, join: Joining
) -> None:
    server = Server()
    begun, ended, answer = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @server.authenticator
    async def slowly(data: Any, connection: Connection) -> User:
        begun.set()
        while connection.is_open:
            await asyncio.sleep(0)
        ended.set()
        await answer.wait()
        return User("ghost")

    peer = await join(await serving(server))
    await peer.send(op=2)
    await begun.wait()
    await peer.socket.close()
    await ended.wait()
    answer.set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert await server.presence.online(["ghost"]) == {"ghost": 0}


async def test_messages_during_authentication_follow_the_acknowledgement(
    serving: Serving, join: Joining
) -> None:
    class SlowBackend(MemoryBackend):
        async def attach(self, id: str, sockets: int, start: Start | None = None) -> Page | None:
            page = await super().attach(id, sockets, start)
            await self.dispatch([envelope])
            for _ in range(10):
                await asyncio.sleep(0)
            return page

    envelope = prepare(Message(0, "early", "EARLY"), ["1"])
    server = Server(SlowBackend())
    server.authenticator(lambda data, connection: User("1"))
    peer = await join(await serving(server))
    await peer.send(op=2)
    await peer.until(t="EARLY")
    assert [frame["op"] for frame in peer.frames] == [10, 22, 0]


async def test_two_nodes_of_one_hub_form_a_cluster(serving: Serving, join: Joining) -> None:
    hub = MemoryHub()
    first, second = (answering_on(MemoryBackend(hub)) for _ in range(2))
    here, there = await join(await serving(first), "0"), await join(await serving(second), "1")
    receipt = await first.send(Message(0, "hi", "HI"), ["0", "1"])
    assert [await here.received("HI"), await there.received("HI")] == [["hi"], ["hi"]]
    assert receipt.nodes == 2


async def test_namespaces_never_meet(serving: Serving, join: Joining) -> None:
    hub = MemoryHub()
    first = answering_on(MemoryBackend(hub, namespace="a"))
    second = answering_on(MemoryBackend(hub, namespace="b"))
    here, there = await join(await serving(first), "0"), await join(await serving(second), "0")
    await first.send(Message(0, "hi", "HI"), ["0"])
    await first.send(Message(0, "all", "HI"))
    assert [await here.received("HI"), await there.received("HI")] == [["hi", "all"], []]


async def test_a_server_that_does_not_run_cannot_send() -> None:
    with pytest.raises(MesaError, match="the server is not running"):
        await Server().send(Message())


def answering_on(backend: MemoryBackend) -> Server:
    server = Server(backend)
    server.authenticator(lambda data, connection: User(data["id"]))

    @server.on_message("PING")
    async def pong(message: Message, connection: Connection) -> None:
        connection.send(Message(0, {}, "PONG"))

    return server
