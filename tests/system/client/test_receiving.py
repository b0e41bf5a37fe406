"""What happens to what a client receives."""

import asyncio
import logging

import pytest

from mesa_ws.client import Client, ClientLimits
from mesa_ws.errors import ConnectionClosed
from mesa_ws.messages.message import Message
from mesa_ws.settings import Heartbeat, Keepalive
from mesa_ws.transports.run import Endpoint, Server, serve

from .conftest import meet
from .scripted import LIMIT, ScriptedServer, Visitor, message


async def flood(guest: Visitor) -> tuple[int, "asyncio.Task[None]"]:
    """Dispatch until the client reads no more; return how many it took."""
    for number in range(1_000):
        sending = asyncio.create_task(guest.dispatch(str(number), "x" * 100_000))
        done, _ = await asyncio.wait({sending}, timeout=0.3)
        if not done:
            return number, sending
    raise AssertionError("nothing holds the server back")


async def test_iterating_yields_messages_in_order(server: Server, endpoint: Endpoint) -> None:
    async with Client(endpoint.url) as client:
        for number in range(3):
            await server.send(Message(0, {"n": number}, "T"))
        received = []
        async for each in client:
            received.append(each)
            if len(received) == 3:
                break
    assert received == [Message(0, {"n": 0}, "T"), Message(0, {"n": 1}, "T"), Message(0, {"n": 2}, "T")]


async def test_closing_ends_the_iteration(endpoint: Endpoint) -> None:
    async def collect(client: Client) -> list[Message]:
        return [each async for each in client]

    client = Client(endpoint.url)
    await client.connect()
    collecting = asyncio.create_task(collect(client))
    await client.send(message("ONE"))
    await asyncio.sleep(0)
    async with asyncio.timeout(LIMIT):
        await client.aclose()
        await collecting


async def test_closing_drops_what_was_not_handled(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client)
    await guest.dispatch("FIRST")
    await guest.dispatch("SECOND")
    await anext(client)
    await client.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(client)


async def test_the_final_close_comes_after_what_was_received(scripted: ScriptedServer) -> None:
    client = scripted.client(reconnect=False)
    guest = await meet(scripted, client)
    await guest.dispatch("FIRST")
    await guest.dispatch("SECOND")
    await guest.close(4242, "enough")
    assert [(await anext(client)).type, (await anext(client)).type] == ["FIRST", "SECOND"]
    with pytest.raises(ConnectionClosed) as raised:
        await anext(client)
    assert (raised.value.code, raised.value.reason) == (4242, "enough")


async def test_the_iteration_goes_on_over_a_reconnection(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client)
    await guest.dispatch("FIRST")
    await guest.close(1001)
    await (await scripted.guest()).dispatch("SECOND")
    assert [(await anext(client)).type, (await anext(client)).type] == ["FIRST", "SECOND"]


async def test_cancelling_loses_no_message(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client)
    waiting = asyncio.ensure_future(anext(client))
    await asyncio.sleep(0)
    await guest.dispatch("KEPT")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await anext(client)).type == "KEPT"


async def test_two_iterations_share_the_messages(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client)
    both = asyncio.gather(anext(client), anext(client))
    await asyncio.sleep(0)
    await guest.dispatch("FIRST")
    await guest.dispatch("SECOND")
    assert {each.type for each in await both} == {"FIRST", "SECOND"}


async def test_a_slow_application_makes_the_client_stop_reading(scripted: ScriptedServer) -> None:
    client = scripted.client(ClientLimits(max_queued=4))
    guest = await meet(scripted, client)
    taken, sending = await flood(guest)
    received = [(await anext(client)).type for _ in range(taken + 1)]
    await sending
    assert received == [str(number) for number in range(taken + 1)]


async def test_a_slow_application_does_not_blame_the_server(scripted: ScriptedServer) -> None:
    client = scripted.client(ClientLimits(max_queued=4), keepalive=Keepalive(interval=0.1, timeout=0.1))
    guest = await meet(scripted, client)
    taken, sending = await flood(guest)  # which waits for longer than the server may be silent
    assert client.is_connected
    for _ in range(taken + 1):
        await anext(client)
    await sending
    await client.send(message("STILL HERE"))
    assert await guest.types(1) == ["STILL HERE"]


