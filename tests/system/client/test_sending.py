"""What happens to what a client sends."""

import asyncio
import logging
from typing import Any

import pytest

from mesa_ws.client import Client, ClientLimits, Reconnection
from mesa_ws.errors import ConnectionClosed, InvalidMessage, QueueFull
from mesa_ws.messages.message import Message
from mesa_ws.transports.run import Endpoint

from .conftest import meet, meet_user
from .scripted import LIMIT, ScriptedServer, Visitor, message

BIG = "x" * 100_000
LATER = Reconnection(interval=60)


async def lose(client: Client, guest: Visitor) -> None:
    """Cut a client's connection, and wait until it knows."""
    away = asyncio.Event()
    client.on_disconnected(lambda code, reason, will_reconnect: away.set())
    guest.cut()
    async with asyncio.timeout(LIMIT):
        await away.wait()


async def congest(client: Client) -> tuple[int, "asyncio.Task[None]"]:
    """Send to a server that does not read, until a call waits; return how many did not."""
    for number in range(1_000):
        sending = asyncio.create_task(client.send(message(str(number), BIG)))
        done, _ = await asyncio.wait({sending}, timeout=0.2)
        if not done:
            return number, sending
    raise AssertionError("nothing holds the client back")


async def test_messages_arrive_in_the_order_of_the_calls(endpoint: Endpoint) -> None:
    async with Client(endpoint.url) as client:
        await asyncio.gather(*(client.send(message("N", number)) for number in range(100)))
        assert [(await anext(client)).data for _ in range(100)] == list(range(100))


async def test_what_is_sent_right_before_closing_arrives(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client)
    await client.send(message("LAST", BIG))
    closing = asyncio.create_task(client.aclose())
    assert await guest.types(1) == ["LAST"]
    await guest.closed()
    await closing


@pytest.mark.parametrize(
    "wrong",
    [
        {"op": 0},
        "text",
        None,
        Message(2, {"id": "1"}),
        Message(0, object()),
        Message(0, {(1, 2): 3}),
        Message(0, [{1: "a", "1": "b"}]),
    ],
)
async def test_what_is_no_message_is_refused(endpoint: Endpoint, wrong: Any) -> None:
    async with Client(endpoint.url) as client:
        with pytest.raises(InvalidMessage):
            await client.send(wrong)


async def test_messages_wait_while_the_client_is_away(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client)
    await lose(client, guest)
    await client.send(message("FIRST"))
    await client.send(message("SECOND"))
    second = await scripted.guest()
    assert await second.types(2) == ["FIRST", "SECOND"]
    await client.send(message("THIRD"))
    assert await second.types(1) == ["THIRD"]


async def test_more_than_may_wait_is_an_error(scripted: ScriptedServer) -> None:
    client = scripted.client(queue_size=2, reconnect=LATER)
    await lose(client, await meet(scripted, client))
    await client.send(message("FIRST"))
    await client.send(message("SECOND"))
    with pytest.raises(QueueFull, match="the client is away, and 2 messages wait already"):
        await client.send(message("THIRD"))


async def test_waiting_messages_survive_a_connection_without_authentication(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet_user(scripted, client)
    await lose(client, guest)
    await client.send(message("KEPT"))
    second = await scripted.guest()
    await second.authentication()
    second.cut()
    third = await scripted.guest()
    await third.welcome()
    assert await third.types(1) == ["KEPT"]


async def test_messages_that_were_never_sent_are_reported(
    scripted: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    client = scripted.client(reconnect=LATER)
    await lose(client, await meet(scripted, client))
    await client.send(message("FIRST", {"secret": 1}))
    with caplog.at_level(logging.WARNING, "mesa_ws.client"):
        await client.aclose()
    assert caplog.messages == ["1 messages were never sent, because the client has ended"]


async def test_sending_after_closing_is_an_error(endpoint: Endpoint) -> None:
    async with Client(endpoint.url) as client:
        pass
    with pytest.raises(ConnectionClosed, match="closed by this client"):
        await client.send(message("LATE"))


async def test_sending_after_the_final_close_is_an_error(scripted: ScriptedServer) -> None:
    client = scripted.client(reconnect=False)
    guest = await meet(scripted, client)
    await guest.close(1001, "stopping")
    with pytest.raises(ConnectionClosed, match="1001: stopping"):
        await client.wait_closed()
    with pytest.raises(ConnectionClosed, match="1001: stopping"):
        await client.send(message("LATE"))


async def test_sending_after_a_final_close_frame_is_an_error_at_once(scripted: ScriptedServer) -> None:
    client = scripted.client(reconnect=False)
    guest = await meet(scripted, client)
    guest.write(b"\x88\x02" + (1001).to_bytes(2))  # and the TCP connection stays open
    async with asyncio.timeout(LIMIT):
        while client.is_connected:
            await asyncio.sleep(0.001)
    with pytest.raises(ConnectionClosed, match="1001"):
        await client.send(message("LATE"))


async def test_sending_after_a_close_frame_waits_for_the_next_connection(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client)
    guest.write(b"\x88\x02" + (1001).to_bytes(2))
    async with asyncio.timeout(LIMIT):
        while client.is_connected:
            await asyncio.sleep(0.001)
    await client.send(message("KEPT"))
    assert await (await scripted.guest()).types(1) == ["KEPT"]


async def test_a_server_that_does_not_read_holds_the_sender_back(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client)
    sent, sending = await congest(client)
    assert await guest.types(sent + 1) == [str(number) for number in range(sent + 1)]
    await sending


async def test_senders_go_on_in_order(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client)
    sent, first = await congest(client)
    second = asyncio.create_task(client.send(message("SECOND")))
    third = asyncio.create_task(client.send(message("THIRD")))
    assert (await guest.types(sent + 3))[-2:] == ["SECOND", "THIRD"]
    await asyncio.gather(first, second, third)


async def test_a_cancelled_call_has_sent_nothing(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client)
    sent, waiting = await congest(client)
    next_one = asyncio.create_task(client.send(message("NEXT")))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await guest.types(sent + 1))[-1] == "NEXT"
    await next_one


async def test_a_held_back_message_goes_to_the_next_connection(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client)
    sent, sending = await congest(client)
    guest.cut()
    second = await scripted.guest()
    assert await second.types(1) == [str(sent)]
    await sending


async def test_closing_frees_a_sender_that_is_held_back(scripted: ScriptedServer) -> None:
    client = scripted.client(ClientLimits(close_timeout=60))
    guest = await meet(scripted, client)
    _, sending = await congest(client)
    closing = asyncio.create_task(client.aclose())
    with pytest.raises(ConnectionClosed):
        async with asyncio.timeout(LIMIT):
            await sending
    guest.cut()
    await closing


async def test_what_waited_is_sent_no_faster_than_the_server_reads(scripted: ScriptedServer) -> None:
    client = scripted.client()
    await lose(client, await meet(scripted, client))
    for number in range(200):
        await client.send(message(str(number), BIG))
    second = await scripted.guest()
    late = asyncio.create_task(client.send(message("LATE")))
    assert await second.types(201) == [*(str(number) for number in range(200)), "LATE"]
    await late