async def test_a_server_that_dies_after_a_pause_is_noticed(scripted: ScriptedServer) -> None:
    client = scripted.client(ClientLimits(max_queued=4), keepalive=Keepalive(interval=0.1, timeout=0.1))
    guest = await meet(scripted, client)
    taken, sending = await flood(guest)
    for _ in range(taken + 1):
        await anext(client)
    await sending
    guest.socket.transport.pause_reading()
    await scripted.guest()


async def test_the_next_connection_is_not_read_either_while_the_application_is_behind(
    scripted: ScriptedServer,
) -> None:
    client = scripted.client(ClientLimits(max_queued=1))
    guest = await meet(scripted, client)
    await guest.dispatch("FIRST")
    await guest.close(1001)
    second = await scripted.guest()
    taken, sending = await flood(second)
    assert (await anext(client)).type == "FIRST"
    assert [(await anext(client)).type for _ in range(taken + 1)] == [str(each) for each in range(taken + 1)]
    await sending


async def test_a_flood_does_not_stop_the_next_connection_from_opening(scripted: ScriptedServer) -> None:
    client = scripted.client(ClientLimits(max_queued=1))
    guest = await meet(scripted, client)
    await guest.dispatch("FIRST")
    await guest.close(1001)
    second = await scripted.guest()
    await second.dispatch("SECOND")
    await client.send(message("ANSWER"))
    assert await second.types(1) == ["ANSWER"]
    assert [(await anext(client)).type, (await anext(client)).type] == ["FIRST", "SECOND"]


async def test_closing_works_while_reading_is_paused(scripted: ScriptedServer) -> None:
    client = scripted.client(ClientLimits(max_queued=1, close_timeout=60))
    guest = await meet(scripted, client)
    _, sending = await flood(guest)
    closing = asyncio.create_task(client.aclose())
    assert await guest.closed() == (1000, "")
    async with asyncio.timeout(LIMIT):
        await asyncio.gather(closing, sending, return_exceptions=True)


async def test_heartbeats_are_answered_while_nobody_takes_messages(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client)
    await guest.dispatch("WAITS")
    await guest.send(op=1, d={})
    await guest.send(op=1, d={"tries": 1, "max": 3})
    assert [await guest.receive(), await guest.receive()] == [{"op": 11, "d": {}}] * 2


async def test_a_server_with_heartbeats_keeps_an_idle_client() -> None:
    server = Server(heartbeat=Heartbeat(enabled=True, interval=0.02, max_attempts=1))
    async with serve(server) as endpoint, Client(endpoint.url, reconnect=False) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await anext(client)
        assert client.is_connected


async def test_a_second_greeting_changes_nothing(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client, c_heartbeat_interval=1000)
    await guest.greet(c_heartbeat_interval=2000)
    await guest.dispatch("AFTER")
    await anext(client)
    await client.send(message("ANSWER"))
    assert await guest.types(1) == ["ANSWER"]
    assert client.hello is not None
    assert client.hello.heartbeat_interval == 1


async def test_a_ping_is_answered_with_its_payload(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client)
    async with asyncio.timeout(LIMIT):
        await (await guest.socket.ping(b"payload"))


@pytest.mark.parametrize("garbage", ["not json", "null", "[1]", '{"op":"0"}', '{"op":-1}', "[" * 200_000])
async def test_what_is_no_frame_of_the_protocol_is_ignored(
    scripted: ScriptedServer, garbage: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = scripted.client()
    guest = await meet(scripted, client)
    with caplog.at_level(logging.WARNING, "mesa_ws.client"):
        await guest.socket.send(garbage)
        await guest.dispatch("AFTER")
        assert (await anext(client)).type == "AFTER"
    assert "ignored a message that is not a frame of the protocol" in caplog.text


async def test_the_version_is_named_where_the_server_asks_for_it(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client, rules=["enforce_equal_versions"])
    assert await guest.receive() == {"op": 0, "d": {"v": "1.5.8"}, "t": "CLIENT_VERSION"}
